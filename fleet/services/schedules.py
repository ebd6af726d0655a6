"""The schedules of the background tasks, made after migrations."""

from typing import Any

from django.db import connections

SWEEP = "fleet: health sweep"
PRUNE = "fleet: prune history"
ROLL_UP = "fleet: roll up history"
BATCH, BATCH_CLEAN = "fleet: look after batch jobs", "fleet: delete old batch jobs"


def ensure_schedules(using: str = "default", **signal: Any) -> None:
    """Add the schedules that are missing; what an operator changed in them stays."""
    from django_q.models import Schedule  # noqa: PLC0415 (imported by an app's ready(), before django_q's models may be)

    with connections[using].cursor() as cursor:
        if Schedule._meta.db_table not in connections[using].introspection.table_names(cursor):  # noqa: SLF001
            return
    wanted = {
        SWEEP: {"func": "fleet.tasks.health.sweep", "schedule_type": Schedule.MINUTES, "minutes": 1},
        PRUNE: {"func": "fleet.tasks.history.prune", "schedule_type": Schedule.HOURLY},
        ROLL_UP: {"func": "fleet.tasks.history.roll_up", "schedule_type": Schedule.MINUTES, "minutes": 1},
        BATCH: {"func": "fleet.tasks.batch.look_after", "schedule_type": Schedule.MINUTES, "minutes": 1},
        BATCH_CLEAN: {"func": "fleet.tasks.batch.clean_up", "schedule_type": Schedule.HOURLY},
    }
    rows = Schedule.objects.using(using)
    known = set(rows.filter(name__in=wanted).values_list("name", flat=True))
    for name, columns in wanted.items():
        if name not in known:
            rows.create(name=name, **columns)
