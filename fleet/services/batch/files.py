"""Files of batch jobs: taken in pieces, read back in pieces, those of results written from the job's items."""

import io
import zlib
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from fleet.models import ApiKey, BatchFile, BatchItem, BatchJob, FileKind, FilePart, Team
from fleet.services.batch import reports

#: Bytes of a file that are kept together, and how hard they are deflated.
PART, LEVEL = 1 << 20, 1


def store(team: Team | None, key: ApiKey | None, name: str, pieces: Iterable[bytes]) -> BatchFile:
    """Keep an uploaded file; what interrupts that leaves nothing behind."""
    file = BatchFile.objects.create(team=team, key=key, name=name)
    try:
        size = 0
        for number, data in enumerate(pieces):
            FilePart.objects.create(file=file, number=number, data=zlib.compress(data, LEVEL))
            size += len(data)
        file.size, file.complete = size, True
        file.save(update_fields=["size", "complete"])
    except BaseException:
        delete(file)
        raise
    return file


class Content(io.RawIOBase):
    """An uploaded file as Python reads files; one part of it is in memory."""

    def __init__(self, file: BatchFile) -> None:
        self.file, self.next, self.left = file, 0, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self.left:
            part = FilePart.objects.filter(file=self.file, number=self.next).first()
            if part is None:
                return 0
            self.next += 1
            self.left = memoryview(zlib.decompress(bytes(part.data)))
        taken = min(len(buffer), len(self.left))
        buffer[:taken], self.left = self.left[:taken], self.left[taken:]
        return taken


def opened(file: BatchFile) -> io.BufferedReader:
    """An uploaded file to be read, line by line if need be."""
    return io.BufferedReader(Content(file), PART)


def content(file: BatchFile) -> Iterator[bytes]:
    """What is in a file, piece by piece."""
    if file.kind == FileKind.OUTPUT and file.job is not None:
        return reports.output(file.job)
    if file.kind == FileKind.ERRORS and file.job is not None:
        return reports.errors(file.job)
    return uploaded(file)


def uploaded(file: BatchFile) -> Iterator[bytes]:
    with opened(file) as source:
        while piece := source.read(PART):
            yield piece


def sized(file: BatchFile) -> int:
    """How long a file is in bytes; of results found out once, by writing them to nowhere."""
    if file.size is None:
        file.size = sum(len(piece) for piece in content(file))
        BatchFile.objects.filter(pk=file.pk, size=None).update(size=file.size)
    return file.size


def for_results(job: BatchJob) -> None:
    """A job has ended: what came of its requests can be read as files, one for answers and one for the rest."""
    wanted = {FileKind.OUTPUT: job.completed > 0, FileKind.ERRORS: job.total > job.completed}
    for kind, some in wanted.items():
        if some:
            columns = {"team_id": job.team_id, "key_id": job.key_id, "size": None, "complete": True}
            name = f"{job.public_id}_{kind}.jsonl"
            BatchFile.objects.update_or_create(job=job, kind=kind, defaults={**columns, "name": name})
        else:
            BatchFile.objects.filter(job=job, kind=kind).delete()


def delete(file: BatchFile) -> None:
    """Remove a file; of results the file alone, its job keeps them."""
    # Part by part, so that no writer waits long.
    while some := list(FilePart.objects.filter(file=file).order_by().values_list("pk", flat=True)[:16]):
        FilePart.objects.filter(pk__in=some).delete()
    file.delete()


def expires_at(file: BatchFile) -> datetime:
    """When a file goes: an uploaded one some days after it came, results with their job."""
    began = file.created_at if file.job is None else file.job.ended_at or file.created_at
    return began + timedelta(days=settings.ENV.sollol_batch_days)


def outdated(before: datetime) -> Iterator[BatchFile]:
    """Uploaded files that came before a moment and that no job is still to read, the oldest first."""
    read = BatchJob.objects.filter(state="validating").exclude(source="").values("source")
    rows = BatchFile.objects.filter(kind=FileKind.INPUT, created_at__lt=before).exclude(public_id__in=read)
    yield from rows.order_by("created_at")


def emptied(job: BatchJob) -> None:
    """Remove a job's items, some at a time."""
    while some := list(BatchItem.objects.filter(job=job).order_by().values_list("pk", flat=True)[:1000]):
        BatchItem.objects.filter(pk__in=some).delete()
