"""Batch jobs as the live dashboard shows them: read once a second while somebody looks, and never otherwise."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from django.utils import timezone

from fleet.models import BatchJob
from fleet.selectors import batch
from fleet.services.connections import close_connection

log = logging.getLogger(__name__)

Board = dict[str, Any]

#: Jobs that are told one by one.
SHOWN = 12
#: Seconds between two readings, and for which an ended job is still told of.
EVERY_S, AFTER_S = 1.0, 300.0
#: Seconds without a look after which what was read is not told any more.
OLD_S = 10.0


def told(job: BatchJob) -> Board:
    """A job; `rate` in items per second, `left_s` in seconds, both None where they are not known."""
    part, rate, left = batch.progress(job, timezone.now())
    return {
        "pk": job.pk,
        "id": job.public_id,
        "team": "" if job.team is None else job.team.name,
        "model": job.model,
        "endpoint": job.endpoint,
        "state": job.state,
        "part": round(part, 4),
        "total": job.total,
        "completed": job.completed,
        "failed": job.failed,
        "rate": None if rate is None else float(f"{rate:.3g}"),
        "left_s": None if left is None or job.ended else round(left),
        "reason": job.reason[:200],
    }


def read() -> Board:
    """Jobs that have not ended, and those that have lately; `more` counts open ones beyond these."""
    going = list(batch.open_jobs()[: SHOWN + 1])
    more = batch.open_jobs().count() - SHOWN if len(going) > SHOWN else 0
    jobs = going[:SHOWN]
    jobs += batch.ended_since(timezone.now(), AFTER_S)[: SHOWN - len(jobs)]
    return {"jobs": [told(job) for job in jobs], "more": more}


class Reader:
    """Reads in a thread, so that a slow database delays no picture; the picture has what was read last."""

    def __init__(self, read: Callable[[], Board] = read, every_s: float = EVERY_S) -> None:
        self.board: Board | None = None
        self._read, self._every_s = read, every_s
        self._asked_at = float("-inf")
        self._reading: asyncio.Future[None] | None = None

    def look(self) -> Board | None:
        """What was read last, None before that; it is read anew meanwhile. To be called on an event loop."""
        now = time.monotonic()
        if now - self._asked_at > OLD_S:
            self.board = None
        if now - self._asked_at >= self._every_s and (self._reading is None or self._reading.done()):
            self._asked_at = now
            self._reading = asyncio.ensure_future(self._renew())
        return self.board

    async def _renew(self) -> None:
        try:
            self.board = await asyncio.to_thread(self._in_own_connection)
        except Exception as error:  # noqa: BLE001 (whatever the database does, the picture goes on)
            log.warning("the batch jobs cannot be read: %s", error)

    def _in_own_connection(self) -> Board:
        try:
            return self._read()
        finally:
            close_connection()
