"""Issues an API key."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from fleet.models import ApiKey, Scope, Team
from fleet.services.keys import create


class Command(BaseCommand):
    help = "Issue an API key for a team. The key is printed to stdout, alone and once; only its SHA-256 is kept."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("team", help="Name of the team, any case.")
        parser.add_argument(
            "--name", default="default", help="What uses the key; unique in the team. Default: default."
        )
        parser.add_argument(
            "--scopes",
            default=Scope.INFERENCE.value,
            help=f"Comma separated, of {', '.join(Scope.values)}. Default: inference.",
        )
        parser.add_argument("--expires-days", type=float, help="Days until the key expires. Default: never.")
        parser.add_argument("--create-team", action="store_true", help="Create the team if there is none of this name.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with transaction.atomic():
                plain, key = self.create(**options)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        self.stderr.write(f"key {key.prefix} of team {key.team.name} ({', '.join(key.scopes)}), shown only now:")
        self.stdout.write(plain)

    def create(self, **options: Any) -> tuple[str, ApiKey]:
        team = Team.objects.filter(name__iexact=options["team"]).first()
        if team is None:
            if not options["create_team"]:
                known = ", ".join(Team.objects.values_list("name", flat=True)[:20]) or "none"
                raise CommandError(
                    f"no team is called {options['team']!r} (teams: {known}); add --create-team to create it"
                )
            team = Team(name=options["team"])
            team.full_clean()
            team.save()
        scopes = [scope.strip() for scope in options["scopes"].split(",") if scope.strip()]
        days: float | None = options["expires_days"]
        if days is not None and not 0 < days <= 36_500:  # noqa: PLR2004 (a hundred years)
            raise CommandError("--expires-days must be above 0 and at most 36500")
        expires_at = None if days is None else timezone.now() + timedelta(days=days)
        key, plain = create(team, options["name"], scopes, expires_at=expires_at)
        return plain, key
