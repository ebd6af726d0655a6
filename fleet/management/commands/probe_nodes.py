"""Looks at nodes now and prints what each says."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from fleet.selectors.nodes import named
from fleet.services.health import sweep
from fleet.services.probe import Sighting

COLUMNS = ("NODE", "ADDRESS", "STATE", "VERSION", "MS", "MODELS", "LOADED", "ERROR")


class Command(BaseCommand):
    help = "Look at nodes now, store what they say, and print it as a table. Ends with status 1 if a node is down."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("names", nargs="*", help="Names of nodes; without any, all nodes, disabled ones too.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            nodes = named(options["names"])
        except ValueError as error:
            raise CommandError(str(error)) from None
        if not nodes:
            raise CommandError("there are no nodes; add one: manage.py seed_nodes gpu-1:11434?slots=4")
        sightings = sweep(nodes)
        rows = [COLUMNS, *(line(node.name, sighting) for node, sighting in zip(nodes, sightings, strict=True))]
        widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.stdout.write("  ".join(cells).rstrip())
        down = sum(not sighting.reachable for sighting in sightings)
        if down:
            raise CommandError(f"{down} of {len(sightings)} nodes down")


def line(name: str, sighting: Sighting) -> tuple[str, ...]:
    count = ["?" if models is None else str(len(models)) for models in (sighting.installed, sighting.resident)]
    known = sighting.reachable
    latency = "" if sighting.latency_ms is None else f"{sighting.latency_ms:.0f}"
    state = "up" if known else "down"
    return (name, sighting.url, state, sighting.version, latency, *(count if known else ("", "")), sighting.error)
