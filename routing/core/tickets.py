"""A ticket is one request's life in the router; a lease is one slot on one node, held by one attempt."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from routing.core.decisions import Decision
from routing.core.learner import Speeds
from routing.core.requests import Profile
from routing.core.state import NodeState


class TicketState(StrEnum):
    NEW = "new"
    WAITING = "waiting"
    LEASED = "leased"
    ENDED = "ended"


@dataclass(slots=True, eq=False)
class Lease:
    """A slot of the runner `weights` on `node`. `cold`: the model was not loaded when the slot was taken.

    `num_ctx` is the context size asked for (None: the node's own), `size` the memory in bytes that the model takes,
    `ends_at` is when the attempt is expected to be over, `running` how many requests ran on the node when it began;
    `remote`: the model runs at ollama.com, so that the lease takes no slot and no memory; `answered` turns true with
    the first byte.
    """

    ticket: "Ticket"
    node: NodeState
    weights: str
    speeds: Speeds
    started_at: float
    ends_at: float
    cold: bool
    running: int
    size: float
    num_ctx: int | None
    decision: Decision
    remote: bool = False
    answered: bool = False
    released: bool = False

    def remaining(self, now: float) -> float:
        """Seconds that the attempt is expected to run on; one that is overdue counts as nearly done."""
        return max(0.05, self.ends_at - now)


@dataclass(slots=True, eq=False)
class Ticket:
    """One request from arrival to its one end. `tried` holds ids of nodes on which an attempt has failed.

    `any_weights`: no node with the weights that count has the route, so that the others serve.

    `wake` is called when a lease was granted or the ticket was ended from outside; the asynchronous edge sets it.
    """

    id: str
    request: Profile
    arrived_at: float
    order: float = 0.0
    state: TicketState = TicketState.NEW
    lease: Lease | None = None
    attempts: int = 0
    tried: set[int] = field(default_factory=set)
    any_weights: bool = False
    queued_at: float = 0.0
    queue_s: float = 0.0
    not_before: float = 0.0
    decision: Decision | None = None
    refusal: Exception | None = None
    wake: Callable[[], None] | None = None
