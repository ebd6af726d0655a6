"""Inserts or changes many rows in one statement, as plain SQL: model instances would cost the gateway more."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from django.db import connection, models

#: Rows in one statement; databases bound the number of values (SQLite 32,766, PostgreSQL 65,535).
TOGETHER = 500


class Upsert:
    """Rows of a model by what makes them unique: of one that is there, `replaced` are set and `added` added to."""

    def __init__(
        self,
        model: type[models.Model],
        unique: Sequence[str],
        replaced: Sequence[str] = (),
        added: Sequence[str] = (),
    ) -> None:
        options, quote = model._meta, connection.ops.quote_name  # noqa: SLF001 (Django's public name for it)
        self.fields: list[Any] = [options.get_field(name) for name in (*unique, *replaced, *added)]
        columns = {field.name: quote(field.column) for field in self.fields}
        table = quote(options.db_table)
        changes = [
            *(f"{columns[name]} = EXCLUDED.{columns[name]}" for name in replaced),
            *(f"{columns[name]} = {table}.{columns[name]} + EXCLUDED.{columns[name]}" for name in added),
        ]
        self.keys = len(unique)
        self.head = f"INSERT INTO {table} ({', '.join(columns.values())}) VALUES "  # noqa: S608 (names of ours)
        self.marks = f"({', '.join(['%s'] * len(columns))})"
        key = ", ".join(columns[name] for name in unique)
        self.tail = f" ON CONFLICT ({key}) DO UPDATE SET {', '.join(changes)}"

    def write(self, rows: Iterable[Sequence[Any]]) -> None:
        """Values in the order of unique, replaced, added; of two of one key the last counts. Wants a transaction."""
        single = list({tuple(row[: self.keys]): row for row in rows}.values())
        with connection.cursor() as cursor:
            for start in range(0, len(single), TOGETHER):
                some = [self.prepared(row) for row in single[start : start + TOGETHER]]
                sql = self.head + ", ".join([self.marks] * len(some)) + self.tail
                cursor.execute(sql, list(chain.from_iterable(some)))

    def prepared(self, row: Sequence[Any]) -> list[Any]:
        return [field.get_db_prep_save(value, connection) for field, value in zip(self.fields, row, strict=True)]
