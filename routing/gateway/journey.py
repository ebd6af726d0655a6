"""What happens to one inference request, gathered on its way, and what is told of it afterwards."""

import re
from dataclasses import dataclass
from random import getrandbits

import orjson

from routing.core.learner import Metrics
from routing.core.quotas import Reservation
from routing.core.records import Outcome, RequestRecord
from routing.core.tickets import Lease, Ticket
from routing.core.usage import Use
from routing.gateway.access import Caller
from routing.gateway.embedding.asked import Wanted
from routing.gateway.exchange import Headers
from routing.gateway.keepalive import KeepAlive
from routing.gateway.relay import Relayed
from routing.gateway.terms import Terms

#: How a request may have ended that its team is charged for.
CHARGED = frozenset({Outcome.SERVED, Outcome.CANCELLED, Outcome.FAILED})
#: An id that a client chose for its request.
CHOSEN = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


@dataclass(slots=True)
class Journey:
    """One request from its ticket to its record.

    Times are seconds of the gateway's clock, `arrived_wall` is in epoch seconds. `lease` is that of the last attempt;
    `begun` once its stream has begun, `sent_at` and `first_at` when it was sent and when its first byte came,
    `first_byte_at` when the client's first byte did; `last` the status, headers and body of an error that a node gave
    and that is relayed if no other node does better. `terms` are those on which it came in, `reservation` holds what
    the team is expected to be charged, `held_s` tells for how long slots were held that gave something; `metrics` are
    those of the whole request, `taught` those that the last attempt told. `wanted` is what an embedding request asks
    for, where the team's policy makes more of it.
    """

    ticket: Ticket
    caller: Caller
    arrived_wall: float
    seen: Relayed
    terms: Terms
    reservation: Reservation | None = None
    held_s: float = 0.0
    outcome: Outcome = Outcome.FAILED
    lease: Lease | None = None
    first_byte_at: float | None = None
    metrics: Metrics | None = None
    taught: Metrics | None = None
    sent_at: float = 0.0
    first_at: float = 0.0
    error: str = ""
    passed: int = -1
    last: tuple[int, Headers, bytes] | None = None
    keepalive: KeepAlive | None = None
    begun: bool = False
    trace: str = ""
    wanted: Wanted | None = None

    @property
    def resumed(self) -> int:
        """How often another attempt went on with the stream of one that had broken off."""
        return 0 if self.seen.resumption is None else self.seen.resumption.times

    def stands_still(self) -> bool:
        """Whether nothing of the answer has passed since this was asked before."""
        before, self.passed = self.passed, self.seen.objects
        return before == self.passed

    def settle(self, wall: float) -> None:
        """Charge the team what was used: nothing for what gave nothing, what ran for what was cut short."""
        if self.reservation is None:
            return
        metrics, request = self.metrics, self.ticket.request
        gave = self.outcome is not Outcome.FAILED or self.seen.objects > 0
        if gave and self.outcome in CHARGED and (metrics is not None or self.held_s > 0.0):
            prompt = metrics.prompt_tokens if metrics else request.prompt_tokens
            output = metrics.output_tokens if metrics else self.seen.objects
            self.reservation.settle(Use(1, prompt, output, self.held_s), wall)
        else:
            self.reservation.cancel(wall)

    def member(self, lease: Lease, now: float) -> bytes:
        """The value of `_sollol_routing` in a final native object."""
        ticket = self.ticket
        return orjson.dumps(
            {
                "host": lease.node.spec.name,
                "task_type": ticket.request.task.value,
                "complexity": ticket.request.complexity.value,
                "decision_score": round(lease.decision.score, 4),
                "queue_ms": round(ticket.queue_s * 1000),
                "attempts": ticket.attempts,
                "resumed": self.resumed > 0,
                "actual_duration_ms": round((now - ticket.arrived_at) * 1000),
            }
        )

    def record(self, status: int, now: float) -> RequestRecord:
        """What the history keeps of it; `status` is what the client was answered."""
        ticket, request, metrics, lease = self.ticket, self.ticket.request, self.metrics, self.lease
        arrived = ticket.arrived_at
        return RequestRecord(
            request_id=ticket.id,
            started_at=self.arrived_wall,
            route=request.route.value,
            model=request.model,
            task_type=request.task.value,
            complexity=request.complexity.value,
            priority=request.priority,
            stream=request.stream,
            outcome=self.outcome,
            status=status,
            team_id=request.team_id,
            key_prefix=self.caller.prefix,
            node_id=lease.node.spec.id if lease else None,
            attempts=ticket.attempts,
            queue_ms=ticket.queue_s * 1000,
            first_byte_ms=None if self.first_byte_at is None else (self.first_byte_at - arrived) * 1000,
            total_ms=(now - arrived) * 1000,
            prompt_tokens=metrics.prompt_tokens if metrics and metrics.counted else None,
            output_tokens=metrics.output_tokens if metrics and metrics.counted else None,
            error=self.error,
            decision=lease.decision if lease else ticket.decision,
            resumed=self.resumed,
            trace=self.trace,
        )


def request_id(wall: float) -> str:
    """24 hex digits, by time and then by chance: new ids are appended to the history's index, not strewn over it.

    Chance from user space: the operating system's would cost a system call for each request, and ids are no secrets.
    """
    return f"{int(wall * 1000):011x}{getrandbits(52):013x}"


def chosen_id(header: bytes | None) -> str | None:
    """The id that a client gives its request in X-Request-Id; None where there is none that can serve as one."""
    return header.decode() if header is not None and CHOSEN.fullmatch(header) else None
