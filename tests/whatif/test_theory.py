"""The model against what queueing theory says, within what a few thousand requests can tell."""

import math

import pytest

from routing.whatif.figures import figures
from routing.whatif.simulation import Scenario, simulate
from tests.whatif.cast import STEADY, plain, poisson

COUNT = 6000


def mean(machine, rate, seconds):
    run = simulate(
        Scenario([machine], poisson(rate, COUNT, seconds), rules=STEADY, preload={1: ["m"]}), "least_connections", 1
    )
    return figures(run.calls).total.mean


def exponential(rng):
    return rng.expovariate(1.0)


def constant(rng):
    return 1.0


def test_one_slot_is_a_queue_with_one_server():
    """M/M/1: the mean time in the system is 1 / (mu - lambda)."""
    assert mean(plain(most_queued=10**6), 0.6, exponential) == pytest.approx(1.0 / 0.4, rel=0.1)


def test_constant_work_waits_half_as_long():
    """M/D/1: the wait is rho / (2 (1 - rho)) services, half of what exponential work waits."""
    assert mean(plain(most_queued=10**6), 0.6, constant) == pytest.approx(1.0 + 0.6 / 0.8, rel=0.06)


def test_slots_that_do_not_slow_each_other_are_servers():
    """M/M/c by Erlang's formula, for four slots at alpha 1."""
    offered, slots = 3.0, 4
    last = offered**slots / math.factorial(slots) * slots / (slots - offered)
    wait = last / (sum(offered**k / math.factorial(k) for k in range(slots)) + last) / (slots - offered)
    assert mean(plain(slots=slots, most_queued=10**6), offered, exponential) == pytest.approx(1.0 + wait, rel=0.1)


def test_slots_that_share_one_speed_are_processor_sharing():
    """M/G/1-PS at alpha 0: the mean is 1 / (mu - lambda) whatever the work's distribution."""
    shared = plain(slots=10**6, alpha=0.0, most_queued=10**6)
    for seconds in (exponential, constant):
        assert mean(shared, 0.5, seconds) == pytest.approx(2.0, rel=0.1)
