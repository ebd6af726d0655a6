"""Items as steps take and give them back: claimed for a time, and written only by whoever still holds them."""

import secrets
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Min, Q
from django.utils import timezone

from fleet.models import BatchItem, BatchJob, ItemState, JobState
from fleet.selectors.batch import LATELY_S

#: States of a job in which what its calls bring is stored.
STORING = (JobState.IN_PROGRESS, JobState.PAUSED, JobState.CANCELLING)
#: Seconds between two moments that a job's rate is told from.
MARK_S = 2.0


class Claimed(NamedTuple):
    """An item that a step holds under a claim."""

    pk: int
    number: int
    body: str
    attempts: int
    claim: str


class Done(NamedTuple):
    item: Claimed
    status: int
    result: bytes
    request_id: str


class Failed(NamedTuple):
    """An item that has ended without a result: `result` is what the answer said beside the reason, packed."""

    item: Claimed
    status: int | None
    reason: str
    request_id: str
    result: bytes | None = None


class Again(NamedTuple):
    """An item that goes back, to be taken after `pause` seconds; `tried`: it has failed alone once more."""

    item: Claimed
    pause: float
    tried: bool


@dataclass(slots=True)
class Gains:
    """What calls have brought, to be stored together."""

    done: list[Done] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    again: list[Again] = field(default_factory=list)
    tokens: int = 0
    width: int = 0

    def __bool__(self) -> bool:
        return bool(self.done or self.failed or self.again)


def claim(job: BatchJob, most: int) -> list[Claimed]:
    """Take waiting items, the first ones first; two that ask at once get different ones."""
    token, now = secrets.token_hex(16), timezone.now()
    with transaction.atomic():
        rows = BatchItem.objects.filter(Q(due_at=None) | Q(due_at__lte=now), job=job, state=ItemState.WAITING)
        if connection.features.has_select_for_update_skip_locked:
            rows = rows.select_for_update(skip_locked=True)
        some = list(rows.order_by("number").values_list("pk", "number", "body", "attempts")[:most])
        BatchItem.objects.filter(pk__in=[row[0] for row in some]).update(
            state=ItemState.CLAIMED, claim=token, until=now + lease()
        )
    return [Claimed(*row, token) for row in some]


def take_back(job: BatchJob) -> int:
    """Let items wait again whose step has given no sign of life; how many there were."""
    lost = BatchItem.objects.filter(job=job, state=ItemState.CLAIMED, until__lt=timezone.now())
    return lost.update(state=ItemState.WAITING, claim="", until=None)


def renew(job: BatchJob, tokens: Collection[str]) -> None:
    """Go on holding what is held under these claims."""
    held = BatchItem.objects.filter(job=job, state=ItemState.CLAIMED, claim__in=list(tokens))
    held.update(until=timezone.now() + lease())


def lease() -> timedelta:
    return timedelta(seconds=settings.ENV.sollol_batch_lease_s)


def next_due(job: BatchJob) -> float | None:
    """Seconds until a waiting item may be taken; None where none waits."""
    found = BatchItem.objects.filter(job=job, state=ItemState.WAITING).aggregate(
        due=Min("due_at", filter=~Q(due_at=None)), now=Min("number", filter=Q(due_at=None))
    )
    if found["now"] is not None:
        return 0.0
    return None if found["due"] is None else max(0.0, (found["due"] - timezone.now()).total_seconds())


UPDATE = "UPDATE {table} SET state = %s, claim = '', until = NULL, {columns} WHERE id = %s AND claim = %s"


def store(job: BatchJob, gains: Gains, pace: dict[str, float]) -> bool:
    """Write what calls have brought, where it is still this step's to write; False if the job has ended meanwhile.

    Items and counts change together, so the counts are always those of the items.
    """
    with transaction.atomic():
        # The job first, as everywhere: two that lock job and items in different orders would wait for each other.
        locked = BatchJob.objects.select_for_update().get(pk=job.pk)
        if locked.state not in STORING:
            return False
        done = write(
            "status = %s, result = %s, request_id = %s, reason = ''",
            ((ItemState.DONE, d.status, d.result, d.request_id, d.item.pk, d.item.claim) for d in gains.done),
        )
        failed = write(
            "status = %s, result = %s, request_id = %s, reason = %s, attempts = attempts + 1",
            (
                (ItemState.FAILED, f.status, f.result, f.request_id, f.reason, f.item.pk, f.item.claim)
                for f in gains.failed
            ),
        )
        put_back(gains.again)
        share = done / len(gains.done) if gains.done else 0.0
        locked.marks = marks(locked)
        BatchJob.objects.filter(pk=job.pk).update(
            completed=F("completed") + done,
            failed=F("failed") + failed,
            tokens=F("tokens") + round(gains.tokens * share),
            width=gains.width or locked.width,
            marks=locked.marks,
            pace={**locked.pace, **pace},
        )
    return True


def write(columns: str, rows: Iterable[Sequence[Any]]) -> int:
    """Change claimed items, a row of values for each; how many were still held under their claim."""
    given = [[str(row[0]), *row[1:]] for row in rows]
    if not given:
        return 0
    table = connection.ops.quote_name(BatchItem._meta.db_table)  # noqa: SLF001 (Django's public name for it)
    with connection.cursor() as cursor:
        cursor.executemany(UPDATE.format(table=table, columns=columns), given)
        return int(cursor.rowcount)


def put_back(again: Iterable[Again]) -> None:
    now = timezone.now()
    columns = "due_at = %s, attempts = attempts + %s"
    write(
        columns,
        (
            (
                ItemState.WAITING,
                adapted(now + timedelta(seconds=one.pause)),
                int(one.tried),
                one.item.pk,
                one.item.claim,
            )
            for one in again
        ),
    )


def adapted(moment: Any) -> Any:
    return connection.ops.adapt_datetimefield_value(moment)


def marks(job: BatchJob) -> list[list[float]]:
    """The job's moments of the last minute, and now."""
    now = time.time()
    kept = [mark for mark in job.marks if now - LATELY_S <= mark[0] <= now]
    if not kept or now - kept[-1][0] >= MARK_S:
        kept.append([round(now, 2), job.completed + job.failed])
    return kept
