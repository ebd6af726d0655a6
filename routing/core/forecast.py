"""When the requests of one lane will probably start, read off what runs now and what the learner expects."""

import heapq
from collections.abc import Iterable
from typing import NamedTuple

from routing.core.concurrency import slowdown
from routing.core.dispatcher import Dispatcher
from routing.core.learner import OVERHEAD
from routing.core.requests import Profile
from routing.core.state import NodeState, Reach
from routing.core.tickets import Ticket


class Forecast(NamedTuple):
    """`position` counts from 1 in the ticket's lane; `start_s` and `finish_s` are seconds from now."""

    position: int
    start_s: float
    finish_s: float


def forecasts(dispatcher: Dispatcher, lane: Iterable[Ticket], now: float) -> dict[str, Forecast]:
    """The forecast of each waiting ticket of one lane, by ticket id, in the lane's order; empty without a node.

    List scheduling: each in turn takes the slot that comes free first, and holds it for its own expected work. What
    other lanes will put on the same nodes is not foreseen.
    """
    told: dict[str, Forecast] = {}
    slots: list[tuple[float, int, NodeState]] | None = None
    for position, ticket in enumerate(lane, 1):
        if slots is None:
            slots = slots_of(dispatcher, ticket.request, now)
        if not slots:
            return {}
        start, number, node = heapq.heappop(slots)
        start = max(start, ticket.not_before - now)
        finish = start + work(dispatcher, ticket.request, node)
        heapq.heappush(slots, (finish, number, node))
        told[ticket.id] = Forecast(position, start, finish)
    return told


def slots_of(dispatcher: Dispatcher, request: Profile, now: float) -> list[tuple[float, int, NodeState]]:
    """A heap of (seconds until it is free, number, node): every slot that could serve the request."""
    slots: list[tuple[float, int, NodeState]] = []
    for node in dispatcher.nodes.values():
        if node.offers(request) and node.reach is not Reach.DOWN and request.key not in node.outdated:
            slots += [(free, len(slots) + i, node) for i, free in enumerate(free_in(dispatcher, request, node, now))]
    heapq.heapify(slots)
    return slots


def free_in(dispatcher: Dispatcher, request: Profile, node: NodeState, now: float) -> list[float]:
    """Seconds until each slot of the model's runner on one node is free; all wait for a load where it is not loaded."""
    weights = node.weights_of(request.key)
    running = [lease.remaining(now) for lease in node.by_weights.get(weights, ())]
    ahead = max(0.0, node.breaker.open_until - now)
    if weights not in node.resident and not running:
        speeds = dispatcher.learner.of(node.spec, weights, node.models.get(request.key))
        ahead += speeds.load.value + max((lease.remaining(now) for lease in node.leases), default=0.0)
    idle = max(0, node.slots_of(request.key) - len(running))
    return [ahead + seconds for seconds in (*running, *([0.0] * idle))]


def work(dispatcher: Dispatcher, request: Profile, node: NodeState) -> float:
    """Seconds that the request will hold its slot."""
    learner = dispatcher.learner
    speeds = learner.of(node.spec, node.weights_of(request.key), node.models.get(request.key))
    tokens = learner.expectation(request)
    solo = tokens.prompt * speeds.prompt.value + tokens.output * speeds.output.value
    return (OVERHEAD + solo) * slowdown(learner.pace(node.spec).alpha, max(1, node.running))
