"""Stores ended requests and node events in bulk, as plain SQL: model instances would cost ten times the CPU."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from random import getrandbits
from typing import Any

import orjson
from django.db import DataError, IntegrityError, connection, models, transaction

from fleet.models import Node, NodeEvent, RequestRecord, Team
from fleet.services.connections import kept_connection
from routing.core import records

log = logging.getLogger(__name__)

LONGEST_TEXT = 2000
#: Rows in one statement; databases bound the number of values (SQLite 32,766, PostgreSQL 65,535).
TOGETHER = 500
#: Two requests that began within this are one and the same, told twice.
SAME_MOMENT_S = 0.001
#: Characters of a taken id that its successor keeps.
KEPT_OF_ID = 55

Row = records.RequestRecord | records.NodeEvent
#: Values in the order of a table's columns.
Values = tuple[Any, ...]

#: What a row's own content causes, as against a database that is away.
BAD_ROW = (DataError, IntegrityError, ValueError, TypeError, OverflowError)


class Table:
    """The insert statement of a model, for values in the order of its fields; the primary key is the database's."""

    def __init__(self, model: type[models.Model]) -> None:
        options = model._meta  # noqa: SLF001 (Django's public name for it)
        self.fields = [field for field in options.concrete_fields if not field.primary_key]
        self.limits = {field.name: getattr(field, "max_length", None) or LONGEST_TEXT for field in self.fields}
        quote = connection.ops.quote_name
        columns = ", ".join(quote(field.column) for field in self.fields if field.column)
        self.sql = f"INSERT INTO {quote(options.db_table)} ({columns}) VALUES "  # noqa: S608 (names of ours)
        self.marks = f"({', '.join(['%s'] * len(self.fields))})"

    def insert(self, rows: Sequence[Values]) -> None:
        """Many rows in one statement: for each statement the driver gives the interpreter's lock away and back."""
        with connection.cursor() as cursor:
            for start in range(0, len(rows), TOGETHER):
                some = rows[start : start + TOGETHER]
                cursor.execute(self.sql + ", ".join([self.marks] * len(some)), list(chain.from_iterable(some)))

    def clip(self, field: str, value: str) -> str:
        """A client chooses some texts (the model's name, an error): a long one is cut, not lost."""
        if not value.isascii() or "\0" in value:
            value = value.replace("\0", "").encode("utf-8", "replace").decode()
        return value[: self.limits[field]]


def started_at(request_id: str) -> float | None:
    """When the stored request of this id began, in epoch seconds; None where there is none."""
    moment = RequestRecord.objects.filter(request_id=request_id).values_list("started_at", flat=True).first()
    return None if moment is None else moment.timestamp()


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


class DatabaseStore:
    """Stores a batch in one transaction; rows that the database cannot take are left out and told once.

    Called in the recorder's thread. Returns how many rows are stored; raises if the database is away, then none is.
    """

    def __init__(self) -> None:
        self.names = Names()
        self.requests, self.events = Table(RequestRecord), Table(NodeEvent)
        self.zoned = True
        self.told = False

    def __call__(self, batch: Sequence[Row]) -> int:
        with kept_connection():
            self.names.refresh(batch)
            self.zoned = connection.features.supports_timezones
            rows = [(row, values) for row in batch if (values := self.readable(row)) is not None]
            try:
                with transaction.atomic():
                    self.insert(rows)
            except BAD_ROW:
                with transaction.atomic():
                    rows = [pair for pair in rows if self.stored(*pair)]
            return len(rows)

    def insert(self, rows: Sequence[tuple[Row, Values]]) -> None:
        self.requests.insert([values for row, values in rows if isinstance(row, records.RequestRecord)])
        self.events.insert([values for row, values in rows if isinstance(row, records.NodeEvent)])

    def readable(self, row: Row) -> Values | None:
        try:
            return self.request_values(row) if isinstance(row, records.RequestRecord) else self.event_values(row)
        except Exception as error:  # noqa: BLE001 (whatever is odd about one row is that row's loss alone)
            self.tell(row, error)
            return None

    def stored(self, row: Row, values: Values) -> bool:
        try:
            with transaction.atomic():
                self.insert([(row, values)])
        except BAD_ROW as error:
            if isinstance(row, records.RequestRecord) and (known := started_at(values[0])) is not None:
                if abs(known - row.started_at) < SAME_MOMENT_S:
                    return True  # written before, but the answer to the commit was lost
                # A client has chosen an id that was there already.
                return self.stored(row, (f"{values[0][:KEPT_OF_ID]}-{getrandbits(32):08x}", *values[1:]))
            self.tell(row, error)
            return False
        return True

    def tell(self, row: object, error: Exception) -> None:
        if not self.told:
            log.error(
                "recorder: a row cannot be stored and is dropped (further ones are only counted): %r: %s", row, error
            )
        self.told = True

    def request_values(self, record: records.RequestRecord) -> Values:
        """In the order of RequestRecord's fields."""
        clip, names = self.requests.clip, self.names
        team, node = record.team_id, record.node_id
        return (
            clip("request_id", record.request_id),
            self.moment(record.started_at),
            clip("route", record.route),
            clip("model", record.model),
            clip("task_type", record.task_type),
            clip("complexity", record.complexity),
            int(record.priority),
            bool(record.stream),
            records.Outcome(record.outcome).value,
            int(record.status),
            team if team in names.living_teams else None,
            "" if team is None else names.teams.get(team, ""),
            clip("key_prefix", record.key_prefix),
            node if node in names.living_nodes else None,
            "" if node is None else names.nodes.get(node, ""),
            int(record.attempts),
            int(record.resumed),
            float(record.queue_ms),
            None if record.first_byte_ms is None else float(record.first_byte_ms),
            float(record.total_ms),
            record.prompt_tokens,
            record.output_tokens,
            clip("error", record.error),
            orjson.dumps(record.decision.as_dict()).decode() if record.decision else "{}",
        )

    def event_values(self, event: records.NodeEvent) -> Values:
        """In the order of NodeEvent's fields."""
        clip, names = self.events.clip, self.names
        return (
            event.node_id if event.node_id in names.living_nodes else None,
            names.nodes.get(event.node_id, ""),
            self.moment(event.at),
            clip("kind", event.kind),
            clip("detail", event.detail),
        )

    def moment(self, epoch: float) -> datetime | str:
        """Epoch seconds as the database stores a moment: SQLite as text in UTC."""
        when = datetime.fromtimestamp(epoch, UTC)
        return when if self.zoned else str(when.replace(tzinfo=None))
