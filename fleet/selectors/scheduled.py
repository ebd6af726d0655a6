"""Scheduled work: each schedule with its last run, its failures and its next run."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Count, Max
from django_q.models import Failure, Schedule, Task

from fleet.models import ScheduledRun

#: What names of our schedules begin with, and nobody needs to read.
OURS = "fleet: "
#: Failures in a row from which on a schedule is told to keep failing.
KEEPS_FAILING = 2
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
PERIODS = {
    Schedule.HOURLY: (HOUR, "hourly"),
    Schedule.DAILY: (DAY, "daily"),
    Schedule.WEEKLY: (7 * DAY, "weekly"),
    Schedule.BIWEEKLY: (14 * DAY, "every two weeks"),
    Schedule.MONTHLY: (28 * DAY, "monthly"),
    Schedule.BIMONTHLY: (56 * DAY, "every two months"),
    Schedule.QUARTERLY: (84 * DAY, "quarterly"),
    Schedule.YEARLY: (365 * DAY, "yearly"),
}


class Work(NamedTuple):
    """A schedule; `period` in seconds, None where it has none.

    `paused`: an operator has let it run no more. `ended_at`, `seconds`, `good` and `told` are of its last run, None
    before the first; `good_at` is when it last ended well, `failures` how often it has failed since, and
    `failures_day` how often within a day.
    """

    name: str
    every: str
    period: float | None
    paused: bool
    next_at: datetime | None
    ended_at: datetime | None
    seconds: float | None
    good: bool | None
    told: str
    good_at: datetime | None
    failures: int
    failures_day: int

    @property
    def keeps_failing(self) -> bool:
        return self.failures >= KEEPS_FAILING and not self.paused


class Sighting(NamedTuple):
    """All schedules, and when the worker last ended any task."""

    works: tuple[Work, ...]
    ended_at: datetime | None


def sighting(now: datetime) -> Sighting:
    """All that is known of scheduled work, in four queries."""
    runs = {run.name: run for run in ScheduledRun.objects.all()}
    lately = Failure.objects.filter(stopped__gte=now - timedelta(days=1)).order_by()
    failed = dict(lately.values("group").annotate(n=Count("pk")).values_list("group", "n"))
    works = [
        work(row, runs.get(row.name or ""), failed.get(row.name, 0)) for row in Schedule.objects.order_by("name", "pk")
    ]
    ended_at = Task.objects.order_by().aggregate(last=Max("stopped"))["last"]
    noted = max((run.ended_at for run in runs.values()), default=None)
    return Sighting(tuple(works), max(filter(None, (ended_at, noted)), default=None))


def work(row: Schedule, run: ScheduledRun | None, failures_day: int) -> Work:
    period, every = period_of(row)
    return Work(
        name=(row.name or row.func).removeprefix(OURS),
        every=every,
        period=period,
        paused=row.repeats == 0,
        next_at=row.next_run,
        ended_at=run.ended_at if run else None,
        seconds=round(run.seconds, 3) if run else None,
        good=run.good if run else None,
        told=run.told if run else "",
        good_at=run.good_at if run else None,
        failures=run.failures if run else 0,
        failures_day=failures_day,
    )


def period_of(row: Schedule) -> tuple[float | None, str]:
    """How many seconds lie between two runs, and the same in words."""
    if row.schedule_type == Schedule.MINUTES:
        minutes = row.minutes or 1
        return MINUTE * minutes, "every minute" if minutes == 1 else f"every {minutes} min"
    if row.schedule_type == Schedule.CRON:
        return None, f"cron {row.cron}"
    return PERIODS.get(row.schedule_type, (None, "once"))


def failing(works: Iterable[Work]) -> Iterator[tuple[str, str]]:
    """The schedules that keep failing, each with how often and why."""
    for one in works:
        if one.keeps_failing:
            yield one.name, f"has failed {one.failures} times in a row: {one.told or 'see the list of failed tasks'}"
