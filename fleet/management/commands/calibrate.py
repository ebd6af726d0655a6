"""Measures nodes now and prints what came of it."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from fleet.selectors.nodes import named
from fleet.services.calibration import MODELS, SECONDS, calibrate


class Command(BaseCommand):
    help = (
        "Measure the speed of nodes with a few real requests to models that are loaded or fit beside those, one node "
        "after the other, and keep it. Ends with status 1 if a node could not be measured."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("names", nargs="*", help="Names of nodes; without any, all enabled nodes.")
        parser.add_argument("--models", type=int, default=MODELS, help=f"Models of each node. Default: {MODELS}.")
        parser.add_argument(
            "--seconds", type=float, default=SECONDS, help=f"Time for each node. Default: {SECONDS:.0f}."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            nodes = named(options["names"])
        except ValueError as error:
            raise CommandError(str(error)) from None
        if not options["names"]:
            nodes = [node for node in nodes if node.enabled]
        if not nodes:
            raise CommandError("there are no nodes in use; add one: manage.py seed_nodes gpu-1:11434?slots=4")
        failed = 0
        for node in nodes:
            self.stdout.write(f"{node.name} {node.url}")
            found = calibrate(node, self.tell, models=options["models"], seconds=options["seconds"])
            if not found.measured:
                failed += 1
                self.stdout.write(f"  not measured: {found}")
        if failed:
            raise CommandError(f"{failed} of {len(nodes)} nodes not measured")

    def tell(self, line: str) -> None:
        self.stdout.write(f"  {line}")
        self.stdout.flush()
