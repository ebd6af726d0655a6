"""The budget for further attempts, and what may be shed when the queue is full."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.core.dispatcher import Limits
from routing.core.errors import QueueFull
from routing.core.retries import RetryBudget
from routing.core.snapshot import FleetSnapshot, TeamPolicy
from routing.core.tickets import TicketState
from tests.core.cast import fleet, node, submit, ticket

BEES, CATS = 1, 2


def test_a_dying_node_costs_no_request_its_second_attempt():
    """All that one node had running may be tried again at once."""
    budget = RetryBudget()
    assert all(budget.spend(0.0) for _ in range(100))
    assert not budget.spend(0.0)
    assert budget.denied == 1


def test_the_budget_grows_with_the_traffic():
    """One in five."""
    budget = RetryBudget(least=1.0)
    for _ in range(1000):
        budget.came(0.0)
    assert sum(budget.spend(0.0) for _ in range(1000)) == 200


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.booleans()), max_size=300))
def test_a_storm_does_not_double_itself(events):
    """Whatever comes when, the further attempts of a minute stay within their share or the least."""
    budget, now, came, spent = RetryBudget(least=5.0), 0.0, 0, []
    for passed, request in events:
        now += passed
        if request:
            came += 1
            budget.came(now)
        elif budget.spend(now):
            spent.append(now)
    minute = [at for at in spent if now - at <= 60.0]
    assert len(minute) <= 2.72 * max(5.0, 0.2 * came) + 1


def full(queue=10, teams=(), **more):
    """One node with one slot, and a short queue."""
    dispatcher = fleet(node(1, "ant", slots=1), limits=Limits(queue=queue))
    if teams:
        policies = {number: TeamPolicy(number, str(number), highest_priority=10) for number in teams}
        dispatcher.apply(FleetSnapshot(2, tuple(state.spec for state in dispatcher.nodes.values()), teams=policies))
    made = submit(dispatcher)
    dispatcher.assign(0.0)
    assert made.state is TicketState.LEASED
    return dispatcher


def come(dispatcher, priority, team=None):
    made = ticket(priority=priority)
    made.request.team_id = team
    dispatcher.submit(made, 0.0)
    return made


def test_batch_work_fills_half_of_the_queue():
    """People find the other half free."""
    dispatcher = full()
    for _ in range(5):
        come(dispatcher, 1)
    with pytest.raises(QueueFull, match="priority 1 or less"):
        come(dispatcher, 1)
    assert come(dispatcher, 5).state is TicketState.WAITING


def test_the_least_urgent_is_shed_for_one_more_urgent():
    """The newest of the lowest priority goes, with the reason and a time to come back."""
    dispatcher = full()
    old, new = come(dispatcher, 3), come(dispatcher, 3)
    for _ in range(8):
        come(dispatcher, 5)
    urgent = come(dispatcher, 8)
    assert urgent.state is old.state is TicketState.WAITING
    assert new.state is TicketState.ENDED
    assert isinstance(new.refusal, QueueFull)
    assert new.refusal.retry_after >= 1
    assert dispatcher.waiting == 10


def test_nobody_is_shed_for_an_equal():
    """A full queue of one priority refuses."""
    dispatcher = full()
    for _ in range(10):
        come(dispatcher, 5)
    with pytest.raises(QueueFull, match=r"is full|of this team"):
        come(dispatcher, 5)


def test_a_team_cannot_push_out_others_by_calling_its_flood_urgent():
    """Who holds more than its share loses its own."""
    dispatcher = full(teams=(BEES, CATS))
    theirs = [come(dispatcher, 5, CATS) for _ in range(4)]
    flood = [come(dispatcher, 6, BEES) for _ in range(5)]
    for _ in range(3):
        come(dispatcher, 10, BEES)
    assert all(one.state is TicketState.WAITING for one in theirs)
    assert sum(one.state is TicketState.ENDED for one in flood) >= 2


def test_who_was_tried_is_not_shed():
    """A part of its answer may have been sent; the next more urgent one goes in its place."""
    dispatcher = full()
    tried = come(dispatcher, 3)
    tried.attempts = 1
    others = [come(dispatcher, 5) for _ in range(9)]
    come(dispatcher, 8)
    assert tried.state is TicketState.WAITING
    assert others[-1].state is TicketState.ENDED
