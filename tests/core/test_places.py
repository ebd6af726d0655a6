"""Places: what is made ready for each node tells the same as a look at the node, whatever has changed since."""

from dataclasses import replace

import pytest

from routing.core.dispatcher import Verdict
from routing.core.families import Family
from routing.core.places import Place
from routing.core.snapshot import FleetSnapshot
from routing.core.state import Kept
from tests.core.cast import EMBED, GIB, LARGE, MODELS, SMALL, assign, fleet, node, request, submit, ticket
from tests.core.test_dispatcher import warm

#: What a place is asked for, beside the parts of the cost.
ASKED = ("usable", "ready", "spare", "warm", "joins", "victims", "running", "slots", "outdated")


def told(place):
    return {name: getattr(place, name) for name in (*ASKED, "factor", "constant", "per_output", "begins_at")}


def asked_for(dispatcher, name=SMALL, now=0.0, number=1):
    """The place of a node for plain requests, as the dispatcher uses it now; it stays the same object."""
    made = ticket(now, name=name)
    family = dispatcher.families.setdefault(made.request.key, Family(made.request.key))
    dispatcher.judge(made, now)
    [kind] = family.kinds.values()
    return kind.places[kind.numbers[number]]


def afresh(dispatcher, place, now=0.0):
    """The same place, made anew."""
    fastest, learner = dispatcher.strategies["fastest"], dispatcher.learner
    made = Place(place.node, place.model, fastest, learner, remote=place.remote, num_ctx=place.wanted)
    made.refresh(now)
    return made


def switching(memory=24):
    """One node on which the small and the large model do not fit together; the small one is loaded."""
    dispatcher = fleet(node(1, "ant", SMALL, LARGE, slots=2, vram_bytes=memory * GIB))
    warm(dispatcher, 1, SMALL)
    return dispatcher


def leased(dispatcher, now=0.0, **more):
    made = submit(dispatcher, now, **more)
    assign(dispatcher, now)
    return made


def breaker_opens(dispatcher):
    dispatcher.release(leased(dispatcher).lease, Verdict.UNREACHABLE, 0.0)


def breaker_closes(dispatcher):
    breaker_opens(dispatcher)
    asked_for(dispatcher)
    dispatcher.observe_reach(1, None, 0.0)
    made = leased(dispatcher)
    asked_for(dispatcher)
    dispatcher.release(made.lease, Verdict.SUCCESS, 0.0)


def probe_given_up(dispatcher):
    breaker_opens(dispatcher)
    dispatcher.observe_reach(1, None, 0.0)
    made = leased(dispatcher)
    asked_for(dispatcher)
    dispatcher.end(made, 0.0)


def denied(dispatcher):
    dispatcher.deny(dispatcher.submit(ticket(), 0.0), 0.0)


def answered(dispatcher):
    made = leased(dispatcher, name=LARGE)
    asked_for(dispatcher, LARGE)
    dispatcher.answered(made.lease, 0.0)


def far(dispatcher):
    for _ in range(6):
        dispatcher.nodes[1].observe_rtt(0.5)


def kept(dispatcher):
    """As after twice the patience."""
    dispatcher.nodes[1].kept = Kept(MODELS[LARGE].digest, None, frozenset({MODELS[SMALL].digest}))
    dispatcher.nodes[1].touch()


