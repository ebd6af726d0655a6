"""When waiting requests will start."""

from hypothesis import given
from hypothesis import strategies as st

from routing.core.forecast import forecasts
from tests.core.cast import assign, fleet, node, submit


def waiting(slots, count):
    """A fleet of one node with all slots taken and `count` requests waiting."""
    dispatcher = fleet(node(1, "ant", slots=slots))
    for _ in range(slots):
        submit(dispatcher)
    assign(dispatcher)
    tickets = [submit(dispatcher) for _ in range(count)]
    return dispatcher, tickets


def test_positions_count_from_one_in_the_queues_order():
    """Who is more urgent stands before who came earlier."""
    dispatcher, tickets = waiting(1, 2)
    urgent = submit(dispatcher, priority=9)
    told = forecasts(dispatcher, dispatcher.lane_of(urgent), 0.0)
    assert [told[ticket.id].position for ticket in (urgent, *tickets)] == [1, 2, 3]


@given(st.integers(1, 4), st.integers(1, 12))
def test_who_stands_behind_starts_no_sooner(slots, count):
    """Starts are in the queue's order, after what runs now, and each ends after it starts."""
    dispatcher, tickets = waiting(slots, count)
    told = [forecasts(dispatcher, tickets, 0.0)[ticket.id] for ticket in tickets]
    starts = [one.start_s for one in told]
    assert starts == sorted(starts)
    assert all(0 < one.start_s < one.finish_s for one in told)


def test_more_slots_mean_an_earlier_start():
    """The tenth of a queue starts sooner where four run at a time."""
    ends = []
    for slots in (1, 4):
        dispatcher, tickets = waiting(slots, 10)
        ends.append(forecasts(dispatcher, tickets, 0.0)[tickets[-1].id].start_s)
    assert ends[1] < ends[0]


def test_without_a_node_nothing_is_foretold():
    """No number is better than a made-up one."""
    dispatcher, tickets = waiting(1, 1)
    dispatcher.observe_reach(1, "gone", 0.0, certain=True)
    assert forecasts(dispatcher, tickets, 0.0) == {}
