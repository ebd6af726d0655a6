"""Reads of teams."""

from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from fleet.models import Team
from fleet.selectors.keys import usable


def teams() -> QuerySet[Team]:
    """The teams with their policy and the counts `people` and `active_keys`, in one query."""
    keys = usable().select_related(None).filter(team=OuterRef("pk")).order_by().values("team")
    return Team.objects.select_related("policy").annotate(
        people=Count("members", distinct=True),
        active_keys=Coalesce(Subquery(keys.annotate(n=Count("pk")).values("n"), output_field=IntegerField()), 0),
    )
