"""Pruning of history and of what was learned long ago, every day."""

from django.conf import settings

from fleet.services import history, learning


def prune() -> str:
    """Delete what is older than SOLLOL_HISTORY_DAYS; the returned line is what the task list shows."""
    days = settings.ENV.sollol_history_days
    gone = history.prune(days) + learning.compact(days)
    return f"{gone} rows older than {days} days deleted"
