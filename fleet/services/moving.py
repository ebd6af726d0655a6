"""Moves all rows of a SQLite installation to an empty PostgreSQL database, in one transaction of each."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from graphlib import TopologicalSorter
from typing import Any

import dj_database_url
import psycopg
from django.apps import apps
from django.db import DatabaseError, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder

#: Name of the target among Django's connections, while it is there.
TARGET = "target"
#: Rows that are in memory at a time, and of tables with binary values, which may be a megabyte each.
TOGETHER, FEW = 2000, 50
#: Seconds to wait for a writer of the file, and for others' locks in the target.
LOCK_S = 5
#: What `migrate` itself fills; in an empty database the other tables have no row.
FILLED = {"django_content_type", "auth_permission", "auth_group", "auth_group_permissions", "django_q_schedule"}
SUM = 1 << 128
#: What an address of PostgreSQL looks like.
LIKE = "postgres://user:password@host:5432/name"

#: Told of each table while it is copied and compared: rows done.
Told = Callable[["Table", int], None]


class NotMoved(Exception):  # noqa: N818 (named after what happened)
    """Nothing was moved; the text says why and what to do."""


# Values


def plain_moment(value: datetime | str) -> datetime:
    """In UTC without a zone, as SQLite's text has it."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def plain_json(text: str) -> str:
    """One text for all that mean the same: `jsonb` orders the keys, and writes 1e16 as an integer and -0.0 as 0."""
    return json.dumps(json.loads(text, parse_int=float, parse_float=number), sort_keys=True)


def number(text: str) -> float:
    return float(text) + 0.0


def plain_day(value: date | str) -> date:
    return date.fromisoformat(value) if isinstance(value, str) else value


def same(value: Any) -> Any:
    return value


#: By type of a field: how SQLite's value is handed to PostgreSQL, and how a value of either is compared.
KINDS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    **dict.fromkeys(("AutoField", "BigAutoField", "BigIntegerField", "IntegerField", "SmallIntegerField"), (same, int)),
    **dict.fromkeys(
        ("PositiveIntegerField", "PositiveBigIntegerField", "PositiveSmallIntegerField"),
        (same, int),
    ),
    **dict.fromkeys(("CharField", "TextField", "SlugField"), (same, str)),
    "FloatField": (float, float),
    "BooleanField": (bool, bool),
    "DateField": (same, plain_day),
    "DateTimeField": (lambda value: plain_moment(value).replace(tzinfo=UTC), plain_moment),
    "JSONField": (same, plain_json),
    "BinaryField": (bytes, bytes),
}


class Column:
    """A column, and what is to be done with its values."""

    def __init__(self, field: Any) -> None:
        real = field
        while real.remote_field:
            real = real.target_field
        kind = real.get_internal_type()
        if kind not in KINDS:
            raise NotMoved(f"{field} is of a kind that this command does not know: {kind}")
        self.name: str = field.column
        self.key = isinstance(field, models.AutoField)
        self.sent, self.compared = KINDS[kind]


class Table:
    """A model's table; `digest` is the same for the same rows in any order."""

    def __init__(self, model: type[models.Model]) -> None:
        options = model._meta  # noqa: SLF001 (Django's public name for it)
        self.name = options.db_table
        self.columns = [Column(field) for field in options.concrete_fields]
        self.key = next((column.name for column in self.columns if column.key), "")
        self.place = next(i for i, field in enumerate(options.concrete_fields) if field.primary_key)
        large = any(field.get_internal_type() == "BinaryField" for field in options.concrete_fields)
        self.together = FEW if large else TOGETHER
        self.rows, self.digest = 0, 0

    @property
    def listed(self) -> str:
        return ", ".join(f'"{column.name}"' for column in self.columns)

    def read(self) -> str:
        return f'SELECT {self.listed} FROM "{self.name}"'  # noqa: S608 (names of ours)

    def sent(self, row: Sequence[Any]) -> list[Any]:
        return [None if value is None else column.sent(value) for column, value in zip(self.columns, row, strict=True)]

    def mark(self, row: Sequence[Any]) -> int:
        """A number that stands for the row's values."""
        values = [
            None if value is None else column.compared(value) for column, value in zip(self.columns, row, strict=True)
        ]
        return int.from_bytes(hashlib.blake2b(repr(values).encode("utf-8", "replace"), digest_size=16).digest())


