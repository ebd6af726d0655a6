"""Writes ended requests and node events in bulk, off the gateway's event loop, and outlives a database that is away."""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from django.conf import settings

from fleet.services.connections import close_connection
from fleet.services.journal import Journal
from fleet.services.recording import DatabaseStore, Names, Row
from fleet.services.tracing import Traces
from routing.core import records

log = logging.getLogger(__name__)

BATCH = 500
NOBODY = Names()
Store = Callable[[Sequence[Row]], int]
#: Is told of each batch once, with the names of teams and nodes by id.
Reader = Callable[[Sequence[Row], Mapping[int, str], Mapping[int, str]], None]


def readers() -> list[Reader]:
    """Who else is told of what has ended, by the settings."""
    env = settings.ENV
    return [Journal(env.sollol_log_requests), *([Traces()] if env.sollol_traces else [])]


class DatabaseRecorder:
    """The recorder of a gateway: `request` and `event` append to a bounded buffer, one thread writes it each second.

    `dropped` counts rows lost: the buffer was full, the database could not take them, or it was away at the end.
    `written` counts rows stored, `pending` rows that wait; `away_since` is since when the database has taken none, in
    seconds of the monotonic clock. All calls belong to the event loop that called `start`.
    """

    def __init__(
        self,
        bound: int | None = None,
        store: Store | None = None,
        interval_s: float = 1.0,
        readers: Sequence[Reader] = (),
    ) -> None:
        self.bound = settings.ENV.sollol_record_buffer if bound is None else bound
        self.dropped = 0
        self.written = 0
        self._store = store or DatabaseStore()
        self._interval_s = interval_s
        self._readers = tuple(readers)
        self._rows: deque[Row] = deque()
        self._batch: list[Row] = []
        self._full = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._executor: ThreadPoolExecutor | None = None
        self.away_since: float | None = None
        self._stopping = False

    @property
    def pending(self) -> int:
        return len(self._rows) + len(self._batch)

    def request(self, record: records.RequestRecord) -> None:
        self._append(record)

    def event(self, event: records.NodeEvent) -> None:
        self._append(event)

    def _append(self, row: Row) -> None:
        if self.pending >= self.bound:
            self.dropped += 1
            return
        self._rows.append(row)
        if len(self._rows) >= BATCH and self.away_since is None:
            self._full.set()

    async def start(self) -> None:
        """Begin to write; call it on the gateway's event loop."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="recorder")
        self._task = asyncio.create_task(self._run(), name="recorder")

    async def stop(self) -> None:
        """Write what waits, once; what the database does not take now is counted as dropped."""
        if self._task is None or self._executor is None:
            return
        task, self._task = self._task, None
        self._stopping = True
        self._full.set()
        await task
        if self.pending:
            log.error("recorder: %d rows are lost, the database takes nothing", self.pending)
            self.dropped += self.pending
            self._rows.clear()
            self._batch.clear()
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close)
        self._executor.shutdown(wait=False)

    def _close(self) -> None:
        close_connection()
        for reader in self._readers:
            if isinstance(reader, Traces):
                reader.close()

    async def _run(self) -> None:
        while not self._stopping:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), self._interval_s)
            self._full.clear()
            await self._flush()
        await self._flush()

    def _write(self, batch: Sequence[Row], fresh: bool) -> int:
        """Store a batch, and tell its readers of it the first time, whether or not the database takes it."""
        try:
            return self._store(batch)
        finally:
            for reader in self._readers if fresh else ():
                try:
                    names: Names = getattr(self._store, "names", NOBODY)
                    reader(batch, names.teams, names.nodes)
                except Exception:
                    log.exception("recorder: what has ended cannot be told to %s", type(reader).__name__)

    async def _flush(self) -> None:
        """Write what waits now, batch after batch, until that is stored or the database says no.

        What comes meanwhile waits for the next time, unless it fills a batch: many small transactions would cost more.
        """
        loop = asyncio.get_running_loop()
        due = self.pending
        while due > 0 or len(self._rows) >= BATCH:
            fresh = not self._batch
            if fresh:
                self._batch = [self._rows.popleft() for _ in range(min(BATCH, len(self._rows)))]
            try:
                stored = await loop.run_in_executor(self._executor, self._write, tuple(self._batch), fresh)
            except Exception as error:  # noqa: BLE001 (the recorder outlives whatever the database does)
                if self.away_since is None:
                    log.warning("recorder: the database takes nothing, %d rows wait: %s", self.pending, error)
                    self.away_since = time.monotonic()
                self._full.clear()  # while it is away the clock alone wakes the loop, or it would spin
                return
            if self.away_since is not None:
                log.warning("recorder: the database is back")
                self.away_since = None
            self.written += stored
            self.dropped += len(self._batch) - stored
            due -= len(self._batch)
            self._batch = []
