"""What the chaos suite says of answers that are cut, doubled, empty or wrong."""

from collections import Counter
from random import Random

import pytest

from benchmarks.chaos_faults import FAULTS, plan
from benchmarks.chaos_load import KINDS, End, Said

NATIVE, WHOLE, EVENTS, V1, EMBED = KINDS
EXPECTED = "To be"


def line(text: str, *, done: bool = False) -> bytes:
    return b'{"message":{"content":"%b"},"done":%b}\n' % (text.encode(), b"true" if done else b"false")


def event(text: str) -> bytes:
    return b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % text.encode()


DONE, ERROR = line("", done=True), b'{"error":"it died"}\n'


@pytest.mark.parametrize(
    ("kind", "status", "data", "clean", "end"),
    [
        (NATIVE, 200, line("To") + line(" be") + DONE, True, End.SERVED),
        (NATIVE, 200, line("To") + line("To") + line(" be") + DONE, True, End.WRONG),
        (NATIVE, 200, line("To") + DONE, True, End.WRONG),
        (NATIVE, 200, line("To") + line("To"), False, End.WRONG),
        (NATIVE, 200, line("To"), True, End.LOST),
        (NATIVE, 200, b"", True, End.LOST),
        (NATIVE, 200, line("To") + line(" be")[:9], False, End.CUT),
        (NATIVE, 200, line("To") + ERROR, True, End.ERROR),
        (NATIVE, 0, b"", False, End.LOST),
        (NATIVE, 503, ERROR, True, End.ERROR),
        (WHOLE, 200, line(EXPECTED, done=True), True, End.SERVED),
        (WHOLE, 200, line(EXPECTED, done=True)[:9], False, End.CUT),
        (WHOLE, 200, b"", True, End.LOST),
        (EVENTS, 200, b": waiting\n\n" + event("To") + event(" be") + b"data: [DONE]\n\n", True, End.SERVED),
        (EVENTS, 200, event("To"), False, End.ERROR),
        (EVENTS, 200, event("To") + event(""), True, End.LOST),
        (V1, 200, b'{"choices":[{"message":{"content":"To be"}}]}', True, End.SERVED),
        (EMBED, 200, b'{"embeddings":[[1.0]]}', True, End.WRONG),
        (EMBED, 200, b"", True, End.LOST),
    ],
)
def test_an_end_is_called_by_its_name(kind, status, data, clean, end):
    """Only the whole text with a proper end is served; what is missing or doubled never is."""
    said = Said(status=status, clean=clean)
    said.read(kind, data)
    assert said.verdict(kind, EXPECTED) is end


def test_a_continued_stream_tells_it():
    """The routing member of the final object says that the stream went on elsewhere."""
    said = Said(status=200, clean=True)
    said.read(NATIVE, line(EXPECTED) + b'{"done":true,"_sollol_routing":{"resumed":true}}\n')
    assert said.verdict(NATIVE, EXPECTED) is End.CONTINUED


def test_faults_have_equal_shares():
    """Each strikes once in every round, in an order that the seed decides."""
    strikes = plan(Random(1), 3, 3)
    assert set(Counter(strike.fault for strike in strikes).values()) == {3}
    assert strikes == plan(Random(1), 3, 3)
    assert strikes != plan(Random(2), 3, 3)
    assert {strike.fault for strike in strikes[: len(FAULTS)]} == set(FAULTS)
