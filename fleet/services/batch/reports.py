"""What came of a job of `/v1/batches` as OpenAI writes it: answers in one file, the rest in another."""

from collections.abc import Iterator

import orjson
from django.db.models import Q

from fleet.models import BatchItem, BatchJob, ItemState, JobState
from fleet.models.batch import MARK
from fleet.selectors.batch import items
from fleet.services.batch import packing

#: Items that are read from the database in one go.
TOGETHER = 200
#: Why a request was not done, by the state that its job has ended in.
UNDONE = {
    JobState.EXPIRED: ("batch_expired", "This request could not be executed before the completion window expired."),
    JobState.CANCELLED: ("batch_cancelled", "This request was not executed: the batch was cancelled."),
}


def output(job: BatchJob) -> Iterator[bytes]:
    """A line for each request that was answered, in the order of the input, some lines at a time."""
    return lines(job, Q(state=ItemState.DONE))


def errors(job: BatchJob) -> Iterator[bytes]:
    """A line for each request that failed or was not done."""
    return lines(job, ~Q(state=ItemState.DONE))


def lines(job: BatchJob, which: Q) -> Iterator[bytes]:
    first = 0
    while True:
        some = list(items(job).filter(which, number__gte=first).defer("body")[:TOGETHER])
        if not some:
            return
        yield b"".join(line(job, item) for item in some)
        first = some[-1].number + 1


def line(job: BatchJob, item: BatchItem) -> bytes:
    name = f"batch_req_{job.public_id.removeprefix(MARK)}{item.number:08x}"
    told = b'{"id":%b,"custom_id":%b' % (orjson.dumps(name), orjson.dumps(item.custom_id))
    if item.state == ItemState.DONE or (item.state == ItemState.FAILED and item.status is not None):
        return b'%b,"response":%b,"error":null}\n' % (told, response(item))
    return b'%b,"response":null,"error":%b}\n' % (told, orjson.dumps(error(job, item)))


def response(item: BatchItem) -> bytes:
    """What the gateway answered, its body as it was."""
    head = orjson.dumps({"status_code": item.status, "request_id": item.request_id})
    return b'%b,"body":%b}' % (head[:-1], body(item))


def body(item: BatchItem) -> bytes:
    whole = b"" if item.result is None else packing.unpack(bytes(item.result)).strip()
    if item.state != ItemState.DONE and not is_json(whole):
        told = {"message": item.reason, "type": "api_error", "param": None, "code": None}
        return orjson.dumps({"error": told})
    # A line of the file is one line, whatever the body looks like.
    return orjson.dumps(orjson.loads(whole)) if b"\n" in whole else whole


def is_json(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except ValueError:
        return False
    return True


def error(job: BatchJob, item: BatchItem) -> dict[str, str]:
    if item.state == ItemState.FAILED:
        return {"code": "request_failed", "message": item.reason}
    code, message = UNDONE.get(JobState(job.state), ("batch_failed", f"This request was not executed: {job.reason}"))
    return {"code": code, "message": message}
