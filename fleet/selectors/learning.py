"""Reads of what was learned."""

from django.db.models import QuerySet

from fleet.models import LearnedSpeed


def speeds() -> QuerySet[LearnedSpeed]:
    """Learned speeds, each with its node."""
    return LearnedSpeed.objects.select_related("node").order_by("node__name", "model", "pk")
