"""Moves the rows of this SQLite installation to PostgreSQL."""

import os
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from fleet.management.sightings import running
from fleet.services.moving import Move, NotMoved, Table, target

#: Seconds between two lines about one table.
PACE_S = 5.0

NEXT = """
All {rows:,} rows of {tables} tables are there, and compare equal. Next:
  1. set DATABASE_URL to the target's address, in the environment or .env
  2. keep the data folder {folder}: it has the secret key, uploaded model files and logs
  3. start SOLLOL again
The SQLite file is as it was; as long as nothing was written to PostgreSQL, leaving DATABASE_URL empty goes back."""


class Command(BaseCommand):
    help = (
        "Move all rows of this SQLite installation to an empty PostgreSQL database on which `manage.py migrate` has "
        "run, and compare them there. SOLLOL has to be stopped. It happens in one transaction: a move that fails or is "
        "broken off leaves the target empty, and can be done again. The SQLite file is only read."
    )
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--to", required=True, metavar="URL", help="The target, as postgres://user:password@host:5432/name."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if connection.vendor != "sqlite":
            raise CommandError("nothing was moved: this installation is not on SQLite; run it without DATABASE_URL")
        file = Path(connection.settings_dict["NAME"])
        if not file.exists():
            raise CommandError(f"nothing was moved: there is no {file}")
        if found := running(settings.DATA_DIR, file.resolve(), os.getpid()):
            raise CommandError(f"nothing was moved: {', '.join(found)} works with {settings.DATA_DIR}; stop it first")
        self.begin = self.told_at = time.monotonic()
        try:
            with target(options["to"]) as to:
                moved = Move(connection, to, self.copied, self.compared).run()
        except NotMoved as error:
            raise CommandError(f"nothing was moved: {error}") from None
        except KeyboardInterrupt:
            raise CommandError("nothing was moved: it was broken off, and the target is empty as before") from None
        for table in moved:
            self.tell(f"{table.name:28} {table.rows:>12,} rows  {table.digest:032x}")
        rows = sum(table.rows for table in moved)
        self.tell(NEXT.format(rows=rows, tables=len(moved), folder=settings.DATA_DIR))

    def copied(self, table: Table, count: int) -> None:
        self.now_and_then(f"{table.name}: {count:,} rows copied")

    def compared(self, table: Table, count: int) -> None:
        self.now_and_then(f"{table.name}: {count:,} of {table.rows:,} rows compared")

    def now_and_then(self, line: str) -> None:
        if time.monotonic() > self.told_at + PACE_S:
            self.told_at = time.monotonic()
            self.tell(f"{self.told_at - self.begin:5.0f} s  {line}")

    def tell(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
