"""History: added up each minute, pruned each hour, with what is noted of failed tasks."""

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from fleet.services import history, rollups, schedules


def roll_up() -> str:
    """Add what has ended to the sums of its hour and day; the returned line is what the task list shows."""
    return f"{rollups.roll_up()} requests added up"


def prune() -> str:
    """Delete what is older or more than the settings allow, once it is added up."""
    env = settings.ENV
    rollups.roll_up(20.0)
    gone = history.prune(env.sollol_history_days, env.sollol_history_rows)
    gone += rollups.keep(env.sollol_history_days, env.sollol_rollup_days)
    gone += schedules.tidy(timezone.now() - timedelta(days=env.sollol_history_days))
    return f"{gone} rows deleted"
