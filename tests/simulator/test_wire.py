"""JSON, durations and floats as Go reads and writes them."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.wire import BadBody, float32_list, go_json, parse_body, parse_keep_alive


def test_json_is_escaped_for_html():
    """Go escapes what could end a script element, and the two line separators."""
    assert go_json({"a": "<b>&\u2028é"}) == '{"a":"\\u003cb\\u003e\\u0026\\u2028é"}'.encode()


def test_field_names_match_whatever_their_case():
    """The last of several spellings wins, and null leaves the default."""
    assert parse_body(b'{"Model":"a","MODEL":"b","x":null}') == {"model": "b"}


def test_what_follows_the_first_value_is_ignored():
    """Only the first JSON value of a body is read."""
    assert parse_body(b' {"model":"a"} trailing garbage') == {"model": "a"}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "missing request body"),
        (b"  \n", "missing request body"),
        (b'{"a":', "unexpected EOF"),
        (b'{"a":"b', "unexpected EOF"),
        (b"hello", "invalid character 'h' looking for beginning of value"),
        (b"{a}", "invalid character 'a' looking for beginning of object key string"),
        (b'{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
        (b'{"a":[1 2]}', "invalid character '2' after array element"),
        (b'{"a" 1}', "invalid character '1' after object key"),
    ],
)
def test_bad_json_is_refused_in_the_words_of_go(body, text):
    """The texts are those of encoding/json."""
    with pytest.raises(BadBody) as refused:
        parse_body(body)
    assert refused.value.text == text


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0),
        ("0s", 0),
        ("0", 0),
        (0.5, 0.5),
        ("1h30m", 5400),
        ("5m0s", 300),
        ("1.5s", 1.5),
        ("100ms", 0.1),
        (-1, math.inf),
        ("-1m", math.inf),
        (None, None),
    ],
)
def test_keep_alive_spellings(value, seconds):
    """Numbers are seconds, strings are Go durations, and what is negative stays forever."""
    assert parse_keep_alive(value) == (seconds if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("300", 'time: missing unit in duration "300"'),
        ("5d", 'time: unknown unit "d" in duration "5d"'),
        ("soon", 'time: invalid duration "soon"'),
        ("", 'time: invalid duration ""'),
    ],
)
def test_bad_durations_are_refused_in_the_words_of_go(value, text):
    """The texts are those of time.ParseDuration."""
    with pytest.raises(BadBody) as refused:
        parse_keep_alive(value)
    assert refused.value.text == text


@given(st.lists(st.floats(-1, 1, width=32), max_size=8))
def test_floats_keep_their_32_bits(values):
    """The shortest text of a 32-bit float reads back as the same float."""
    text = float32_list(values).decode()
    read = [struct.unpack("<f", struct.pack("<f", float(part)))[0] for part in text[1:-1].split(",") if part]
    assert read == values
