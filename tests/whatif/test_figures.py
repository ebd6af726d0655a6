"""What is told of runs."""

import pytest

from routing.whatif.calls import Call, End
from routing.whatif.figures import jain, node_shares, spread, worst_overtake
from tests.whatif.cast import asked


def call(number, at, sent_at, node_id=1):
    made = Call(asked(number, at, 1.0))
    made.sent_at, made.node_id, made.ended_at, made.end = sent_at, node_id, sent_at + 1.0, End.SERVED
    return made


def test_a_spread():
    """Mean and quantiles of some times; of none all is zero."""
    told = spread(float(value) for value in range(101))
    assert (told.count, told.mean, told.p50, told.p95, told.p99) == (101, 50.0, 50.0, 95.0, 99.0)
    assert spread([]).mean == 0.0


def test_jains_index():
    """Equal services are fair; one who gets all of four is a quarter."""
    assert jain([2.0, 2.0]) == pytest.approx(1.0)
    assert jain([4.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert jain([0.0, 0.0]) == 0.0


def test_the_worst_overtake():
    """Who came 8 s later and was sent first has overtaken by 8 s; in another lane it has not."""
    calls = [call(0, 0.0, 20.0), call(1, 5.0, 6.0), call(2, 8.0, 9.0), call(3, 21.0, 22.0)]
    assert worst_overtake(calls) == 8.0
    assert worst_overtake(calls, lane=lambda one: one.asked.number) == 0.0


def test_never_sent_is_overtaken_by_all():
    """A request that was never sent was overtaken by the last one that was."""
    assert worst_overtake([call(0, 0.0, -1.0), call(1, 30.0, 31.0)]) == 30.0


def test_shares_of_nodes():
    """Of four answered requests, three by one node."""
    calls = [call(number, 0.0, 1.0, node_id=1 if number else 2) for number in range(4)]
    assert node_shares(calls) == {1: 0.75, 2: 0.25}
