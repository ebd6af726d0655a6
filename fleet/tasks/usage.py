"""Windows of quotas that are long over go."""

from django.conf import settings
from django.utils import timezone

from fleet.services import usage


def tidy() -> str:
    """Delete what was used in windows that no quota counts any more; the returned line is what is told of it."""
    days, levels = usage.tidy(timezone.now(), settings.ENV.sollol_rollup_days)
    return f"{days} days of use and {levels} levels deleted"