CHANGES = {
    "a lease is taken": leased,
    "a lease is denied": denied,
    "a lease ends": lambda dispatcher: dispatcher.end(leased(dispatcher), 0.0),
    "another model is being loaded": lambda dispatcher: leased(dispatcher, name=LARGE),
    "it is loaded": answered,
    "the breaker opens": breaker_opens,
    "the breaker closes": breaker_closes,
    "the probe is given up": probe_given_up,
    "the node goes": lambda dispatcher: dispatcher.observe_reach(1, "refused", 0.0, certain=True),
    "the models are unloaded": lambda dispatcher: dispatcher.observe_residents(1, []),
    "both models are loaded": lambda dispatcher: warm(dispatcher, 1, SMALL, LARGE),
    "an attempt fails": lambda dispatcher: dispatcher.nodes[1].count_failure(0.0),
    "the way is long": far,
    "room is kept": kept,
    "the operator changes it": lambda dispatcher: dispatcher.apply(
        FleetSnapshot(2, (replace(dispatcher.nodes[1].spec, slots=5, weight=2.0, vram_bytes=80 * GIB),))
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("name", [SMALL, LARGE])
def test_a_change_is_seen_at_once(change, name):
    """What was made ready before a change is made anew for the next request."""
    dispatcher = switching()
    asked_for(dispatcher, name)
    change(dispatcher)
    place = asked_for(dispatcher, name)
    assert told(place) == told(afresh(dispatcher, place))


def test_every_change_changes_something():
    """The changes above are not empty: each makes one of the two places another one."""
    for change in CHANGES.values():
        dispatcher = switching()
        before = [told(asked_for(dispatcher, name)) for name in (SMALL, LARGE)]
        leases = dispatcher.nodes[1].requests
        change(dispatcher)
        after = [told(asked_for(dispatcher, name)) for name in (SMALL, LARGE)]
        assert before != after or dispatcher.nodes[1].requests > leases or change is denied


def later(dispatcher, name, now):
    """What a place tells after nothing has happened for long, and what it would tell if made anew."""
    place = asked_for(dispatcher, name, now)
    return place, afresh(dispatcher, place, now)


def test_a_slow_spell_fades_though_nothing_happens():
    """A node that was slower than usual is judged by its usual speed again after minutes without requests."""
    dispatcher = switching()
    dispatcher.learner.pace(dispatcher.nodes[1].spec).take_bias(4.0, 0.0)
    dispatcher.nodes[1].touch()
    slow = asked_for(dispatcher).per_output
    place, fresh = later(dispatcher, SMALL, 600.0)
    assert place.per_output == pytest.approx(fresh.per_output)
    assert place.per_output < 0.5 * slow


def test_an_eviction_becomes_cheaper_though_nothing_happens():
    """A model that was used within the last minute costs its load in full, later a part of it."""
    dispatcher = switching(memory=21)
    dispatcher.end(leased(dispatcher), 0.0)
    just = asked_for(dispatcher, LARGE).evictions
    place, fresh = later(dispatcher, LARGE, 90.0)
    assert place.evictions == fresh.evictions == pytest.approx(0.3 * just)
    assert place.press == pytest.approx(fresh.press)


def test_failures_fade_though_nothing_happens():
    """The success rate heals with time alone."""
    dispatcher = switching()
    dispatcher.nodes[1].count_failure(0.0)
    assert asked_for(dispatcher).factor == pytest.approx(1 / 0.7)
    assert later(dispatcher, SMALL, 120.0)[0].factor == pytest.approx(1.0, abs=1e-3)


def test_a_breaker_lets_a_probe_pass_though_nothing_happens():
    """After its pause the node is usable again."""
    dispatcher = switching()
    breaker_opens(dispatcher)
    assert not asked_for(dispatcher).usable
    assert later(dispatcher, SMALL, 2.0)[0].usable


def test_the_cost_is_the_sum_of_its_terms():
    """What a decision prints adds up to the cost, divided by success rate and the operator's weight, in any state."""
    for change in CHANGES.values():
        dispatcher = switching()
        change(dispatcher)
        for name in (SMALL, LARGE):
            made = ticket(1.0, name=name, tokens=500)
            decision = dispatcher.explain(made, 1.0, every=True)
            for score in decision.best:
                factor = asked_for(dispatcher, name, 1.0).factor
                assert score.cost == pytest.approx(factor * sum(score.terms.values()), abs=1e-3)


def test_a_cost_is_never_negative():
    """Blockers that are overdue do not make their node attractive."""
    dispatcher = switching(memory=21)
    leased(dispatcher)
    leased(dispatcher)
    for second in range(200):
        choice = dispatcher.judge(ticket(float(second), name=LARGE), float(second))
        assert choice.cost > 0.0


def test_requests_ahead_count_as_waiting():
    """The work of those who are held for a node is waited for, shared among its slots."""
    dispatcher = fleet(node(1, "ant", slots=2))
    warm(dispatcher, 1, SMALL)
    for _ in range(2):
        leased(dispatcher)
    costs = []
    for _ in range(3):
        made = submit(dispatcher)
        costs.append(made.bound)
    assert costs == sorted(costs)
    assert costs[2] - costs[1] == pytest.approx(costs[1] - costs[0])


def test_who_gives_up_is_not_waited_for():
    """The work of one that has left the queue turns nobody away from the node."""
    dispatcher = fleet(node(1, "ant", slots=1))
    warm(dispatcher, 1, SMALL)
    leased(dispatcher)
    before = dispatcher.judge(ticket(), 0.0).cost
    waiting = [submit(dispatcher) for _ in range(5)]
    assert dispatcher.judge(ticket(), 0.0).cost > 2 * before
    for made in waiting:
        dispatcher.end(made, 0.0)
    assert dispatcher.judge(ticket(), 0.0).cost == pytest.approx(before)


def test_the_rest_still_counts_when_one_gives_up():
    """Those who go on waiting are reserved for again at the next look."""
    dispatcher = fleet(node(1, "ant", slots=1))
    warm(dispatcher, 1, SMALL)
    leased(dispatcher)
    one, _ = submit(dispatcher), submit(dispatcher)
    [kind] = dispatcher.families[request().key].kinds.values()
    [reserved] = kind.reserved
    dispatcher.end(one, 0.0)
    assign(dispatcher)
    assert kind.reserved == [pytest.approx(reserved / 2)]


def test_an_embedding_place_has_one_slot():
    """As Ollama serves models that only embed."""
    dispatcher = fleet(node(1, "ant", EMBED, slots=4))
    submit(dispatcher, name=EMBED)
    [family] = dispatcher.families.values()
    assert [place.slots for kind in family.kinds.values() for place in kind.places] == [1]


def test_another_context_size_is_told_apart_before_the_node_has_listed_it():
    """A runner that this gateway had loaded with one size serves no other without a reload."""
    dispatcher = fleet(node(1, "ant"))
    first = leased(dispatcher, num_ctx=8192)
    dispatcher.answered(first.lease, 0.0)
    dispatcher.end(first, 0.0)
    conditions = [dispatcher.explain(ticket(num_ctx=size), 0.0).best[0].condition for size in (8192, 4096, None)]
    assert conditions == ["warm", "loads-model", "loads-model"]


def test_places_do_not_multiply():
    """A client that asks for a new context size each time costs a bounded number of places."""
    dispatcher = fleet(node(1, "ant"))
    for size in range(1000, 1200):
        dispatcher.end(submit(dispatcher, num_ctx=size), 0.0)
    assert len(dispatcher.families[request().key].kinds) <= 32


def test_looking_keeps_nothing():
    """Judging requests for models that nobody has leaves nothing behind."""
    dispatcher = fleet(node(1, "ant"))
    for number in range(50):
        dispatcher.explain(ticket(name=f"m{number}"), 0.0)
    assert not dispatcher.families
    assert not dispatcher.learner.lengths


def test_judging_for_ever_on_an_idle_fleet_costs_a_bounded_memory():
    """Places that were made for one look are dropped, though nothing happens that would tell them."""
    dispatcher = fleet(node(1, "ant"))
    for _ in range(5000):
        dispatcher.explain(ticket(), 0.0)
    assert len(dispatcher.nodes[1].readers) <= 2000


def test_a_kind_that_nobody_waits_in_is_not_kept_ready():
    """While requests of another kind come and go for long, nothing piles up for it."""
    dispatcher = fleet(node(1, "ant", slots=1))
    warm(dispatcher, 1, SMALL)
    once = submit(dispatcher, num_ctx=4096)
    [idle] = dispatcher.families[once.request.key].kinds.values()
    dispatcher.end(once, 0.0)
    for number in range(300):
        submit(dispatcher, float(number))
        submit(dispatcher, float(number))
        for lease in dispatcher.assign(float(number)):
            dispatcher.end(lease.ticket, number + 0.1)
            dispatcher.assign(number + 0.1)
    assert len(idle.stale) <= len(idle.places)
    assert len(idle.due) <= 10