def tables() -> list[Table]:
    """All tables of models, each after those that it refers to."""
    known = [
        model
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed and not model._meta.proxy  # noqa: SLF001
    ]
    order: TopologicalSorter[type[models.Model]] = TopologicalSorter()
    for model in known:
        fields = model._meta.concrete_fields  # noqa: SLF001
        order.add(model, *(field.related_model for field in fields if field.related_model))
    return [Table(model) for model in order.static_order()]


# The two databases


@contextmanager
def target(url: str) -> Iterator[BaseDatabaseWrapper]:
    """The database at the address, as one of Django's. Raises NotMoved."""
    try:
        parsed = dj_database_url.parse(url)
    except ValueError:
        raise NotMoved(
            "the target's address cannot be read; it is like postgres://user:password@host:5432/name"
        ) from None
    if not str(parsed.get("ENGINE", "")).endswith("postgresql"):
        raise NotMoved(f"the target's address is not one of PostgreSQL, such as {LIKE}")
    parsed.setdefault("OPTIONS", {}).setdefault("connect_timeout", LOCK_S)
    connections.databases[TARGET] = connections.configure_settings({"default": dict(parsed)})["default"]
    connection = connections[TARGET]
    try:
        connection.ensure_connection()
        yield connection
    except DatabaseError as error:
        raise NotMoved(f"PostgreSQL says: {one_line(error)}") from None
    finally:
        connection.close()
        del connections[TARGET], connections.databases[TARGET]


def one_line(error: Exception) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())


@contextmanager
def held(source: BaseDatabaseWrapper) -> Iterator[Any]:
    """A cursor of the file, in one transaction that keeps all writers out; it changes nothing. Raises NotMoved."""
    with source.cursor() as cursor:
        cursor.execute(f"PRAGMA busy_timeout = {LOCK_S * 1000}")
        try:
            cursor.execute("BEGIN IMMEDIATE")
        except DatabaseError as error:
            raise NotMoved(f"the SQLite file is in use ({one_line(error)}); stop what writes to it") from None
        try:
            yield cursor
        finally:
            cursor.execute("ROLLBACK")


def check_migrations(source: BaseDatabaseWrapper, to: BaseDatabaseWrapper) -> None:
    """Raise NotMoved unless both are as this version wants them."""
    applied = []
    for connection, name, hint in (
        (source, "the SQLite file", "manage.py migrate"),
        (to, "the target", "DATABASE_URL=(the target's address) manage.py migrate"),
    ):
        executor = MigrationExecutor(connection)
        if missing := executor.migration_plan(executor.loader.graph.leaf_nodes()):
            raise NotMoved(f"{name} lacks {len(missing)} migrations; run: {hint}")
        applied.append(set(MigrationRecorder(connection).applied_migrations()))
    if differing := sorted(f"{app}.{name}" for app, name in applied[0] ^ applied[1]):
        raise NotMoved(f"the two databases are of different versions: {', '.join(differing)}")


# The move


