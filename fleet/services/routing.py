"""Strategies: which one is the default."""

from django.db import transaction

from fleet.models import RoutingStrategy, bump


def make_default(strategy: RoutingStrategy) -> None:
    """Let the strategy hold wherever no rule names another; the one that did so before no longer does."""
    with transaction.atomic():
        bump()
        RoutingStrategy.objects.filter(is_default=True).exclude(pk=strategy.pk).update(is_default=False)
        RoutingStrategy.objects.filter(pk=strategy.pk).update(is_default=True)
    strategy.is_default = True
