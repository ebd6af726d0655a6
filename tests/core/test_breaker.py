"""The breaker: it opens after failures, lets one probe through, and believes only that."""

from routing.core.breaker import Breaker, BreakerState


def opened() -> Breaker:
    breaker = Breaker()
    for _ in range(3):
        breaker.failure(object(), 0.0)
    return breaker


def test_three_failures_in_a_row_open_it():
    """A success in between starts the count anew."""
    breaker = Breaker()
    assert [breaker.failure(1, 0.0), breaker.failure(1, 0.0)] == [False, False]
    breaker.success(1)
    assert [breaker.failure(1, 0.0) for _ in range(3)] == [False, False, True]
    assert not breaker.allows(0.5)


def test_after_the_pause_one_probe_passes():
    """While the probe is under way nothing else does."""
    breaker = opened()
    assert breaker.allows(1.0)
    breaker.begin("probe", 1.0)
    assert breaker.state is BreakerState.HALF_OPEN
    assert not breaker.allows(100.0)


def test_only_the_probe_decides():
    """A late answer of an attempt from before changes nothing."""
    breaker = opened()
    breaker.begin("probe", 1.0)
    assert not breaker.success("old")
    assert not breaker.failure("old", 1.0)
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.success("probe")
    assert breaker.state is BreakerState.CLOSED


def test_the_pause_grows():
    """Each probe that fails doubles the pause."""
    breaker, now, pauses = opened(), 0.0, []
    for _ in range(7):
        pauses.append(breaker.open_until - now)
        now = breaker.open_until
        breaker.begin("probe", now)
        breaker.failure("probe", now)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0]


def test_a_probe_that_tells_nothing_gives_its_place_up():
    """A probe whose client left decides nothing; the next one may try."""
    breaker = opened()
    breaker.begin("probe", 1.0)
    breaker.neutral("probe")
    assert breaker.allows(1.0)


def test_a_good_look_lets_the_probe_through_at_once():
    """When the node is seen to answer, the pause is over."""
    breaker = opened()
    assert not breaker.allows(0.5)
    breaker.recovered(0.5)
    assert breaker.allows(0.5)


def test_first_bytes_do_not_excuse_answers_that_break_off():
    """Three streams in a row that begin well and break off open it, whatever their first bytes told."""
    breaker = Breaker()
    for attempt in "abc":
        assert not breaker.answered(attempt)
        breaker.failure(attempt, 0.0)
    assert breaker.state is BreakerState.OPEN


def test_a_probe_that_begins_to_answer_lets_others_pass():
    """Nobody waits for a long answer's end; if it breaks off after all, the pause is the next longer one."""
    breaker = opened()
    breaker.begin("probe", 1.0)
    assert breaker.answered("probe")
    assert breaker.allows(1.0)
    assert breaker.failure("probe", 2.0)
    assert breaker.open_until == 4.0


def test_an_answer_to_its_end_ends_the_probation():
    """After it three failures are needed again, and the first pause is the short one."""
    breaker = opened()
    breaker.begin("probe", 1.0)
    breaker.answered("probe")
    breaker.success("probe")
    assert [breaker.failure(object(), 2.0) for _ in range(3)] == [False, False, True]
    assert breaker.open_until == 3.0


def test_what_began_before_a_failure_does_not_have_it_forgiven():
    """A long answer that ends well tells how the node was when it began; one that began afterwards tells."""
    breaker = Breaker()
    breaker.failure(1, 10.0)
    breaker.failure(2, 11.0)
    breaker.success(3, 5.0)
    assert breaker.failure(4, 12.0)
    breaker = Breaker()
    breaker.failure(1, 10.0)
    breaker.failure(2, 11.0)
    breaker.success(3, 11.5)
    assert not breaker.failure(4, 12.0)
