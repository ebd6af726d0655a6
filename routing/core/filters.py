"""Filters: who can serve a request at all. A filter is a function; the pipeline counts whom each rejects."""

from collections.abc import Callable

from routing.core.state import NodeState, Reach
from routing.core.tickets import Ticket

Filter = Callable[[Ticket, NodeState, float], bool]


def enabled(ticket: Ticket, node: NodeState, now: float) -> bool:
    """The operator lets the node be used."""
    return node.spec.enabled


def not_draining(ticket: Ticket, node: NodeState, now: float) -> bool:
    """The node is not being emptied."""
    return not node.spec.draining


def has_model(ticket: Ticket, node: NodeState, now: float) -> bool:
    """The model is installed there, or it runs at ollama.com and the node is the one for that."""
    return node.has_model(ticket.request)


def has_route(ticket: Ticket, node: NodeState, now: float) -> bool:
    """The node's version has the route."""
    return ticket.request.route not in node.missing


def same_weights(ticket: Ticket, node: NodeState, now: float) -> bool:
    """The name means the weights that count; others are better than an error only."""
    return ticket.request.key not in node.outdated or ticket.any_weights or bool(ticket.tried)


def alive(ticket: Ticket, node: NodeState, now: float) -> bool:
    """The node answered when it was last looked at, or has not been looked at yet."""
    return node.reach is not Reach.DOWN


def breaker_allows(ticket: Ticket, node: NodeState, now: float) -> bool:
    """The node's breaker is closed, or due for its probe."""
    return node.breaker.allows(now)


def not_tried(ticket: Ticket, node: NodeState, now: float) -> bool:
    """No attempt of this request has failed there."""
    return node.spec.id not in ticket.tried


FILTERS: tuple[Filter, ...] = (
    enabled,
    not_draining,
    has_model,
    has_route,
    same_weights,
    alive,
    breaker_allows,
    not_tried,
)
