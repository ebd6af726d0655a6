"""Jobs of `/v1/batches`: ordered with a file of requests, which a step reads and checks before the work begins."""

import time
from collections import deque
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any

from django.db import IntegrityError, transaction

from fleet.models import BatchFile, BatchJob, JobState
from fleet.selectors.batch import unread
from fleet.services.batch import engine, files, jobs
from fleet.services.batch.engine import Step
from fleet.services.batch.jobs import NotNow, Owner
from fleet.services.batch.requests import Fault, Reading

#: Seconds after which the reading of a large file goes on in another step.
READ_S = 60.0
#: Seconds after which a file that is not read yet is handed over again.
LOST_S = 60.0
READ = Step("read_file")


def order(
    owner: Owner, file: BatchFile, endpoint: str, window: str, lasts: timedelta, metadata: dict[str, Any]
) -> BatchJob:
    """A job that is being validated: its file is read soon."""
    with transaction.atomic():
        job = jobs.begin(owner, endpoint=endpoint, metadata=metadata, lasts=lasts)
        job.source, job.window = file.public_id, window
        job.save(update_fields=["source", "window"])
        hand_over(job)
    return job


def hand_over(job: BatchJob) -> None:
    transaction.on_commit(partial(engine.engine().enqueue, READ, job.pk))


def read_file(job_id: int) -> str:
    """Turn a job's file into items and let the work begin, or let the job fail with what is wrong with the file.

    A step that is run again goes on where the last one stopped. Of two at once one finds that its items are there.
    """
    job = BatchJob.objects.filter(pk=job_id, state=JobState.VALIDATING).exclude(source="").first()
    if job is None:
        return "there is nothing to read"
    file = BatchFile.objects.filter(public_id=job.source, complete=True).first()
    if file is None:
        refuse(job, [Fault("file_not_found", "The input file was deleted before it was read.", "input_file_id")])
        return "the file is gone"
    with files.opened(file) as source:
        reading = Reading(job.endpoint, source)
        try:
            done = take(job, reading)
        except IntegrityError:
            return "another step reads it"
    if done and reading.faults:
        refuse(job, reading.faults)
        return f"{len(reading.faults)} faults"
    if done:
        begin(job, reading.models)
    return f"{job.total} requests"


def take(job: BatchJob, reading: Reading) -> bool:
    """Make items of requests, those of steps before this one passed over; whether all of them were seen."""
    until, requests = time.monotonic() + READ_S, iter(reading)
    deque(islice(requests, job.total), maxlen=0)
    while some := list(islice(requests, jobs.TOGETHER)):
        if not reading.faults:
            jobs.add(job, some)
        job.refresh_from_db(fields=["state"])
        if job.state != JobState.VALIDATING:
            return False
        if time.monotonic() > until:
            hand_over(job)
            return False
    return True


def begin(job: BatchJob, models: set[str]) -> None:
    """The requests are fit. A job for one model says which: where nobody has that, the job fails at once."""
    if len(models) == 1:
        [model] = models
        BatchJob.objects.filter(pk=job.pk).update(model=model[:255])
    try:
        jobs.submit(job)
    except NotNow:
        return  # it was cancelled meanwhile


def refuse(job: BatchJob, faults: list[Fault]) -> None:
    BatchJob.objects.filter(pk=job.pk).update(faults=[fault._asdict() for fault in faults], total=0, characters=0)
    first = faults[0]
    place = "" if first.line is None else f"line {first.line}: "
    jobs.reject(job, f"{place}{first.message}")
    files.emptied(job)


def hand_over_lost(now: datetime) -> int:
    """Hand over files again whose step is gone; how many there were."""
    lost = list(unread(now - timedelta(seconds=LOST_S)))
    for job in lost:
        hand_over(job)
    return len(lost)
