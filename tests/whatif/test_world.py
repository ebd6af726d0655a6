"""Whole runs: what must hold whoever routes and whatever goes wrong."""

from collections import Counter

import pytest

from routing.whatif.balancers import BALANCERS
from routing.whatif.calls import End
from routing.whatif.faults import Fault, Pattern
from routing.whatif.figures import figures
from routing.whatif.simulation import Scenario, router_of, simulate
from routing.whatif.world import Rules, World
from tests.whatif.cast import STEADY, asked, plain, scenario

ROUTINGS = ["", *BALANCERS]
TROUBLE = Pattern(crash_every_s=60.0, crash_s=15.0, slow_every_s=40.0, slow_s=20.0)


def lives(run):
    return [(call.end, call.node_id, call.attempts, call.sent_at, call.begun_at, call.ended_at) for call in run.calls]


@pytest.mark.parametrize("routing", ROUTINGS)
def test_every_request_ends_once_and_nothing_is_overbooked(routing):
    """Step by step, no runner has more than its slots and no node more than its memory, with crashes and leavers."""
    told = scenario(rate=2.0, pattern=TROUBLE, patience=40.0, rules=Rules(errors=0.05))
    world = World(told.machines, told.asked, router_of(told, routing, 1), 1, told.rules, told.faults, told.preload)
    while world.open:
        assert world.timeline.step()
        for node in world.nodes.values():
            counts = Counter(work.model.weights for work in node.running)
            assert node.used <= node.machine.memory
            assert len(node.runners) <= node.machine.most_loaded
            for weights, runner in node.runners.items():
                assert runner.running == counts[weights] <= runner.model.slots
    ends = Counter(call.end for call in world.calls)
    assert ends.total() == len(told.asked)
    assert ends[End.SERVED] > 0
    assert ends[End.LEFT] > 0


@pytest.mark.parametrize("routing", ["", "random"])
def test_the_same_seed_gives_the_same_run(routing):
    """Two runs of one seed are equal to the last moment; another seed gives another run."""
    told = scenario(pattern=TROUBLE, rules=Rules(errors=0.02))
    first, second, other = (lives(simulate(told, routing, seed)) for seed in (3, 3, 4))
    assert first == second != other


def test_a_requests_noise_is_the_same_for_all_routers():
    """What a request weighs beyond its tokens does not depend on who routes it."""
    told = scenario()
    assert len({tuple(call.noise for call in simulate(told, routing, 3).calls) for routing in ROUTINGS}) == 1


@pytest.mark.parametrize("routing", ["", "random"])
def test_a_failed_attempt_goes_elsewhere(routing):
    """A node that dies with work on it costs no request, while others have the model."""
    told = scenario(rate=0.8)
    dying = Scenario(told.machines, told.asked, [Fault(1, 30.0, 60.0)], preload=told.preload)
    run = simulate(dying, routing, 1)
    assert all(call.served for call in run.calls)
    assert max(call.attempts for call in run.calls) > 1
    assert not any(call.node_id == 1 and 33.0 < call.sent_at < 60.0 for call in run.calls)


@pytest.mark.parametrize("routing", ["", "random"])
def test_who_gives_up_leaves_no_trace(routing):
    """A client that leaves frees its slot for the one behind, and counts as not served."""
    calls = [asked(0, 0.0, 100.0, patience=5.0), asked(1, 1.0, 1.0)]
    run = simulate(Scenario([plain()], calls, rules=STEADY, preload={1: ["m"]}), routing, 1)
    assert [call.end for call in run.calls] == [End.LEFT, End.SERVED]
    assert run.calls[1].ended_at < 7.0
    assert run.calls[0].total_s == 5.0


def test_the_dispatcher_holds_back_what_cannot_start():
    """With one slot the second request waits in the gateway, not in the node, and its wait is told as such."""
    calls = [asked(0, 0.0, 4.0), asked(1, 1.0, 1.0)]
    run = simulate(Scenario([plain()], calls, rules=STEADY, preload={1: ["m"]}), "", 1)
    assert 2.9 < run.calls[1].queue_s < 3.6
    assert figures(run.calls).queue.mean == run.calls[1].queue_s / 2


def test_the_dispatcher_beats_chance():
    """On a mixed fleet at a middling load the mean is far below that of random, for the same requests and faults."""
    told = scenario(rate=1.5, horizon=240.0)
    ours, chance = (figures(simulate(told, routing, 2).calls).total.mean for routing in ("", "random"))
    assert ours < 0.6 * chance


def test_progress_is_told():
    """The part that has ended is told, up to all of it."""
    told: list[float] = []
    simulate(scenario(), "random", 1, told.append)
    assert told == sorted(told)
    assert told[-1] > 0.95
