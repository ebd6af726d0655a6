"""The groups of people, and what each may do; made after migrations."""

from collections.abc import Iterable
from typing import Any

from django.db.models import Q

from fleet.selectors.access import LEAD, OPERATOR, VIEWER

#: What operators write; everything else is written by the machine.
WRITTEN = ("node", "team", "apikey", "prioritypolicy", "quota", "routingstrategy", "routingrule", "batchjob")
#: What operators may have done to rows that the machine writes.
ORDERED = ("change_prefillprobe",)
#: What a team lead may do, with rows of the own team.
LEADS = (
    "view_team",
    "change_team",
    "view_apikey",
    "add_apikey",
    "change_apikey",
    "view_prioritypolicy",
    "view_quota",
    "view_usageday",
    "view_rollup",
    "view_requestrecord",
    "view_batchjob",
    "add_batchjob",
    "change_batchjob",
    "delete_batchjob",
)


def ensure_groups(using: str = "default", **signal: Any) -> None:
    """Make the groups and give each what belongs to it; what they were given beside that stays.

    Runs after every migration, so that a new kind of row becomes visible to those who see the others.
    """
    from django.contrib.auth.models import Group, Permission  # noqa: PLC0415 (imported by an app's ready())
    from django.db import connections  # noqa: PLC0415 (beside the others)

    with connections[using].cursor() as cursor:
        if Permission._meta.db_table not in connections[using].introspection.table_names(cursor):  # noqa: SLF001
            return
    fleet = Q(content_type__app_label="fleet")
    tasks = Q(content_type__app_label="django_q", codename__startswith="view_")
    views = fleet & Q(codename__startswith="view_")
    writes = fleet & Q(codename__in=(*codenames(("add", "change", "delete"), WRITTEN), *ORDERED))
    people = Q(content_type__app_label="auth", codename="view_user")
    wanted = {
        OPERATOR: views | writes | tasks | people,
        LEAD: fleet & Q(codename__in=LEADS),
        VIEWER: views | tasks,
    }
    for name, permissions in wanted.items():
        group, _ = Group.objects.using(using).get_or_create(name=name)
        group.permissions.add(*Permission.objects.using(using).filter(permissions))


def codenames(verbs: Iterable[str], models: Iterable[str]) -> list[str]:
    return [f"{verb}_{model}" for verb in verbs for model in models]