@dataclass
class Move:
    """One move; `copied` and `compared` hear of each table, how many of its rows were sent and how many came back."""

    source: BaseDatabaseWrapper
    to: BaseDatabaseWrapper
    copied: Told
    compared: Told

    def run(self) -> list[Table]:
        """Copy and compare everything, and commit; what fails or is broken off leaves the target as it was."""
        check_migrations(self.source, self.to)
        moved = tables()
        with held(self.source) as rows:
            self.to.set_autocommit(False)
            try:
                with self.to.cursor() as cursor:
                    self.empty(cursor, moved)
                    for table in moved:
                        self.copy(rows, cursor, table)
                    for table in moved:
                        self.number_on(rows, cursor, table)
                for table in moved:
                    self.compare(table)
                self.plan_with(moved)
                self.to.commit()
            except BaseException:
                self.to.rollback()
                raise
        return moved

    def empty(self, cursor: Any, moved: Sequence[Table]) -> None:
        """Take the tables for this transaction alone, and take away what `migrate` had put in."""
        names = ", ".join(f'"{table.name}"' for table in moved)
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_S}s'")
        try:
            cursor.execute(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE")
        except DatabaseError as error:
            raise NotMoved(f"the target is in use ({one_line(error)}); stop what works with it") from None
        filled = [table.name for table in moved if table.name not in FILLED and has_rows(cursor, table.name)]
        if filled:
            raise NotMoved(
                f"the target is not empty, there are rows in {', '.join(filled)}; give it a database that nothing but "
                "`manage.py migrate` has filled"
            )
        cursor.execute("SET LOCAL lock_timeout = 0")
        cursor.execute(f"TRUNCATE {names}")
        # Else what is to be checked at the end is remembered row by row.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")

    def copy(self, rows: Any, cursor: Any, table: Table) -> None:
        rows.execute(table.read())
        while chunk := read(rows, table):
            line = -1
            try:
                with cursor.copy(f'COPY "{table.name}" ({table.listed}) FROM STDIN') as copy:
                    for line, row in enumerate(chunk):  # noqa: B007 (told where one fails)
                        table.digest = (table.digest + table.mark(row)) % SUM
                        copy.write_row(table.sent(row))
            except (DatabaseError, psycopg.Error, ValueError, TypeError, OverflowError) as error:
                raise NotMoved(refused(table, chunk, line, error)) from None
            table.rows += len(chunk)
            self.copied(table, table.rows)

    def number_on(self, rows: Any, cursor: Any, table: Table) -> None:
        """New rows get ids above all that ever were: sums of the history go by them."""
        if not table.key:
            return
        rows.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", (table.name,))
        last = max((row[0] for row in rows.fetchall()), default=0)
        if last:
            cursor.execute("SELECT setval(pg_get_serial_sequence(%s, %s), %s)", (f'"{table.name}"', table.key, last))

    def plan_with(self, moved: Sequence[Table]) -> None:
        """Let PostgreSQL look at its new rows: without that the first lists would be read by bad plans."""
        with self.to.cursor() as cursor:
            cursor.execute("ANALYZE " + ", ".join(f'"{table.name}"' for table in moved))

    def compare(self, table: Table) -> None:
        """Read what has arrived and compare it with what was sent. Raises NotMoved."""
        count, digest = 0, 0
        with self.to.chunked_cursor() as cursor:
            cursor.execute(table.read())
            while chunk := cursor.fetchmany(table.together):
                count += len(chunk)
                digest = (digest + sum(map(table.mark, chunk))) % SUM
                self.compared(table, count)
        if (count, digest) != (table.rows, table.digest):
            raise NotMoved(f"{table.name} arrived differently: {table.rows} rows were sent, {count} came")


def read(rows: Any, table: Table) -> list[Any]:
    """The next rows of the SQLite file. Raises NotMoved where it is damaged."""
    try:
        chunk: list[Any] = rows.fetchmany(table.together)
    except DatabaseError as error:
        raise NotMoved(f"{table.name} cannot be read: {one_line(error)}") from None
    return chunk


def has_rows(cursor: Any, name: str) -> bool:
    cursor.execute(f'SELECT EXISTS (SELECT FROM "{name}")')  # noqa: S608 (names of ours)
    return bool(cursor.fetchone()[0])


def refused(table: Table, chunk: Sequence[Sequence[Any]], line: int, error: Exception) -> str:
    """Which row PostgreSQL did not take, and why."""
    told = re.search(r"COPY \w+, line (\d+)", str(error))
    row = chunk[int(told[1]) - 1 if told else max(line, 0)]
    return f"{table.name}, the row with the key {row[table.place]!r}, is none for PostgreSQL: {one_line(error)}"
