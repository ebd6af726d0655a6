"""Makes sure that somebody can log into admin."""

import secrets
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction


class Command(BaseCommand):
    help = (
        "Create a superuser with a random password if there is no active one. The password is printed to stdout, alone "
        "on its line and once; nothing is printed to stdout if a superuser existed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--username", default="admin", help="Name of the superuser; default: admin.")

    def handle(self, *args: Any, **options: Any) -> None:
        name: str = options["username"]
        with transaction.atomic():
            if User.objects.filter(is_superuser=True, is_active=True).exists():
                self.stderr.write("an active superuser exists; nothing to do")
                return
            if User.objects.filter(username=name).exists():
                raise CommandError(f"user {name!r} exists but is no active superuser; give another --username")
            password = secrets.token_urlsafe(15)
            User.objects.create_superuser(name, password=password)
        self.stderr.write(f"superuser {name!r} created; its password, shown only now:")
        self.stdout.write(password)
