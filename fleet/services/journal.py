"""Logs ended requests, one event each: who, what, where, how long; never what was said."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import structlog

from routing.core.records import NodeEvent, Outcome, RequestRecord

#: How it ends without anything being amiss.
FINE = frozenset({Outcome.SERVED, Outcome.CANCELLED})

log = structlog.stdlib.get_logger("sollol.requests")


def event_of(record: RequestRecord, teams: Mapping[int, str], nodes: Mapping[int, str]) -> dict[str, Any]:
    """The event of a request; `id` is what the answer's X-Sollol-Request-Id told. Texts of errors are left out.

    They may quote what was sent; the history has them under the id.
    """
    event = {
        "id": record.request_id,
        "outcome": record.outcome.value,
        "status": record.status,
        "route": record.route,
        "model": record.model[:100],
        "task": record.task_type,
        "priority": record.priority,
        "team": None if record.team_id is None else teams.get(record.team_id, str(record.team_id)),
        "key": record.key_prefix or None,
        "node": None if record.node_id is None else nodes.get(record.node_id, str(record.node_id)),
        "attempts": record.attempts,
        "resumed": record.resumed or None,
        "queue_ms": round(record.queue_ms, 1),
        "first_byte_ms": None if record.first_byte_ms is None else round(record.first_byte_ms, 1),
        "total_ms": round(record.total_ms, 1),
        "prompt_tokens": record.prompt_tokens,
        "output_tokens": record.output_tokens,
        "reason": record.decision.reason if record.decision else None,
        "trace": record.trace.rpartition(" ")[2][3:35] or None,
    }
    return {name: value for name, value in event.items() if value is not None}


class Journal:
    """Logs what a batch of ended things holds of requests; called in the recorder's thread, and never raises."""

    def __init__(self, kept: Literal["all", "errors", "off"]) -> None:
        self.kept = kept

    def __call__(
        self, batch: Sequence[RequestRecord | NodeEvent], teams: Mapping[int, str], nodes: Mapping[int, str]
    ) -> None:
        if self.kept == "off":
            return
        for record in batch:
            if isinstance(record, RequestRecord):
                fine = record.outcome in FINE
                if fine and self.kept == "errors":
                    continue
                tell = log.info if fine else log.warning
                tell("request", at=round(record.started_at, 3), **event_of(record, teams, nodes))
