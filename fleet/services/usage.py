"""Adds up what teams use: each gateway hands over what came to it since the last time."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from django.db import transaction

from fleet.models import Quota, QuotaLevel, Team, UsageDay, lock
from fleet.models.policy import HIGHEST, LOWEST
from fleet.services.upsert import Upsert
from routing.core.usage import DayUse, Level, Use

AMOUNTS = Use._fields
#: Days of use that are kept in any case: quotas of a month count this one, people compare it with the last one.
LEAST_DAYS = 62
#: Hours after which a level tells nothing: a quota that refills continuously is full again within a minute.
LEVEL_HOURS = 24


def add_usage(days: Iterable[DayUse], levels: Iterable[Level]) -> None:
    """Add what was used and replace the levels, all or nothing; what is of no team or no quota is left out."""
    sums: dict[tuple[int, int, int], Use] = {}
    for row in days:
        if LOWEST <= row.priority <= HIGHEST:
            key = (row.team_id, row.day, row.priority)
            before = sums.get(key)
            sums[key] = row.use if before is None else both(before, row.use)
    newest = list(levels)
    if not sums and not newest:
        return
    with transaction.atomic():
        lock()  # the same first step as every writer's: no team and no quota goes meanwhile
        if sums:
            teams = set(Team.objects.filter(pk__in={team for team, _, _ in sums}).values_list("pk", flat=True))
            Upsert(UsageDay, ("team", "day", "priority"), added=AMOUNTS).write(
                (team, date.fromordinal(day), priority, *use)
                for (team, day, priority), use in sums.items()
                if team in teams
            )
        if newest:
            quotas = set(Quota.objects.filter(pk__in={row.quota_id for row in newest}).values_list("pk", flat=True))
            Upsert(QuotaLevel, ("quota",), replaced=("level", "at")).write(
                (row.quota_id, row.level, datetime.fromtimestamp(row.at, UTC))
                for row in newest
                if row.quota_id in quotas
            )


def both(one: Use, other: Use) -> Use:
    return Use(
        one.requests + other.requests,
        one.tokens_in + other.tokens_in,
        one.tokens_out + other.tokens_out,
        one.gpu_seconds + other.gpu_seconds,
    )


def tidy(now: datetime, days: int) -> tuple[int, int]:
    """Delete days of use that began longer ago than that, and levels that are long refilled; how many of each."""
    oldest = now.date() - timedelta(days=max(days, LEAST_DAYS))
    old = UsageDay.objects.filter(day__lt=oldest).delete()[0]
    return old, QuotaLevel.objects.filter(at__lt=now - timedelta(hours=LEVEL_HOURS)).delete()[0]


def load_usage(today: date) -> tuple[tuple[DayUse, ...], tuple[Level, ...]]:
    """The totals of the days of this month (UTC), and all levels."""
    days = UsageDay.objects.filter(day__gte=today.replace(day=1)).order_by("team_id", "day", "priority")
    levels = QuotaLevel.objects.order_by("quota_id").values_list("quota_id", "level", "at")
    return (
        tuple(
            DayUse(team, day.toordinal(), priority, Use(*amounts))
            for team, day, priority, *amounts in days.values_list("team_id", "day", "priority", *AMOUNTS)
        ),
        tuple(Level(quota, level, at.timestamp()) for quota, level, at in levels),
    )
