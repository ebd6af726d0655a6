"""What is done to batch jobs as a whole: made, paused, resumed, cancelled, retried, ended, deleted."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Count, F, Q
from django.utils import timezone

from fleet.models import ApiKey, BatchItem, BatchJob, BatchLane, Endpoint, ItemState, JobState, Team
from fleet.models.batch import ENDED
from fleet.models.policy import LOWEST
from fleet.services.batch import engine, files

#: Inputs written in one transaction, and rows deleted in one.
TOGETHER = 1000
#: Items from which on a job has a second lane, which also goes on where a worker dies.
LARGE = 64
LANES = 2
#: Seconds in which a step that was handed to the engine begins; then the sweep hands it over again.
BEGIN_S = 60


class Unfit(ValueError):  # noqa: N818 (named after what is wrong)
    """An order that cannot be taken; the text says why."""


class NotNow(ValueError):  # noqa: N818 (as above)
    """What was asked for does not fit the job's state; the text says why."""


class Input(NamedTuple):
    """A text, or a request body as JSON, and the name that its sender has for it."""

    body: str
    custom_id: str = ""


class Owner(NamedTuple):
    """Whose job it is: jobs of no team are for those who manage the fleet."""

    team: Team | None = None
    key: ApiKey | None = None
    person: Any = None


def highest_priority(team: Team | None) -> int:
    """The highest priority that a team's batch work may have."""
    policy = None if team is None else getattr(team, "policy", None)
    return LOWEST if policy is None else int(policy.batch_priority)


def begin(
    owner: Owner,
    model: str = "",
    endpoint: str = Endpoint.EMBED,
    *,
    parameters: dict[str, Any] | None = None,
    priority: int | None = None,
    callback_url: str = "",
    metadata: dict[str, Any] | None = None,
    lasts: timedelta | None = None,
) -> BatchJob:
    """A job that is being validated; `add` its inputs, then `submit` it, or `discard` or `reject` it.

    Raises `Unfit` for a priority above that of the team's batch work.
    """
    most = highest_priority(owner.team)
    if priority is not None and not LOWEST <= priority <= most:
        raise Unfit(f"The priority of this team's batch work is from {LOWEST} to {most}.")
    return BatchJob.objects.create(
        team=owner.team,
        key=owner.key,
        key_prefix="" if owner.key is None else owner.key.prefix,
        created_by=owner.person,
        endpoint=endpoint,
        model=model,
        parameters=parameters or {},
        metadata=metadata or {},
        priority=most if priority is None else priority,
        callback_url=callback_url,
        expires_at=None if lasts is None else timezone.now() + lasts,
    )


def add(job: BatchJob, inputs: Iterable[Input]) -> None:
    """Append inputs, some at a time, each time in a transaction of its own; the job object knows the new total."""
    source = iter(inputs)
    while some := list(islice(source, TOGETHER)):
        with transaction.atomic():
            BatchItem.objects.bulk_create(
                BatchItem(job=job, number=job.total + n, custom_id=one.custom_id, body=one.body)
                for n, one in enumerate(some)
            )
            job.total += len(some)
            job.characters += sum(len(one.body) for one in some)
            BatchJob.objects.filter(pk=job.pk).update(total=job.total, characters=job.characters)


def submit(job: BatchJob) -> None:
    """All inputs are there: let the work begin. Raises `Unfit` where there are none."""
    if not job.total:
        raise Unfit("There is nothing to do: give at least one input.")
    now = timezone.now()
    with transaction.atomic():
        moved = change(job, (JobState.VALIDATING,), JobState.IN_PROGRESS, started_at=now)
        if not moved:
            raise NotNow(f"The job is {job.state}.")
        lanes = LANES if job.total >= LARGE else 1
        BatchLane.objects.bulk_create(BatchLane(job=job, number=n, until=now) for n in range(lanes))
        wake(job)


def create(owner: Owner, inputs: Iterable[Input], **order: Any) -> BatchJob:
    """A job with its inputs, at work. What `inputs` raises, and `Unfit`, leave nothing behind."""
    job = begin(owner, **order)
    try:
        add(job, inputs)
        submit(job)
    except BaseException:
        discard(job)
        raise
    return job


def reject(job: BatchJob, reason: str) -> bool:
    """Its inputs are not fit: it fails without having begun."""
    return end(job, (JobState.VALIDATING,), JobState.FAILED, reason)


def wake(job: BatchJob, lanes: Iterable[BatchLane] | None = None) -> None:
    """Hand the next step of lanes (of all) to the engine when the transaction is over.

    A lane whose step is under way takes no harm: the second step of one turn does nothing.
    """
    for lane in BatchLane.objects.filter(job=job) if lanes is None else lanes:
        BatchLane.objects.filter(pk=lane.pk).update(until=timezone.now() + timedelta(seconds=BEGIN_S))
        hand_over(job, lane.number, lane.turn)


def hand_over(job: BatchJob, lane: int, turn: int) -> None:
    step = engine.turn(lane, turn, long=not job.groups)
    transaction.on_commit(partial(engine.engine().enqueue, step, job.pk))


def change(job: BatchJob, before: Sequence[str], after: str, **columns: Any) -> bool:
    """Move a job from one of some states into another; False, and nothing done, if it is in none of them."""
    moved = BatchJob.objects.filter(pk=job.pk, state__in=before).update(state=after, **columns)
    job.refresh_from_db()
    return bool(moved)


def pause(job: BatchJob, reason: str = "") -> None:
    """Send nothing more; what is under way is stored. Raises `NotNow` for a job that is not at work."""
    if not change(job, (JobState.IN_PROGRESS,), JobState.PAUSED, reason=reason) and job.state != JobState.PAUSED:
        raise NotNow(f"Only a job that is in progress can be paused; this one is {told(job)}.")


