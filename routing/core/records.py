"""What the router hands to the recorder when something has ended."""

from dataclasses import dataclass
from enum import StrEnum

from routing.core.decisions import Decision


class Outcome(StrEnum):
    """How a ticket ended; exactly one each."""

    __hash__ = str.__hash__

    SERVED = "served"
    REFUSED = "refused"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(slots=True)
class RequestRecord:
    """One request from arrival to its end. Times in milliseconds, `started_at` in epoch seconds.

    `team_id` and `node_id` are None where there was none; `status` is what the client was answered (499: it had left);
    `decision` tells the chosen node, the scores, and which nodes each filter rejected; `resumed` how
    often the stream broke off and went on in another attempt; `trace` holds the W3C
    traceparents of its caller, if any, and its own, with a space between them.
    """

    request_id: str
    started_at: float
    route: str
    model: str
    task_type: str
    complexity: str
    priority: int
    stream: bool
    outcome: Outcome
    status: int
    team_id: int | None = None
    key_prefix: str = ""
    node_id: int | None = None
    attempts: int = 0
    queue_ms: float = 0.0
    first_byte_ms: float | None = None
    total_ms: float = 0.0
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    error: str = ""
    decision: Decision | None = None
    resumed: int = 0
    trace: str = ""


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """A transition of a node: `kind` is up, down, breaker_open, breaker_closed, inventory, ....

    `at` in epoch seconds.
    """

    node_id: int
    at: float
    kind: str
    detail: str = ""
