"""The schedules of the background tasks, made after migrations, and what is noted of their runs."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, transaction
from django.db.models import F
from django.utils import timezone

from fleet.models import ScheduledRun
from fleet.models.scheduled import LONGEST_TOLD

SWEEP = "fleet: health sweep"
PRUNE = "fleet: prune history"
ROLL_UP = "fleet: roll up history"
COMPACT = "fleet: compact learned profiles"
QUOTAS = "fleet: quota windows"
#: Under which name a task carries the moment at which a worker began with it.
BEGAN = "sollol_began"
#: A run that ended so long after now was noted by a clock that has been set back since.
AHEAD = timedelta(minutes=10)
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
        COMPACT: {"func": "fleet.tasks.learning.compact", "schedule_type": Schedule.DAILY},
        QUOTAS: {"func": "fleet.tasks.usage.tidy", "schedule_type": Schedule.HOURLY},
        BATCH: {"func": "fleet.tasks.batch.look_after", "schedule_type": Schedule.MINUTES, "minutes": 1},
        BATCH_CLEAN: {"func": "fleet.tasks.batch.clean_up", "schedule_type": Schedule.HOURLY},
    }
    rows = Schedule.objects.using(using)
    known = set(rows.filter(name__in=wanted).values_list("name", flat=True))
    for name, columns in wanted.items():
        if name not in known:
            rows.create(name=name, **columns)


def begun(task: dict[str, Any], **signal: Any) -> None:
    """A worker begins with a task; what django-q2 calls its start is when it was queued."""
    task[BEGAN] = timezone.now()


def ended(task: Mapping[str, Any], **signal: Any) -> None:
    """A task has ended; if it belongs to a schedule, that is noted. Called in the process that stores results."""
    from django_q.models import Schedule  # noqa: PLC0415 (as above)

    name = task.get("group")
    if name and Schedule.objects.filter(name=name).exists():
        began, stopped = task.get(BEGAN) or task["started"], task["stopped"]
        note(str(name), stopped, (stopped - began).total_seconds(), str(task["result"] or ""), good=task["success"])


def note(name: str, at: datetime, seconds: float, result: str, *, good: bool) -> None:
    """Note a run; of an error its first line, without the way to it."""
    told = result.replace("\0", "") if good else result.split(" : Traceback", 1)[0].replace("\0", "")
    columns: dict[str, Any] = {
        "ended_at": at,
        "seconds": max(0.0, seconds),
        "good": good,
        "told": told.strip().partition("\n")[0][:LONGEST_TOLD],
        **({"good_at": at} if good else {}),
    }
    with transaction.atomic():
        ScheduledRun.objects.get_or_create(name=name, defaults={**columns, "failures": 0})
        # The row is locked by the change itself, so that of several workers each failure is counted.
        ScheduledRun.objects.filter(name=name).update(**columns, failures=0 if good else F("failures") + 1)


def mend(now: datetime) -> int:
    """Let run now what a clock that was set back would keep waiting for as long; returns how many schedules that is."""
    from django_q.models import Schedule  # noqa: PLC0415 (as above)

    ahead = list(ScheduledRun.objects.filter(ended_at__gt=now + AHEAD).values_list("name", flat=True))
    late = Schedule.objects.filter(name__in=ahead, next_run__gt=now)
    moved: int = late.update(next_run=now) if ahead else 0
    return moved


def tidy(before: datetime) -> int:
    """Delete what is noted of failures and schedules that are gone since then; returns how many rows went.

    django-q2 keeps each failure for ever.
    """
    from django_q.models import Failure, Schedule  # noqa: PLC0415 (as above)

    gone: int = Failure.objects.filter(stopped__lt=before).delete()[0]
    names = Schedule.objects.exclude(name=None).values("name")
    return gone + ScheduledRun.objects.filter(ended_at__lt=before).exclude(name__in=names).delete()[0]
