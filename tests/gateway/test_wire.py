"""Bytes: streams cut anywhere, bodies read as Go reads them, names and numbers from the wire."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.core.requests import Api, Route
from routing.gateway.bodies import decode
from routing.gateway.exchange import Exchange
from routing.gateway.listings import lowest_version, merged_tags
from routing.gateway.relay import Relayed, relay_stream, whole_answer
from routing.upstream import wire
from routing.upstream.client import NodeFailed
from routing.upstream.wire import moment


class CutAnswer:
    """A node's answer that arrives in the given pieces."""

    def __init__(self, pieces):
        self.pieces = [piece for piece in pieces if piece]

    async def read(self):
        return self.pieces.pop(0) if self.pieces else b""


def pieces_of(data: bytes, cuts) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


async def relayed(data: bytes, cuts, api=Api.OLLAMA, member=b'{"host":"ant"}'):
    sent = []

    async def send(message):
        sent.append(message["body"])

    exchange = Exchange({"headers": [], "method": "POST"}, None, send)
    answer, seen = CutAnswer(pieces_of(data, cuts)), Relayed(api)
    await relay_stream(exchange, answer, await answer.read(), seen, lambda: member)
    return sent, seen


LINES = st.lists(
    st.binary(max_size=20).map(lambda junk: json.dumps({"response": junk.hex(), "done": False}).encode() + b"\n"),
    max_size=6,
)
CUTS = st.lists(st.integers(0, 10_000), max_size=8)
FINAL = b'{"response":"","done":true,"eval_count":3}\n'


@given(LINES, CUTS)
async def test_a_stream_cut_anywhere_comes_out_line_by_line(lines, cuts):
    """However the network cuts it: one write per object, every byte in its place, the routing member in the last."""
    sent, seen = await relayed(b"".join(lines) + FINAL, cuts)
    assert sent == [*lines, b'{"response":"","done":true,"eval_count":3,"_sollol_routing":{"host":"ant"}}\n']
    assert seen.done


@given(st.lists(st.text(max_size=10), max_size=6), CUTS)
async def test_events_cut_anywhere_come_out_event_by_event(texts, cuts):
    """The same for server-sent events, which are not touched at all."""
    events = [b"data: " + json.dumps({"choices": [{"delta": {"content": t}}]}).encode() + b"\n\n" for t in texts]
    events.append(b"data: [DONE]\n\n")
    sent, seen = await relayed(b"".join(events), cuts, Api.OPENAI)
    assert sent == events
    assert seen.done


async def test_done_inside_a_tool_argument_is_no_end():
    """`done` counts at the top level only."""
    line = b'{"message":{"tool_calls":[{"function":{"arguments":{"done":true}}}]},"done":false}\n'
    sent, seen = await relayed(line, [])
    assert sent == [line]
    assert not seen.done


async def test_what_has_no_separator_is_relayed_at_the_proper_end():
    """A last line without a newline is the node's word all the same."""
    sent, _ = await relayed(b'{"done":false}\n{"done":fal', [5])
    assert b"".join(sent) == b'{"done":false}\n{"done":fal'


async def test_an_error_line_is_noticed_and_relayed():
    """The engine's error passes unchanged and is remembered."""
    line = b'{"error":"an error was encountered while running the model"}\n'
    sent, seen = await relayed(b'{"done":false}\n' + line, [3])
    assert (sent[-1], seen.error, seen.died) == (line, line, False)


async def test_the_runners_death_is_a_failure_and_not_relayed():
    """Whoever asked the node decides what the client is told."""
    line = b'{"error":"model runner has unexpectedly stopped, this may be due to resource limitations"}\n'
    with pytest.raises(NodeFailed, match="runner died"):
        await relayed(b'{"done":false}\n' + line, [3])


def test_a_large_embedding_answer_is_read_from_its_tail():
    """Counts stand behind the vectors, which are not decoded for them."""
    vectors = [[0.5] * 768] * 20
    body = json.dumps({"model": "m", "embeddings": vectors, "total_duration": 5, "prompt_eval_count": 40}).encode()
    seen = Relayed(Api.OLLAMA)
    out = whole_answer(Route.EMBED, body, seen, lambda: b'{"host":"ant"}')
    assert seen.final["prompt_eval_count"] == 40
    assert json.loads(out) == json.loads(body) | {"_sollol_routing": {"host": "ant"}}


def test_a_member_is_spliced_into_an_empty_object_too():
    """No stray comma."""
    assert wire.spliced(b"{}", b"a", b"1") == b'{"a":1}'
    assert wire.spliced(b'{"b":2}\n', b"a", b"1") == b'{"b":2,"a":1}\n'


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": 1} trailing', {"a": 1}),
        (b' \n{"A": 1, "a": 2}', {"a": 2}),
        (b'{"a": "\xff"}', {"a": "\ufffd"}),
        (b'{"a": "\\ud800"}', {"a": "\ud800"}),
        (b"[1]", None),
        (b"", None),
        (b"{", None),
        (b"[" * 100_000, None),
    ],
)
def test_a_body_is_read_as_go_reads_it(body, value):
    """First value only, names in any case, the last of equals, broken UTF-8 replaced; None where it is no object."""
    assert decode(body) == value


@pytest.mark.parametrize(
    ("versions", "lowest"),
    [(["0.10.1", "0.9.12"], "0.9.12"), (["0.33.0", "0.33.0-rc2"], "0.33.0-rc2"), (["", "0.6.0"], "0.6.0"), ([], None)],
)
def test_the_lowest_version_is_found(versions, lowest):
    """By numbers, not by letters; a candidate comes before its release."""
    assert lowest_version(versions) == lowest


def test_the_newest_of_conflicting_rows_is_listed():
    """Two nodes may have different weights under one name."""
    old = {"name": "m:latest", "modified_at": "2026-01-01T00:00:00.123456789Z", "digest": "a"}
    new = {"name": "M:latest", "modified_at": "2026-02-01T00:00:00+02:00", "digest": "b"}
    assert merged_tags([[old], [new]]) == [new]


def test_a_moment_is_read_in_any_of_gos_forms():
    """Nine decimals, zones, and what is no time at all."""
    assert moment("1970-01-01T00:00:01.500000000Z") == 1.5
    assert moment("1970-01-01T02:00:01+02:00") == 1.0
    assert moment(None) == moment("soon") == 0.0


@pytest.mark.parametrize(("size", "billions"), [("8.0B", 8.0), ("137M", 0.137), ("", None), (5, None), ("many", None)])
def test_parameter_sizes_are_read(size, billions):
    """Ollama tells them as text."""
    assert wire.billions(size) == billions


def test_metrics_of_odd_types_teach_nothing():
    """Numbers that are none are not believed, and raise nothing."""
    assert wire.native_metrics({"eval_count": "3", "eval_duration": []}).output_tokens == 0


async def test_a_final_object_written_with_spaces_is_found_too():
    """Other servers that speak Ollama's protocol write their JSON with spaces."""
    sent, seen = await relayed(b'{"done": false}\n{"response": "", "done": true, "eval_count": 3}\n', [])
    assert sent[-1] == b'{"response": "", "done": true, "eval_count": 3,"_sollol_routing":{"host":"ant"}}\n'
    assert seen.final["eval_count"] == 3
