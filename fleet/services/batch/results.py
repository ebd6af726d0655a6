"""What came of a job, read back in the order of its inputs, some items at a time: as JSON lines or for NumPy."""

import sys
from array import array
from collections.abc import Iterator
from typing import NamedTuple

import orjson

from fleet.models import BatchItem, BatchJob, ItemState
from fleet.selectors.batch import items
from fleet.services.batch import packing

#: Items that are read from the database in one go.
TOGETHER = 200
NPY_MAGIC = b"\x93NUMPY\x01\x00"
NPY_ALIGN = 64
FLOAT_BYTES = 4


class Result(NamedTuple):
    """What came of one input: `body` is the answer's JSON, empty where there is none."""

    number: int
    custom_id: str
    state: str
    status: int | None
    reason: str
    request_id: str
    body: bytes


class NoArray(ValueError):  # noqa: N818 (what is wrong, not a category)
    """The results are no array of vectors of one length; the text says why."""


def rows(job: BatchJob, first: int = 0) -> Iterator[BatchItem]:
    """Items without their inputs, in order; no query holds more than some, and none lasts for the whole of them."""
    while True:
        some = list(items(job).filter(number__gte=first, number__lt=first + TOGETHER).defer("body"))
        if not some:
            return
        yield from some
        first += TOGETHER


def results(job: BatchJob, first: int = 0) -> Iterator[Result]:
    """All items in order from one on; those that have not ended are told as such."""
    for item in rows(job, first):
        body = b"" if item.result is None else packing.unpack(bytes(item.result))
        yield Result(item.number, item.custom_id, item.state, item.status, item.reason, item.request_id, body)


def lines(job: BatchJob) -> Iterator[bytes]:
    """JSON lines, some at a time: `index`, `custom_id` where there is one, then the answer or the error."""
    member = b"embedding" if job.groups else b"response"
    buffer: list[bytes] = []
    for result in results(job):
        buffer.append(line(result, member, job))
        if len(buffer) >= TOGETHER:
            yield b"".join(buffer)
            buffer.clear()
    yield b"".join(buffer)


def line(result: Result, member: bytes, job: BatchJob) -> bytes:
    name = b',"custom_id":' + orjson.dumps(result.custom_id) if result.custom_id else b""
    if result.state == ItemState.DONE:
        told = b'"%b":%b' % (member, result.body)
    else:
        told = b'"error":' + orjson.dumps(error(result, job))
    return b'{"index":%d%b,%b}\n' % (result.number, name, told)


def error(result: Result, job: BatchJob) -> dict[str, object]:
    if result.state == ItemState.FAILED:
        return {"status": result.status, "message": result.reason}
    return {"status": None, "message": f"not done: the job is {job.get_state_display()}"}


def npy(job: BatchJob) -> Iterator[bytes]:
    """A file of NumPy (`.npy`): 32-bit floats, a row for each input, NaN where it failed.

    Raises `NoArray`, before anything is told, for a job without vectors.
    """
    if not job.groups or not job.width:
        raise NoArray("Only the results of an embedding job that has some are an array.")
    return npy_pieces(job)


def npy_pieces(job: BatchJob) -> Iterator[bytes]:
    yield npy_header(job.total, job.width)
    nothing = array("f", [float("nan")] * job.width)
    buffer = array("f")
    for number, item in enumerate(rows(job)):
        vector = nothing if item.result is None else packing.numbers(bytes(item.result))
        if len(vector) != job.width:
            raise NoArray(f"item {item.number} has {len(vector)} numbers, not {job.width}")
        buffer.extend(vector)
        if number % TOGETHER == TOGETHER - 1:
            yield little_endian(buffer)
            buffer = array("f")
    yield little_endian(buffer)


def little_endian(values: "array[float]") -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def npy_header(rows: int, columns: int) -> bytes:
    """The head of format 1.0: what follows begins at a multiple of 64 bytes."""
    told = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }" % (rows, columns)
    filled = -(len(NPY_MAGIC) + 2 + len(told) + 1) % NPY_ALIGN
    head = told + b" " * filled + b"\n"
    return NPY_MAGIC + len(head).to_bytes(2, "little") + head


def npy_bytes(job: BatchJob) -> int:
    """How long the file will be."""
    return len(npy_header(job.total, job.width)) + job.total * job.width * FLOAT_BYTES
