"""Removes old history, in small steps, so that no writer waits long."""

import time
from datetime import timedelta
from typing import Any

from django.db import models
from django.utils import timezone

from fleet.selectors.history import events, old_events, old_requests, requests, surplus

BATCH = 1000


def prune(days: int, most: int = 0, seconds: float = 60.0) -> int:
    """Delete requests and node events older than `days`, and of each what is more than `most` rows (0: no limit).

    Stops after `seconds`; what is left goes the next time. Returns how many rows went.
    """
    before, until = timezone.now() - timedelta(days=days), time.monotonic() + seconds
    due = [old_requests(before), old_events(before)]
    if most:
        due += [surplus(requests(), most), surplus(events(), most)]
    return sum(prune_rows(rows, until) for rows in due)


def prune_rows(rows: models.QuerySet[Any], until: float) -> int:
    gone = 0
    while time.monotonic() < until:
        oldest = list(rows.values_list("pk", flat=True)[:BATCH])
        if not oldest:
            break
        gone += rows.model._default_manager.filter(pk__in=oldest).delete()[0]  # noqa: SLF001 (Django's public name for it)
    return gone
