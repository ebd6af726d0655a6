"""Adds nodes from SOLLOL_NODES or an argument."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from fleet.services.nodes import seed


class Command(BaseCommand):
    help = (
        "Add Ollama servers: [name=]host:port[?slots=4&vram_gb=24&ram_gb=64&cores=16&class=gpu&max_loaded=3&region=eu"
        "&weight=1&cost=0.5&label.rack=a1], comma separated. A node whose address is known stays as it is."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("nodes", nargs="?", help="The nodes; without it SOLLOL_NODES is read.")

    def handle(self, *args: Any, **options: Any) -> None:
        text: str = options["nodes"] if options["nodes"] is not None else settings.ENV.sollol_nodes
        try:
            seeded = seed(text)
        except ValueError as error:
            raise CommandError(str(error)) from None
        for node in seeded.created:
            self.stdout.write(f"added {node.name} {node.url} slots={node.slots}")
        for node in seeded.kept:
            self.stdout.write(f"kept  {node.name} {node.url}")
        if not seeded.created and not seeded.kept:
            self.stdout.write("no nodes given; set SOLLOL_NODES or name them: manage.py seed_nodes gpu-1:11434?slots=4")
