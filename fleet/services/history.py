"""Removes old history, in small steps, so that no writer waits long."""

import time
from datetime import timedelta
from typing import Any

from django.db import models
from django.utils import timezone

from fleet.selectors.history import old_events, old_requests

BATCH = 1000


def prune(days: int, seconds: float = 90.0) -> int:
    """Delete request history and node events older than `days`; returns how many rows went.

    Stops after `seconds`; what is left goes the next time.
    """
    before, until = timezone.now() - timedelta(days=days), time.monotonic() + seconds
    return sum(prune_rows(rows, until) for rows in (old_requests(before), old_events(before)))


def prune_rows(rows: models.QuerySet[Any], until: float) -> int:
    gone = 0
    while time.monotonic() < until:
        oldest = list(rows.values_list("pk", flat=True)[:BATCH])
        if not oldest:
            break
        gone += rows.model._default_manager.filter(pk__in=oldest).delete()[0]  # noqa: SLF001 (Django's public name for it)
    return gone
