"""Recorded requests and nodes' transitions of a span of time, oldest first, for a replay."""

from datetime import datetime
from typing import NamedTuple

from fleet.models import NodeEvent, RequestRecord


class Recorded(NamedTuple):
    """What a replay reads of a recorded request; times in milliseconds."""

    started_at: datetime
    route: str
    model: str
    task_type: str
    complexity: str
    priority: int
    stream: bool
    outcome: str
    team_id: int | None
    node_id: int | None
    queue_ms: float
    first_byte_ms: float | None
    total_ms: float
    prompt_tokens: int | None
    output_tokens: int | None


class Transition(NamedTuple):
    """A node has gone or come back: `kind` is down or up."""

    node_id: int
    at: datetime
    kind: str


def recorded(since: datetime, until: datetime, most: int) -> list[Recorded]:
    """The requests that began in the span, at most the newest `most`."""
    rows = RequestRecord.objects.filter(started_at__gte=since, started_at__lt=until).order_by("-started_at", "-id")
    found = [Recorded(*row) for row in rows.values_list(*Recorded._fields)[:most].iterator(chunk_size=2000)]
    found.reverse()
    return found


def transitions(since: datetime, until: datetime) -> list[Transition]:
    """When nodes that still exist went down and came up."""
    rows = NodeEvent.objects.filter(at__gte=since, at__lt=until, kind__in=("up", "down"), node__isnull=False)
    return [Transition(*row) for row in rows.order_by("at", "id").values_list(*Transition._fields)]
