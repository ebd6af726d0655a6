"""Looks for Ollama servers in a network and adds them on request."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from fleet.models.node import DEFAULT_PORT
from fleet.services.discovery import MOST, PARALLEL, Found, add, addresses, search
from fleet.services.health import sweep


class Command(BaseCommand):
    help = (
        "Look for Ollama servers at every address of a network, which must be named, and print those that answer. "
        "Nothing is added without --add; what is a node already stays as it is."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("network", help="In CIDR notation, for example 192.168.1.0/24, or a single address.")
        parser.add_argument(
            "--port",
            type=int,
            action="append",
            dest="ports",
            help=f"Port to look at; may be given several times. Default: {DEFAULT_PORT}.",
        )
        parser.add_argument(
            "--parallel", type=int, default=PARALLEL, help=f"Addresses looked at a time, 1 to 256. Default: {PARALLEL}."
        )
        parser.add_argument("--add", action="store_true", help="Add those found that are not nodes yet.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["parallel"] <= 256:  # noqa: PLR2004 (threads that any machine starts)
            raise CommandError("--parallel is between 1 and 256")
        try:
            urls = addresses(options["network"], options["ports"] or (DEFAULT_PORT,), MOST)
        except ValueError as error:
            raise CommandError(str(error)) from None
        found = []
        for one in search(urls, parallel=options["parallel"]):
            self.stdout.write(line(one))
            found.append(one)
        new = sum(one.known is None for one in found)
        self.stdout.write(f"{len(found)} Ollama servers at {len(urls)} addresses, {new} of them new")
        if options["add"]:
            self.add(found)
        elif new:
            self.stdout.write("to add them, run this again with --add")

    def add(self, found: list[Found]) -> None:
        try:
            nodes = add(found)
        except ValueError as error:
            raise CommandError(str(error)) from None
        sweep(nodes)
        for node in nodes:
            self.stdout.write(f"added {node.name} {node.url}; one slot, class gpu: set what it has in admin")


def line(found: Found) -> str:
    sighting = found.sighting
    models = "?" if sighting.installed is None else len(sighting.installed)
    state = "new" if found.known is None else f"node {found.known.name}"
    return f"{sighting.url}  Ollama {sighting.version}  {models} models  {sighting.latency_ms or 0:.0f} ms  {state}"
