"""Affinity: a conversation goes on where its beginning is in the cache, as long as that is not dearer than reading."""

from dataclasses import replace

from routing.core.affinity import Prefixes
from routing.core.dispatcher import Verdict
from routing.core.snapshot import FleetSnapshot
from tests.core.cast import MODELS, SMALL, assign, fleet, node, request, ticket
from tests.core.test_dispatcher import warm

TURN = 4000


def turns(count: int, conversation: int = 1) -> tuple[tuple[int, int], ...]:
    """The hashes of a conversation's first messages."""
    return tuple((conversation * 1000 + number, TURN * number) for number in range(1, count + 1))


def asked(dispatcher, now, prefixes):
    """Submit a long prompt of these messages."""
    made = ticket(now, tokens=20_000)
    made.request.prefixes = prefixes
    lease = dispatcher.submit(made, now)
    if lease is not None:
        dispatcher.grant(lease)
    return made


def served(dispatcher, now, prefixes):
    """The name of the node that has served it."""
    made = asked(dispatcher, now, prefixes)
    name = made.lease.node.spec.name
    dispatcher.release(made.lease, Verdict.SUCCESS, now + 1.0)
    return name


def pair(slots=1):
    dispatcher = fleet(node(1, "ant", slots=slots), node(2, "bee", slots=slots))
    warm(dispatcher, 1, SMALL)
    warm(dispatcher, 2, SMALL)
    return dispatcher


def test_a_follow_up_goes_where_its_prefix_is():
    """Ties would rotate; the saving keeps the conversation on its node."""
    dispatcher = pair()
    first = served(dispatcher, 0.0, turns(1))
    assert [served(dispatcher, 10.0 * turn, turns(turn)) for turn in (2, 3, 4)] == [first] * 3


def test_another_conversation_goes_elsewhere():
    """What does not continue a prompt saves nothing, and ties rotate."""
    dispatcher = pair()
    first = served(dispatcher, 0.0, turns(1))
    assert served(dispatcher, 10.0, turns(2, conversation=2)) != first


def test_affinity_yields_when_its_node_is_busy():
    """Waiting for a long request costs more than reading the prompt again."""
    dispatcher = pair()
    first = served(dispatcher, 0.0, turns(1))
    dispatcher.apply(
        FleetSnapshot(2, tuple(replace(one.spec, draining=one.spec.name != first) for one in states(dispatcher)))
    )
    busy = asked(dispatcher, 10.0, ())
    dispatcher.apply(FleetSnapshot(3, tuple(replace(one.spec, draining=False) for one in states(dispatcher))))
    assert busy.lease.node.spec.name == first
    assert asked(dispatcher, 10.0, turns(2)).lease.node.spec.name != first


def states(dispatcher):
    return dispatcher.nodes.values()


def test_a_saving_counts_where_the_model_is_loaded_only():
    """An unloaded runner has lost its cache."""
    dispatcher = pair()
    served(dispatcher, 0.0, turns(1))
    [held] = dispatcher.prefixes.saved(MODELS[SMALL].digest, request_of(turns(2)), 1000.0)
    dispatcher.observe_residents(held, [])
    assert served(dispatcher, 10.0, turns(2)) != dispatcher.nodes[held].spec.name


def request_of(prefixes):
    made = request()
    made.prefixes = prefixes
    return made


def test_a_load_begins_with_an_empty_cache():
    """A model that was unloaded and is loaded again holds nothing of before."""
    dispatcher = fleet(node(1, "ant"))
    warm(dispatcher, 1, SMALL)
    served(dispatcher, 0.0, turns(1))
    dispatcher.observe_residents(1, [])
    served(dispatcher, 10.0, ())
    assert not dispatcher.prefixes.runners
    assert not dispatcher.prefixes.holders


def test_a_failed_attempt_is_not_remembered():
    """Only what a node has answered is believed to be in its cache."""
    dispatcher = pair()
    made = asked(dispatcher, 0.0, turns(1))
    dispatcher.release(made.lease, Verdict.FAILURE, 1.0)
    assert not dispatcher.prefixes.holders


def test_a_removed_node_is_forgotten():
    """The caches of a node that is gone, or is another server now, count no more."""
    dispatcher = pair()
    served(dispatcher, 0.0, turns(1))
    [held] = dispatcher.prefixes.saved(MODELS[SMALL].digest, request_of(turns(2)), 1000.0)
    dispatcher.apply(FleetSnapshot(2, tuple(one.spec for one in states(dispatcher) if one.spec.id != held)))
    assert not dispatcher.prefixes.runners
    assert not dispatcher.prefixes.holders


def test_a_runner_remembers_as_many_prompts_as_it_has_slots():
    """Each slot keeps what it read last; what is older is gone, its hashes too."""
    prefixes = Prefixes()
    for conversation in range(1, 50):
        prefixes.remember(1, "w", 2, request_of(turns(3, conversation)))
    assert [len(chains) for chains in prefixes.runners.values()] == [2]
    assert len(prefixes.holders) == 6


def test_a_continued_prompt_takes_the_place_of_its_beginning():
    """A conversation that grows holds one slot's cache, not one for each turn."""
    prefixes = Prefixes()
    for count in range(1, 9):
        prefixes.remember(1, "w", 4, request_of(turns(count)))
    assert [len(chains) for chains in prefixes.runners.values()] == [1]
    assert len(prefixes.holders) == 8


def test_a_longer_prefix_saves_more():
    """The saving is the part of the prompt that the node has, the last token aside."""
    prefixes = Prefixes()
    prefixes.remember(1, "w", 2, request_of(turns(1)))
    prefixes.remember(2, "w", 2, request_of(turns(3)))
    saved = prefixes.saved("w", request_of(turns(4)), 1000.0)
    assert saved == {1: 1000.0 / 4 * 0.99, 2: 1000.0 * 3 / 4 * 0.99}


def test_a_small_common_beginning_is_not_looked_for():
    """A system prompt that is less than a tenth of the prompt says nothing."""
    prefixes = Prefixes()
    prefixes.remember(1, "w", 2, request_of(turns(1)))
    assert not prefixes.saved("w", request_of(turns(11)), 1000.0)


def test_saved_tokens_are_not_read_again():
    """The lease expects to read what is not in the cache only."""
    dispatcher = fleet(node(1, "ant"))
    warm(dispatcher, 1, SMALL)
    whole = asked(dispatcher, 0.0, turns(4)).lease
    dispatcher.release(whole, Verdict.SUCCESS, 1.0)
    assert asked(dispatcher, 10.0, turns(5)).lease.prompt_left < 0.3 * whole.prompt_left + 0.1


def test_a_denied_lease_does_not_remember():
    """A prompt that was never sent is in no cache."""
    dispatcher = pair()
    made = ticket(0.0)
    made.request.prefixes = turns(2)
    dispatcher.deny(dispatcher.submit(made, 0.0), 0.0)
    assert not dispatcher.prefixes.holders
    assert len(assign(dispatcher)) == 1
