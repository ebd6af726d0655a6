"""Bulk work yields to everybody: it leaves slots free, and begins where nobody waits."""

from hypothesis import given
from hypothesis import strategies as st

from routing.core.dispatcher import Limits, Verdict
from routing.core.tickets import TicketState
from tests.core.cast import EMBED, SMALL, assign, fleet, node, submit
from tests.core.test_dispatcher import warm

MINUTE = 60.0


def four(**limits):
    """Four nodes with two slots each, the model loaded."""
    dispatcher = fleet(*(node(number, f"n{number}") for number in range(1, 5)), limits=Limits(**limits))
    for number in dispatcher.nodes:
        warm(dispatcher, number, SMALL)
    return dispatcher


def bulk(dispatcher, count, now=0.0, **more):
    return [submit(dispatcher, now, priority=1, bulk=True, **more) for _ in range(count)]


def test_a_quarter_of_the_slots_is_left_free_while_people_come():
    """And all of them are used a minute after the last one."""
    dispatcher = four()
    dispatcher.end(submit(dispatcher), 0.0)
    bulk(dispatcher, 10)
    assert len(assign(dispatcher)) == 6
    assert assign(dispatcher, MINUTE - 1) == []
    assert len(assign(dispatcher, MINUTE + 1)) == 2


def test_a_freed_slot_is_used_at_once():
    dispatcher = four()
    dispatcher.end(submit(dispatcher), 0.0)
    first, *_ = bulk(dispatcher, 10)
    assign(dispatcher)
    dispatcher.release(first.lease, Verdict.SUCCESS, 1.0)
    assert len(assign(dispatcher, 1.0)) == 1


def test_how_many_are_left_free_is_set():
    dispatcher = four(spared=0.5)
    dispatcher.end(submit(dispatcher), 0.0)
    bulk(dispatcher, 10)
    assert len(assign(dispatcher)) == 4


def test_the_fastest_node_is_left_free():
    """Whoever comes next finds it so."""
    dispatcher = fleet(
        node(1, "ant", EMBED, node_class="cpu"), node(2, "bee", EMBED, node_class="gpu"), limits=Limits(spared=0.5)
    )
    dispatcher.end(submit(dispatcher, name=EMBED), 0.0)
    waiting, _ = bulk(dispatcher, 2, name=EMBED)
    assert dispatcher.explain(waiting, 0.0).rejected == {"left_to_others": ["bee"]}
    assert assign(dispatcher) == ["ant"]
    chat = submit(dispatcher, 0.1, name=EMBED)
    assert assign(dispatcher, 0.1) == ["bee"]
    assert chat.lease


def test_one_slot_it_always_has():
    dispatcher = fleet(node(1, "ant", EMBED), limits=Limits(spared=1.0))
    dispatcher.end(submit(dispatcher, name=EMBED), 0.0)
    bulk(dispatcher, 2, name=EMBED)
    assert assign(dispatcher) == ["ant"]


def test_it_begins_nowhere_that_somebody_waits_for():
    """A chat waits for ant, so that embeddings go to bee alone until it has its slot."""
    dispatcher = fleet(node(1, "ant", SMALL, EMBED, slots=1), node(2, "bee", EMBED), limits=Limits(spared=0.0))
    warm(dispatcher, 1, SMALL, EMBED)
    running, waiting = submit(dispatcher), submit(dispatcher)
    assert assign(dispatcher) == ["ant"]
    one, other = bulk(dispatcher, 2, now=0.1, name=EMBED)
    assert assign(dispatcher, 0.1) == ["bee"]
    left = other if one.lease else one
    assert dispatcher.explain(left, 0.1).rejected == {"left_to_others": ["ant"]}
    assert assign(dispatcher, 1.0) == []
    dispatcher.end(running, 1.0)
    assert assign(dispatcher, 1.0) == ["ant", "ant"]
    assert waiting.lease
    assert left.lease


def test_who_has_waited_for_four_minutes_yields_no_more():
    dispatcher = fleet(node(1, "ant", SMALL, EMBED, slots=1))
    warm(dispatcher, 1, SMALL, EMBED)
    submit(dispatcher)
    assign(dispatcher)
    submit(dispatcher)
    bulk(dispatcher, 1, name=EMBED)
    assert assign(dispatcher, 239.0) == []
    assert assign(dispatcher, 241.0) == ["ant"]


def test_it_hides_nobody():
    """However much bulk work waits that may not begin, a chat is found and placed."""
    dispatcher = four()
    dispatcher.end(submit(dispatcher), 0.0)
    bulk(dispatcher, 100)
    assert len(assign(dispatcher)) == 6
    chat = submit(dispatcher, 0.1)
    assert len(assign(dispatcher, 0.1)) == 1
    assert chat.lease


@given(st.lists(st.tuples(st.sampled_from(["chat", "bulk", "end", "wait"]), st.integers(0, 9)), max_size=60))
def test_whatever_comes_bulk_leaves_its_part_free(steps):
    """No bulk request begins beyond its part or where somebody waits, and no chat waits while a slot is free."""
    dispatcher, now, running = four(), 0.0, []
    for step, number in steps:
        now += 0.3
        if step in {"chat", "bulk"}:
            submit(dispatcher, now, priority=1, bulk=step == "bulk")
        elif step == "wait":
            now += 10.0 * number
        elif running:
            dispatcher.end(running.pop(number % len(running)).ticket, now)
        leases = dispatcher.assign(now)
        for lease in leases:
            dispatcher.grant(lease)
        running += leases
        begun = [lease for lease in leases if dispatcher.yields(lease.ticket, now)]
        if begun and now - dispatcher.urgent_at <= MINUTE:
            assert dispatcher.bulk.total() <= 6
        assert dispatcher.bulk.total() == sum(lease.ticket.request.bulk for lease in running)
        free = sum(2 - len(one.leases) for one in dispatcher.nodes.values())
        chats = [one for one in dispatcher.queued() if not one.request.bulk]
        assert not (free and chats)
        assert not (chats and begun)
        assert all(one.state is TicketState.WAITING for one in dispatcher.queued())
