"""Reads nodes or policies from CSV or YAML."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from fleet.services.imports import PLANS, carry_out
from fleet.services.texts import FORMATS, read


class Command(BaseCommand):
    help = (
        "Tell what a file would change in nodes or policies, and with --apply change it, all or nothing. "
        "A node is known by its name, a policy by its team; columns that are not there stay as they are."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("what", choices=sorted(PLANS))
        parser.add_argument("file", help="The file; - reads stdin.")
        parser.add_argument("--format", choices=FORMATS, help="Default: by the file's name, else yaml.")
        parser.add_argument("--apply", action="store_true", help="Change it; without this nothing changes.")

    def handle(self, *args: Any, **options: Any) -> None:
        name: str = options["file"]
        form = options["format"] or ("csv" if name.lower().endswith(".csv") else "yaml")
        try:
            text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8-sig")
            plan = PLANS[options["what"]](read(text, form))
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise CommandError(f"nothing was imported: {error}") from None
        if plan.faults:
            raise CommandError("nothing was imported:\n" + "\n".join(f"  {fault}" for fault in plan.faults))
        for change in plan.changes:
            self.stdout.write(f"{change.kind:8} {change.name}")
            for line in change.lines():
                self.stdout.write(f"         {line}")
        if not options["apply"]:
            self.stdout.write("nothing was changed; to do it, run this again with --apply")
            return
        try:
            done = carry_out(plan)
        except ValueError as error:
            raise CommandError(f"nothing was imported: {error}") from None
        self.stdout.write(f"imported: {len(done)} of {len(plan.changes)} rows were new or different")
