"""What was learned long ago goes."""

from django.conf import settings

from fleet.services import learning


def compact() -> str:
    """Delete what has not changed for as long as the history is kept; the returned line is what is told of it."""
    return f"{learning.compact(settings.ENV.sollol_history_days)} profiles deleted"