def resume(job: BatchJob) -> None:
    """Raises `NotNow` for a job that is not paused."""
    with transaction.atomic():
        if change(job, (JobState.PAUSED,), JobState.IN_PROGRESS, reason="", marks=[]):
            wake(job)
        elif job.state != JobState.IN_PROGRESS:
            raise NotNow(f"Only a job that is paused can go on; this one is {told(job)}.")


def cancel(job: BatchJob) -> None:
    """Send nothing more; once what is under way is stored, the job is cancelled. Raises `NotNow` if it has ended."""
    open_ = (JobState.VALIDATING, JobState.IN_PROGRESS, JobState.PAUSED)
    if not change(job, open_, JobState.CANCELLING, cancelling_at=timezone.now()) and job.state not in (
        JobState.CANCELLING,
        JobState.CANCELLED,
    ):
        raise NotNow(f"There is nothing to cancel: the job is {told(job)}.")
    settle(job)


def retry_failed(job: BatchJob) -> int:
    """Let failed items wait again, and the job go on; how many there were. Raises `NotNow` where that cannot be."""
    states = (JobState.COMPLETED, JobState.FAILED, JobState.IN_PROGRESS, JobState.PAUSED)
    with transaction.atomic():
        locked = BatchJob.objects.select_for_update().get(pk=job.pk)
        if locked.state not in states or not locked.lanes.exists():
            raise NotNow(f"Failed items of a job that is {told(locked)} cannot be retried.")
        rows = BatchItem.objects.filter(job=job, state=ItemState.FAILED)
        again = rows.update(
            state=ItemState.WAITING, attempts=0, due_at=None, reason="", status=None, result=None, request_id=""
        )
        if not again and locked.state != JobState.FAILED:
            raise NotNow("No item has failed.")
        after = JobState.PAUSED if locked.state == JobState.PAUSED else JobState.IN_PROGRESS
        change(
            job, states, after, failed=F("failed") - again, reason="", marks=[], ended_at=None, finalizing_at=None,
            callback_due_at=None,
        )  # fmt: skip
        if job.state == JobState.IN_PROGRESS:
            wake(job)
    return again


def delete(job: BatchJob) -> None:
    """Remove an ended job with all that came of it. Raises `NotNow` for one that has not ended."""
    job.refresh_from_db()
    if not job.ended:
        raise NotNow(f"The job is {told(job)}: cancel it first.")
    discard(job)


def discard(job: BatchJob) -> None:
    """Remove a job, its items some at a time, so that no writer waits long."""
    while some := list(BatchItem.objects.filter(job=job).order_by().values_list("pk", flat=True)[:TOGETHER]):
        BatchItem.objects.filter(pk__in=some).delete()
    BatchJob.objects.filter(pk=job.pk).delete()


def told(job: BatchJob) -> str:
    return JobState(job.state).label


# How jobs end


def fail(job: BatchJob, reason: str) -> bool:
    """End a job of which nothing more can come; what is done stays."""
    return end(job, (JobState.IN_PROGRESS,), JobState.FAILED, reason)


def settle(job: BatchJob) -> None:
    """End a job whose time has come: all items have ended, its time is over, or it was cancelled."""
    now = timezone.now()
    if job.state == JobState.CANCELLING:
        if not BatchItem.objects.filter(job=job, state=ItemState.CLAIMED, until__gte=now).exists():
            end(job, (JobState.CANCELLING,), JobState.CANCELLED)
        return
    open_ = (JobState.IN_PROGRESS, JobState.PAUSED)
    if BatchJob.objects.filter(pk=job.pk, state=JobState.IN_PROGRESS, total=F("completed") + F("failed")).exists():
        change(job, (JobState.IN_PROGRESS,), JobState.FINALIZING, finalizing_at=now)
    elif job.expires_at is not None and job.expires_at <= now and job.state in open_:
        end(job, open_, JobState.EXPIRED, "its time was over before all items were done")
    if job.state == JobState.FINALIZING:
        finalize(job)


def finalize(job: BatchJob) -> None:
    """Complete a job if its items bear out its counts; else the counts are put right and it goes on."""
    with transaction.atomic():
        counts = BatchItem.objects.filter(job=job).aggregate(
            done=Count("pk", filter=Q(state=ItemState.DONE)), failed=Count("pk", filter=Q(state=ItemState.FAILED))
        )
        columns = {"completed": counts["done"], "failed": counts["failed"]}
        if counts["done"] + counts["failed"] == job.total:
            end(job, (JobState.FINALIZING,), JobState.COMPLETED, **columns)
        elif change(job, (JobState.FINALIZING,), JobState.IN_PROGRESS, **columns):
            wake(job)


def end(job: BatchJob, before: Sequence[str], after: str, reason: str = "", **columns: Any) -> bool:
    """Move a job into a state that it ends in: nothing that comes late counts, and whoever waits for it is told."""
    now = timezone.now()
    with transaction.atomic():
        due: datetime | None = now if job.callback_url else None
        ended = change(
            job, before, after, reason=reason[:2000], ended_at=now, callback_due_at=due, callback_tries=0,
            callback_error="", **columns,
        )  # fmt: skip
        if ended:
            claimed = BatchItem.objects.filter(job=job, state=ItemState.CLAIMED)
            claimed.update(state=ItemState.WAITING, claim="", until=None)
            if job.source:
                files.for_results(job)
            if due is not None:
                transaction.on_commit(partial(engine.engine().enqueue, engine.NOTIFY, job.pk))
    return ended


def outdated(before: datetime) -> Iterator[BatchJob]:
    """Jobs that ended before a moment, the oldest first."""
    yield from BatchJob.objects.filter(state__in=ENDED, ended_at__lt=before).order_by("ended_at")
