"""Pruning of history, every day."""

from django.conf import settings

from fleet.services import history


def prune() -> str:
    """Delete what is older than SOLLOL_HISTORY_DAYS; the returned line is what the task list shows."""
    days = settings.ENV.sollol_history_days
    return f"{history.prune(days)} rows older than {days} days deleted"
