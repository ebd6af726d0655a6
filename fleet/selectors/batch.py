"""Reads of batch jobs: how far they are, how fast they go, and what has failed."""

from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Count, Q, QuerySet

from fleet.models import BatchItem, BatchJob, BatchLane, Endpoint, ItemState, JobState, NodeModel
from fleet.models.batch import ENDED, WORKING
from routing.core.names import canonical

#: Reasons of failures that are told one by one.
REASONS = 20
#: Seconds of the past from which a job's rate is told.
LATELY_S = 60.0


def jobs() -> QuerySet[BatchJob]:
    """All jobs, newest first, each with its team."""
    return BatchJob.objects.select_related("team").order_by("-created_at", "-id")


def open_jobs() -> QuerySet[BatchJob]:
    """Jobs that have not ended, the oldest first: what a dashboard shows."""
    states = (*WORKING, JobState.VALIDATING, JobState.PAUSED)
    return BatchJob.objects.filter(state__in=states).select_related("team").order_by("created_at", "id")


def ended_since(now: datetime, seconds: float) -> QuerySet[BatchJob]:
    """Jobs that have ended within the last seconds, the last one first."""
    rows = BatchJob.objects.filter(state__in=ENDED, ended_at__gte=now - timedelta(seconds=seconds))
    return rows.select_related("team").order_by("-ended_at")


class Progress(NamedTuple):
    """How far a job is: the part of its items that has ended, items per second lately, seconds that are left.

    None where that is not known: nothing has happened lately, or the job is not at work.
    """

    part: float
    rate: float | None
    left_s: float | None


def progress(job: BatchJob, now: datetime) -> Progress:
    ended = job.completed + job.failed
    part = ended / job.total if job.total else 0.0
    rate = rate_of(job, now)
    return Progress(part, rate, (job.total - ended) / rate if rate else None)


def rate_of(job: BatchJob, now: datetime) -> float | None:
    """Items that have ended in a second; of a job that has ended, on average over its time."""
    ended = job.completed + job.failed
    if job.ended_at is not None and job.started_at is not None:
        seconds = (job.ended_at - job.started_at).total_seconds()
        return ended / seconds if seconds > 0 and ended else None
    if job.state != JobState.IN_PROGRESS:
        return None
    marks = [(at, count) for at, count in job.marks if now.timestamp() - at <= LATELY_S]
    if not marks or now.timestamp() <= marks[0][0]:
        return None
    return (ended - marks[0][1]) / (now.timestamp() - marks[0][0]) or None


def failures(job: BatchJob) -> list[tuple[str, int]]:
    """Why items have failed, and how many for each reason, the most frequent first."""
    rows = BatchItem.objects.filter(job=job, state=ItemState.FAILED).order_by()
    counted = rows.values("reason").annotate(n=Count("pk")).order_by("-n", "reason")
    return list(counted.values_list("reason", "n")[:REASONS])


def items(job: BatchJob) -> QuerySet[BatchItem]:
    """A job's items in the order of its inputs."""
    return BatchItem.objects.filter(job=job).order_by("number")


def lost_lanes(now: datetime) -> QuerySet[BatchLane]:
    """Lanes of jobs at work whose step is gone, or whose time to go on has come."""
    return BatchLane.objects.filter(until__lt=now, job__state__in=WORKING).select_related("job")


def to_settle() -> QuerySet[BatchJob]:
    """Jobs that may be due to end."""
    return BatchJob.objects.filter(state__in=(*WORKING, JobState.PAUSED)).order_by("pk")


def abandoned(before: datetime) -> QuerySet[BatchJob]:
    """Jobs whose inputs stopped coming before a moment."""
    return BatchJob.objects.filter(state=JobState.VALIDATING, created_at__lt=before)


def unread(before: datetime) -> QuerySet[BatchJob]:
    """Jobs of `/v1/batches` that came before a moment and whose file has not been read whole."""
    return BatchJob.objects.filter(state=JobState.VALIDATING, created_at__lt=before).exclude(source="")


def callbacks_due(now: datetime) -> QuerySet[BatchJob]:
    return BatchJob.objects.filter(callback_due_at__lte=now).order_by("callback_due_at")


def places(job: BatchJob) -> int:
    """How many of a job's calls the fleet's nodes can run at a time; nodes that cannot be used now do not count.

    Models that only embed have one place on each node, whatever the node's slots.
    """
    rows = NodeModel.objects.filter(
        Q(node__observation__reachable=True) | Q(node__observation__reachable=None),
        installed=True,
        node__enabled=True,
        node__draining=False,
    ).order_by()
    if job.model:
        rows = rows.filter(key=canonical(job.model))
    slots = dict(rows.values_list("node", "node__slots"))
    embeds = job.endpoint in (Endpoint.EMBED, Endpoint.V1_EMBEDDINGS)
    return len(slots) if embeds else sum(slots.values())


def since(now: datetime, days: float) -> datetime:
    return now - timedelta(days=days)
