"""What teams have used, and how much of their quotas that is."""

from collections.abc import Iterable
from datetime import date, datetime

from django.db.models import Case, Expression, F, FloatField, OuterRef, Prefetch, QuerySet, Subquery, Sum, Value, When
from django.db.models.functions import Cast, Coalesce

from fleet.models import PriorityPolicy, Quota, QuotaLevel, UsageDay
from fleet.models.policy import LOWEST
from routing.core.snapshot import Measure, Window

MINUTE_S = 60.0


def usage() -> QuerySet[UsageDay]:
    """What was used, the newest day first, each with its team."""
    return UsageDay.objects.select_related("team").order_by("-day", "team__name", "-priority")


def with_used(quotas: QuerySet[Quota], today: date) -> QuerySet[Quota]:
    """The quotas with their levels, each with what was `used` in the day or month (UTC) that `today` is in.

    Those of a minute have no `used`; `taken` tells what is taken of any.
    """
    rows = UsageDay.objects.filter(
        team=OuterRef("policy__team"),
        day__gte=OuterRef("since"),
        priority__gte=Coalesce(OuterRef("from_priority"), LOWEST),
    )

    def total(amount: Expression | F) -> Coalesce:
        sums = rows.order_by().values("team").annotate(total=Cast(Sum(amount), FloatField())).values("total")
        return Coalesce(Subquery(sums, output_field=FloatField()), 0.0)

    return quotas.select_related("level").annotate(
        since=Case(When(window=Window.DAY.value, then=Value(today)), default=Value(today.replace(day=1))),
        used=Case(
            When(window=Window.MINUTE.value, then=None),
            When(measure=Measure.REQUESTS.value, then=total(F("requests"))),
            When(measure=Measure.TOKENS.value, then=total(F("tokens_in") + F("tokens_out"))),
            default=total(F("gpu_seconds")),
            output_field=FloatField(),
        ),
    )


def taken(quota: Quota, now: datetime) -> float:
    """What is taken of a quota of `with_used` at a moment; of one of a minute, what is not refilled yet."""
    used: float | None = getattr(quota, "used", None)
    if used is not None:
        return used
    try:
        level = quota.level
    except QuotaLevel.DoesNotExist:
        return 0.0
    elapsed = max(0.0, (now - level.at).total_seconds())
    return max(0.0, level.level - elapsed * quota.amount / MINUTE_S)


def fullest_of(quotas: Iterable[Quota], now: datetime) -> Quota | None:
    """Of quotas of `with_used` the one of which the largest part is taken."""
    return max(quotas, key=lambda quota: taken(quota, now) / quota.amount, default=None)


def policies(today: date) -> QuerySet[PriorityPolicy]:
    """The policies with their teams and quotas, these with what was used, in two queries."""
    quotas = Prefetch("quotas", with_used(Quota.objects.all(), today))
    return PriorityPolicy.objects.select_related("team").prefetch_related(quotas).order_by("team__name")
