"""Writes ended requests and node events in bulk, off the gateway's event loop, and outlives a database that is away."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import DataError, IntegrityError, close_old_connections, models, transaction

from fleet.models import Node, NodeEvent, RequestRecord, Team
from routing.core import records

log = logging.getLogger(__name__)

BATCH = 500
LONGEST_TEXT = 2000

Row = records.RequestRecord | records.NodeEvent
Store = Callable[[Sequence[Row]], int]


class Names:
    """Names of teams and nodes by id; remembered, so that a row of one that was just deleted still tells its name."""

    def __init__(self) -> None:
        self.teams: dict[int, str] = {}
        self.nodes: dict[int, str] = {}
        self.living_teams: set[int] = set()
        self.living_nodes: set[int] = set()

    def refresh(self, batch: Sequence[Row]) -> None:
        """Read the names that a batch needs, in two queries at most."""
        told = [row.team_id for row in batch if isinstance(row, records.RequestRecord)]
        teams = {team for team in told if team is not None}
        nodes = {row.node_id for row in batch if row.node_id is not None}
        found = dict(Team.objects.filter(pk__in=teams).values_list("pk", "name")) if teams else {}
        self.teams.update(found)
        self.living_teams = set(found)
        found = dict(Node.objects.filter(pk__in=nodes).values_list("pk", "name")) if nodes else {}
        self.nodes.update(found)
        self.living_nodes = set(found)


class DatabaseRecorder:
    """The recorder of a gateway: `request` and `event` append to a bounded buffer, one thread writes it each second.

    `dropped` counts rows lost: the buffer was full, the database could not take them, or it was away at the end.
    `written` counts rows stored, `pending` rows that wait. All calls belong to the event loop that called `start`.
    """

    def __init__(self, bound: int | None = None, store: Store | None = None, interval_s: float = 1.0) -> None:
        self.bound = settings.ENV.sollol_record_buffer if bound is None else bound
        self.dropped = 0
        self.written = 0
        self._store = store or DatabaseStore()
        self._interval_s = interval_s
        self._rows: deque[Row] = deque()
        self._batch: list[Row] = []
        self._full = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._away = False
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
        if len(self._rows) >= BATCH and not self._away:
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
            log.error("recorder: %d rows are lost, the database is away", self.pending)
            self.dropped += self.pending
            self._rows.clear()
            self._batch.clear()
        self._executor.shutdown(wait=False)

    async def _run(self) -> None:
        while not self._stopping:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), self._interval_s)
            self._full.clear()
            await self._flush()
        await self._flush()

    async def _flush(self) -> None:
        """Write batch after batch until nothing waits or the database says no."""
        loop = asyncio.get_running_loop()
        while self.pending:
            if not self._batch:
                self._batch = [self._rows.popleft() for _ in range(min(BATCH, len(self._rows)))]
            try:
                stored = await loop.run_in_executor(self._executor, self._store, tuple(self._batch))
            except Exception as error:  # noqa: BLE001 (the recorder outlives whatever the database does)
                if not self._away:
                    log.warning("recorder: the database is away, %d rows wait: %s", self.pending, error)
                self._away = True
                self._full.clear()  # while it is away the clock alone wakes the loop, or it would spin
                return
            if self._away:
                log.warning("recorder: the database is back")
                self._away = False
            self.written += stored
            self.dropped += len(self._batch) - stored
            self._batch = []


class DatabaseStore:
    """Stores a batch in one transaction; rows that the database cannot take are left out and told once.

    Called in the recorder's thread. Returns how many rows are stored; raises if the database is away, then none is.
    """

    def __init__(self) -> None:
        self.names = Names()
        self.told = False

    def __call__(self, batch: Sequence[Row]) -> int:
        try:
            self.names.refresh(batch)
            rows = [row for row in map(self.readable, batch) if row is not None]
            try:
                with transaction.atomic():
                    insert(rows)
            except BAD_ROW:
                with transaction.atomic():
                    rows = [row for row in rows if self.stored(row)]
            return len(rows)
        finally:
            close_old_connections()

    def readable(self, row: Row) -> models.Model | None:
        try:
            return (
                request_row(row, self.names) if isinstance(row, records.RequestRecord) else event_row(row, self.names)
            )
        except Exception as error:  # noqa: BLE001 (whatever is odd about one row is that row's loss alone)
            self.tell(row, error)
            return None

    def stored(self, row: models.Model) -> bool:
        try:
            with transaction.atomic():
                insert([row])
        except BAD_ROW as error:
            if isinstance(row, RequestRecord) and RequestRecord.objects.filter(request_id=row.request_id).exists():
                return True  # written before, but the answer to the commit was lost
            self.tell(row, error)
            return False
        return True

    def tell(self, row: object, error: Exception) -> None:
        if not self.told:
            log.error(
                "recorder: a row cannot be stored and is dropped (further ones are only counted): %r: %s", row, error
            )
        self.told = True


#: What a row's own content causes, as against a database that is away.
BAD_ROW = (DataError, IntegrityError, ValueError, TypeError, OverflowError)


def insert(rows: Iterable[models.Model]) -> None:
    by_kind: dict[type[models.Model], list[Any]] = {RequestRecord: [], NodeEvent: []}
    for row in rows:
        by_kind[type(row)].append(row)
    RequestRecord.objects.bulk_create(by_kind[RequestRecord])
    NodeEvent.objects.bulk_create(by_kind[NodeEvent])


def request_row(record: records.RequestRecord, names: Names) -> RequestRecord:
    team, node = record.team_id, record.node_id
    return RequestRecord(
        request_id=clip(RequestRecord, "request_id", record.request_id),
        started_at=datetime.fromtimestamp(record.started_at, UTC),
        route=clip(RequestRecord, "route", record.route),
        model=clip(RequestRecord, "model", record.model),
        task_type=clip(RequestRecord, "task_type", record.task_type),
        complexity=clip(RequestRecord, "complexity", record.complexity),
        priority=record.priority,
        stream=record.stream,
        outcome=records.Outcome(record.outcome).value,
        status=record.status,
        team_id=team if team in names.living_teams else None,
        team_name="" if team is None else names.teams.get(team, ""),
        key_prefix=clip(RequestRecord, "key_prefix", record.key_prefix),
        node_id=node if node in names.living_nodes else None,
        node_name="" if node is None else names.nodes.get(node, ""),
        attempts=record.attempts,
        queue_ms=record.queue_ms,
        first_byte_ms=record.first_byte_ms,
        total_ms=record.total_ms,
        prompt_tokens=record.prompt_tokens,
        output_tokens=record.output_tokens,
        error=text(record.error, LONGEST_TEXT),
        decision=record.decision.as_dict() if record.decision else {},
    )


def event_row(event: records.NodeEvent, names: Names) -> NodeEvent:
    return NodeEvent(
        node_id=event.node_id if event.node_id in names.living_nodes else None,
        node_name=names.nodes.get(event.node_id, ""),
        at=datetime.fromtimestamp(event.at, UTC),
        kind=clip(NodeEvent, "kind", event.kind),
        detail=text(event.detail, LONGEST_TEXT),
    )


def clip(model: type[models.Model], field: str, value: str) -> str:
    """A client chooses some of these texts (the model's name); a long one is cut, not lost."""
    return text(value, getattr(model._meta.get_field(field), "max_length", None) or LONGEST_TEXT)  # noqa: SLF001


def text(value: str, longest: int) -> str:
    return value.replace("\0", "").encode("utf-8", "replace").decode()[:longest]
