"""One request of the history by its id, read aside so that a slow database delays nobody else."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fleet.models import RequestRecord
from fleet.services.connections import close_connection, kept_connection
from routing.core import records
from routing.gateway.inquiry import ended_view

log = logging.getLogger(__name__)


def found(request_id: str) -> dict[str, Any] | None:
    with kept_connection():
        row = RequestRecord.objects.filter(request_id=request_id).first()
    if row is None:
        return None
    record = records.RequestRecord(
        request_id=row.request_id,
        started_at=row.started_at.timestamp(),
        route=row.route,
        model=row.model,
        task_type=row.task_type,
        complexity=row.complexity,
        priority=row.priority,
        stream=row.stream,
        outcome=records.Outcome(row.outcome),
        status=row.status,
        team_id=row.team_id,
        attempts=row.attempts,
        resumed=row.resumed,
        queue_ms=row.queue_ms,
        first_byte_ms=row.first_byte_ms,
        total_ms=row.total_ms,
        prompt_tokens=row.prompt_tokens,
        output_tokens=row.output_tokens,
        error=row.error,
    )
    return ended_view(record, row.team_name, row.node_name, row.decision)


class DatabaseHistory:
    """The history of a gateway, in a thread of its own; `find` is what runs there."""

    def __init__(self, find: Callable[[str], dict[str, Any] | None] = found) -> None:
        self._find = find
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history")

    async def find(self, request_id: str) -> dict[str, Any] | None:
        """The request as the gateway tells it; None where it is not known, or the database is away."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._find, request_id)
        except Exception:
            log.exception("the history cannot be read")
            return None

    async def stop(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, close_connection)
        self._thread.shutdown(wait=False)
