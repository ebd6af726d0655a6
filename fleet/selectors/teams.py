"""Reads of teams."""

from datetime import date

from django.db.models import Count, IntegerField, OuterRef, Prefetch, QuerySet, Subquery
from django.db.models.functions import Coalesce

from fleet.models import Quota, Team
from fleet.selectors.keys import usable
from fleet.selectors.usage import with_used


def teams(today: date) -> QuerySet[Team]:
    """The teams with the counts `people` and `active_keys`, their policy, and its quotas as `with_used` finds them.

    In two queries; `today` is the day whose use counts.
    """
    keys = usable().select_related(None).filter(team=OuterRef("pk")).order_by().values("team")
    quotas = Prefetch("policy__quotas", with_used(Quota.objects.all(), today))
    return (
        Team.objects.select_related("policy")
        .prefetch_related(quotas)
        .annotate(
            people=Count("members", distinct=True),
            active_keys=Coalesce(Subquery(keys.annotate(n=Count("pk")).values("n"), output_field=IntegerField()), 0),
        )
    )
