"""Writes nodes or policies as CSV or YAML."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from fleet.models import Node
from fleet.selectors.usage import policies
from fleet.services.imports import PLANS
from fleet.services.texts import FORMATS, node_rows, policy_rows, written


class Command(BaseCommand):
    help = "Write all nodes or policies to stdout, as `import_fleet` and admin read them. Credentials are left out."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("what", choices=sorted(PLANS))
        parser.add_argument("--format", choices=FORMATS, default="yaml", help="Default: yaml.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["what"] == "nodes":
            rows = node_rows(Node.objects.order_by("name"))
        else:
            rows = policy_rows(policies(timezone.now().date()))
        self.stdout.write(written(rows, options["format"]), ending="")
