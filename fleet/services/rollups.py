"""Adds the history up by hour and day, step by step; repeated or run twice at once it counts nothing twice."""

import time
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from django.db import transaction
from django.db.models import Case, CharField, Count, DateTimeField, F, Func, Max, Min, Q, Sum, Value, When
from django.db.models.functions import Coalesce, Greatest
from django.utils import timezone

from fleet.models import RequestRecord, Rollup, RollupMark, Span
from fleet.services.upsert import Upsert

#: Ids that one step takes: a step's transaction writes for some milliseconds only.
STEP = 20_000
#: Seconds after which every row with an id lower than one that was visible is visible, or will never be.
SETTLED_S = 20.0
NOT_FOUND = 404

KEY = ("span", "begins", "team_name", "model", "node_name", "task_type")
AMOUNTS = (
    "requests", "errors", "refused", "cancelled", "retries", "resumed", "tokens_in", "tokens_out", "seconds",
    "queue_seconds", "first_byte_seconds", "first_bytes",
)  # fmt: skip


class Hour(Func):
    """The hour of a moment, in UTC: as text `2026-05-04 12` in SQLite, where Django's own would call Python by row."""

    function = "DATE_TRUNC"
    template = "DATE_TRUNC('hour', %(expressions)s, 'UTC')"
    output_field = DateTimeField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="SUBSTR(%(expressions)s, 1, 13)", **context)

    def convert_value(self, value: Any, expression: Any, connection: Any) -> datetime:
        if isinstance(value, str):
            return datetime.strptime(value, "%Y-%m-%d %H").replace(tzinfo=UTC)
        return value.astimezone(UTC)  # type: ignore[no-any-return]  # a datetime


def total(expression: Any) -> Coalesce:
    return Coalesce(Sum(expression), 0)


def summed(above: int, to: int) -> list[tuple[Any, ...]]:
    """The hours' sums of the requests with ids above one and up to the other, in the order of `KEY` and `AMOUNTS`.

    A model that no node knows is left unnamed: clients could make up names without end.
    """
    unknown = When(node_name="", status=NOT_FOUND, then=Value(""))
    rows = (
        RequestRecord.objects.filter(pk__gt=above, pk__lte=to)
        .order_by()
        .annotate(
            hour=Hour("started_at"),
            asked=Case(unknown, default=F("model"), output_field=CharField()),
        )
        .values("hour", "team_name", "asked", "node_name", "task_type")
        .annotate(
            n=Count("pk"),
            errors=Count("pk", filter=Q(outcome="failed")),
            refused=Count("pk", filter=Q(outcome__in=("refused", "expired"))),
            cancelled=Count("pk", filter=Q(outcome="cancelled")),
            retries=total(Greatest(F("attempts") - 1, 0)),
            resumes=total("resumed"),
            tokens_in=total("prompt_tokens"),
            tokens_out=total("output_tokens"),
            worked=Sum(Greatest(F("total_ms") - F("queue_ms"), 0.0)) / 1000.0,
            waited=Sum("queue_ms") / 1000.0,
            first=Coalesce(Sum("first_byte_ms"), 0.0) / 1000.0,
            firsts=Count("first_byte_ms"),
        )
    )
    return [
        (Span.HOUR.value, *row)
        for row in rows.values_list(
            "hour", "team_name", "asked", "node_name", "task_type", "n", "errors", "refused", "cancelled", "retries",
            "resumes", "tokens_in", "tokens_out", "worked", "waited", "first", "firsts",
        )
    ]  # fmt: skip


def days_of(hours: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The same sums by day."""

    def key(row: tuple[Any, ...]) -> tuple[Any, ...]:
        return (Span.DAY.value, row[1].replace(hour=0), *row[2 : len(KEY)])

    return [
        (*day, *(sum(values) for values in zip(*(row[len(KEY) :] for row in rows), strict=True)))
        for day, rows in groupby(sorted(hours, key=key), key)
    ]


def look(now: datetime) -> tuple[int, int]:
    """From which id to which may be added up now; notes what is visible for the next look."""
    mark, _ = RollupMark.objects.get_or_create(pk=1)
    newest = RequestRecord.objects.aggregate(newest=Max("pk"))["newest"] or 0
    until = mark.done
    if mark.seen_at is not None and mark.seen_at > now:  # the clock was set back
        mark.seen_at = None
    if mark.seen_at is not None and mark.seen_at <= now - timedelta(seconds=SETTLED_S):
        until = max(mark.seen, mark.done)
        mark.seen_at = None
    if mark.seen_at is None:
        RollupMark.objects.filter(pk=1).update(seen=newest, seen_at=now)
    return mark.done, until


def step(done: int, to: int) -> int | None:
    """Add up the requests with these ids, all or nothing; returns how many, or None if somebody else was faster."""
    hours = summed(done, to)
    with transaction.atomic():
        # Who moves the mark adds; the other waits for the row, finds it moved, and has nothing to do.
        if not RollupMark.objects.filter(pk=1, done=done).update(done=to):
            return None
        Upsert(Rollup, KEY, added=AMOUNTS).write([*hours, *days_of(hours)])
    return sum(int(row[len(KEY)]) for row in hours)


def roll_up(seconds: float = 45.0) -> int:
    """Add up what has settled; stops after `seconds` of work and goes on the next time. Returns how many requests."""
    until = time.monotonic() + seconds
    done, last = look(timezone.now())
    oldest = RequestRecord.objects.aggregate(oldest=Min("pk"))["oldest"] or 0
    added = 0
    while done < last and time.monotonic() < until:
        to = min(max(done, oldest - 1) + STEP, last)
        more = step(done, to)
        if more is None:
            break
        done, added = to, added + more
    return added


def keep(hour_days: int, day_days: int) -> int:
    """Delete hours and days that began longer ago than that; returns how many rows went."""
    now = timezone.now()
    hours = Rollup.objects.filter(span=Span.HOUR, begins__lt=now - timedelta(days=hour_days))
    days = Rollup.objects.filter(span=Span.DAY, begins__lt=now - timedelta(days=day_days))
    return hours.delete()[0] + days.delete()[0]
