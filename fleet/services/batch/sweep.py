"""What looks after jobs by schedule: steps that are gone, jobs that are due to end, callbacks, old jobs."""

import time
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from fleet.selectors import batch
from fleet.services.batch import callbacks, claims, files, jobs, orders

#: Hours after which a job whose inputs have stopped coming is given up.
VALIDATING_H = 24
#: Seconds that one clean-up takes; what is left goes the next time.
CLEAN_S = 60.0


def look_after() -> str:
    """Give lost lanes a new step, end what is due, try callbacks again; the returned line tells how many."""
    now = timezone.now()
    for job in batch.to_settle():
        claims.take_back(job)
        jobs.settle(job)
    lost = list(batch.lost_lanes(timezone.now()))
    for lane in lost:
        jobs.wake(lane.job, [lane])
    orders.hand_over_lost(now)
    for job in batch.abandoned(now - timedelta(hours=VALIDATING_H)):
        jobs.reject(job, "its inputs stopped coming")
    told = [callbacks.notify(job.pk) for job in batch.callbacks_due(now)]
    return f"{len(lost)} steps begun anew, {len(told)} callbacks tried"


def clean_up() -> str:
    """Delete jobs that ended so many days ago as the settings say."""
    until, gone = time.monotonic() + CLEAN_S, 0
    for job in jobs.outdated(batch.since(timezone.now(), settings.ENV.sollol_batch_days)):
        if time.monotonic() > until:
            break
        jobs.discard(job)
        gone += 1
    for file in files.outdated(batch.since(timezone.now(), settings.ENV.sollol_batch_days)):
        if time.monotonic() > until:
            break
        files.delete(file)
    return f"{gone} jobs deleted"
