"""A ticket is one request's life in the router; a lease is one slot on one node, held by one attempt."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from routing.core.decisions import Decision
from routing.core.learner import Expectation, Lengths, Speeds
from routing.core.requests import Profile
from routing.core.state import NodeState

if TYPE_CHECKING:
    from routing.core.places import Place


class TicketState(StrEnum):
    NEW = "new"
    WAITING = "waiting"
    LEASED = "leased"
    ENDED = "ended"


@dataclass(slots=True, eq=False)
class Lease:
    """A slot of the runner `weights` on `node`. `cold`: the model was not loaded when the slot was taken.

    `num_ctx` is the context size asked for (None: the node's own), `size` the memory in bytes that the model takes.
    `prompt_left` and `output_work` are the seconds that the rest of the prompt and the whole answer are expected to
    take alone, `written` those that the answer has had, as of the moment when the node's clock stood at `prompt_at` and
    `output_at`; `output_s` is the seconds for one token. `ends_at` is when the attempt is expected to be over, worked
    out anew as others come and go (`core.load`). `remote`: the model runs at
    ollama.com, so that the lease takes no slot and no memory; `answered` turns true with the first byte. `charged` is
    what the team's counter was charged for it.
    """

    ticket: "Ticket"
    node: NodeState
    weights: str
    speeds: Speeds
    started_at: float
    ends_at: float
    cold: bool
    size: float
    num_ctx: int | None
    decision: Decision
    prompt_left: float
    output_work: float
    output_s: float
    lengths: Lengths
    remote: bool = False
    answered: bool = False
    released: bool = False
    charged: float = 0.0
    written: float = 0.0
    prompt_at: float = 0.0
    output_at: float = 0.0

    def remaining(self, now: float) -> float:
        """Seconds that the attempt is expected to run on; one that is overdue counts as nearly done."""
        return max(0.05, self.ends_at - now)

    def expected_s(self, now: float, prompt_slow: float, output_slow: float) -> float:
        """Seconds that the attempt will probably go on, at the present slowdowns of prompts and of answers.

        How long an answer goes on that is longer than most is told by those of its kind that were as long.
        """
        if self.cold and not self.answered:
            loads = max(0.0, self.started_at + self.speeds.load.value - now)
            return loads + self.prompt_left * prompt_slow + self.output_work * output_slow
        ahead = self.prompt_left * prompt_slow
        limit = self.ticket.request.max_tokens
        if self.output_s > 0.0 and limit != 0:
            tokens = self.written / self.output_s
            left = self.lengths.left(tokens)
            if limit is not None:
                left = min(left, max(0.0, limit - tokens))
            ahead += left * self.output_s * output_slow
        return ahead if ahead > 0.02 else 0.02  # noqa: PLR2004, FURB136 (called for everything that runs, often)


@dataclass(slots=True, eq=False)
class Ticket:
    """One request from arrival to its one end. `tried` holds ids of nodes on which an attempt has failed.

    `order` is its place within its team, in seconds of the clock; `work` the seconds that it is expected to take alone
    on the fastest node, which is what its team is charged; `expected` are the tokens that were last expected of it.
    `held_at` is the place that a waiting ticket is held for, `bound` what that place was expected to cost.

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
    queued_at: float = 0.0
    queue_s: float = 0.0
    not_before: float = 0.0
    decision: Decision | None = None
    refusal: Exception | None = None
    wake: Callable[[], None] | None = None
    work: float = 0.0
    expected: Expectation | None = None
    sequence: int = 0
    held_at: "Place | None" = None
    bound: float = 0.0
