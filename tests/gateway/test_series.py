"""The last hour in steps, and the quantiles that charts show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.core.records import Outcome, RequestRecord
from routing.gateway.series import STEP_S, STEPS, Series, Times

NOW = 1_800_000_000.0


def ended(series, at, outcome=Outcome.SERVED, ms=100.0, tokens=15, weight=1):
    series.count(at, outcome, tokens, (ms / 2, ms, 0.0), weight)


def test_what_ended_in_a_step_is_a_point():
    """Fifteen requests of fifteen tokens in fifteen seconds are one a second, at 15 tokens a second."""
    series = Series()
    for second in range(STEP_S):
        ended(series, NOW + second)
    point = series.points(NOW + STEP_S)[int(NOW) // STEP_S]
    assert point[:4] == [int(NOW) + STEP_S, 1.0, 15.0, [0, 0, 0]]
    assert point[5][0] == pytest.approx(100, rel=0.1)


def test_errors_are_told_by_kind():
    """Failed, expired and refused requests are counted apart; one that was cancelled is no error."""
    series = Series()
    for outcome in Outcome:
        ended(series, NOW, outcome)
    assert series.points(NOW + STEP_S)[int(NOW) // STEP_S][3] == [1, 1, 1]


def test_the_last_point_is_the_last_fifteen_seconds():
    """A point that is under way neither starts from nothing nor counts more than fifteen seconds."""
    series = Series()
    for second in range(2 * STEP_S):
        ended(series, NOW + second)
    assert series.points(NOW + 20)[int(NOW + 20) // STEP_S][1] == pytest.approx(25 / STEP_S, abs=0.1)
    assert series.recent(NOW + 2 * STEP_S).requests == 15


def test_an_hour_is_kept():
    """What ended more than an hour ago is gone, and what comes too late to be kept is not counted."""
    series = Series()
    ended(series, NOW)
    later = NOW + STEPS * STEP_S
    assert series.points(later) == {}
    ended(series, later)
    ended(series, NOW)
    assert len(series.points(later + 3 * STEP_S)) == 1


def test_one_of_many_counts_for_those_beside_it():
    """A request with a weight stands for as many."""
    series = Series()
    ended(series, NOW, weight=30)
    assert series.points(NOW + STEP_S)[int(NOW) // STEP_S][1] == 2.0


@given(st.lists(st.floats(1.5, 500_000), min_size=1, max_size=200))
def test_quantiles_are_right_within_a_tenth(values):
    """Whatever the times, the median and the 99th are those of the sorted list, give or take a bucket."""
    times = Times()
    for value in values:
        times.take(value)
    told = times.quantiles()
    for share, value in zip((0.5, 0.95, 0.99), told, strict=True):
        exact = sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]
        assert value == pytest.approx(exact, rel=0.2)


def test_no_times_have_no_quantiles():
    """An empty histogram tells nothing."""
    assert Times().quantiles() == [None, None, None]


def test_a_clock_that_was_set_back_is_followed():
    """What ends from then on is counted at once, and what had not come yet by the new time is forgotten."""
    series = Series()
    for wall in (NOW, NOW - 3 * 3600, NOW - 3 * 3600 + STEP_S):
        series.take(record(wall))
    now = NOW - 3 * 3600 + 2 * STEP_S
    told = {number: point[1] for number, point in series.points(now).items() if number < int(now) // STEP_S}
    assert list(told.values()) == [pytest.approx(1 / STEP_S, abs=0.01)] * 2
    assert series.recent(now).requests == 1
    assert series.newest == int(now) // STEP_S - 1


def test_a_moment_between_two_steps_is_no_jump():
    """Requests end side by side, and are counted in any order."""
    series = Series()
    for wall in (NOW + STEP_S, NOW + STEP_S - 0.01, NOW + STEP_S):
        series.take(record(wall))
    assert series.recent(NOW + STEP_S).requests == 3


def record(wall):
    """A request that ended at this moment after a tenth of a second."""
    return RequestRecord(
        "r", wall - 0.1, "/api/chat", "m", "chat", "simple", 5, True, Outcome.SERVED, 200, total_ms=100.0
    )
