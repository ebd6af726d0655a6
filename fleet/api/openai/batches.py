"""`/v1/batches`: jobs made of files of requests."""

import re
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Prefetch, Q, QuerySet
from django.shortcuts import get_object_or_404
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response

from fleet.api.openai import files
from fleet.api.openai.views import Fault, OpenAIView, own, owner, page, text
from fleet.models import BatchFile, BatchJob, Endpoint, FileKind, JobState
from fleet.models.batch import ENDED
from fleet.services.batch import jobs, orders
from fleet.services.batch.intake import text_fault
from fleet.services.batch.jobs import NotNow

ENDPOINTS = (Endpoint.V1_CHAT, Endpoint.V1_EMBEDDINGS)
#: How many metadata there may be, and how long their names and values.
PAIRS, NAME, VALUE = 16, 64, 512
#: A time in which a batch is to be done, and the longest in hours.
WINDOW, LONGEST_H = re.compile(r"([1-9]\d{0,3})([hd])", re.ASCII), 30 * 24


def rows(request: Request) -> QuerySet[BatchJob]:
    """The caller's batches, each with its files of results."""
    with_files = Prefetch("files", BatchFile.objects.only("public_id", "kind", "job_id"), to_attr="results")
    all_ = BatchJob.objects.exclude(source="").prefetch_related(with_files)
    return own(request, all_, Q(team=None, key=None, created_by=None))


def found(request: Request, public_id: str) -> BatchJob:
    job: BatchJob = get_object_or_404(rows(request), public_id=public_id)
    return job


def shown(job: Any) -> dict[str, Any]:
    """OpenAI has no paused batches: to its clients they go on."""
    ids = {file.kind: file.public_id for file in job.results} if job.ended else {}
    return {
        "id": job.public_id,
        "object": "batch",
        "endpoint": job.endpoint,
        "model": job.model or None,
        "errors": errors(job),
        "input_file_id": job.source,
        "completion_window": job.window,
        "status": JobState.IN_PROGRESS if job.state == JobState.PAUSED else job.state,
        "output_file_id": ids.get(FileKind.OUTPUT),
        "error_file_id": ids.get(FileKind.ERRORS),
        "created_at": seconds(job.created_at),
        "in_progress_at": seconds(job.started_at),
        "expires_at": seconds(job.expires_at),
        "finalizing_at": seconds(job.finalizing_at),
        **{f"{state}_at": seconds(job.ended_at) if job.state == state else None for state in ENDED},
        "cancelling_at": seconds(job.cancelling_at),
        "request_counts": {"total": job.total, "completed": job.completed, "failed": job.failed},
        "metadata": job.metadata or None,
    }


def errors(job: BatchJob) -> dict[str, Any] | None:
    """Why a batch failed: what is wrong with its file, by line, or what stood against the whole of it."""
    if job.state != JobState.FAILED:
        return None
    told = job.faults or [{"code": "batch_failed", "message": job.reason, "param": None, "line": None}]
    return {"object": "list", "data": told}


def seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


class Batches(OpenAIView):
    parser_classes = (JSONParser,)

    def get(self, request: Request) -> Response:
        """The caller's batches, newest first."""
        return page(request, rows(request), shown, usual=20, most=100)

    def post(self, request: Request) -> Response:
        """Make a batch of a file; the file is read and checked in the background."""
        asked: Any = request.data
        if not isinstance(asked, dict):
            raise Fault("The body is a JSON object.")
        endpoint = text(asked.get("endpoint"), "endpoint")
        if endpoint not in ENDPOINTS:
            raise Fault(f"The endpoint is one of: {', '.join(ENDPOINTS)}.", "endpoint", "invalid_value")
        window = text(asked.get("completion_window"), "completion_window")
        lasts, pairs = time_of(window), metadata_of(asked.get("metadata"))
        name = text(asked.get("input_file_id"), "input_file_id")
        file = files.rows(request).filter(public_id=name, kind=FileKind.INPUT).first()
        if file is None:
            raise Fault(f"No such file of requests: {name}", "input_file_id")
        job = orders.order(owner(request), file, endpoint, window, lasts, pairs)
        return Response(shown(found(request, job.public_id)))


def time_of(window: str) -> timedelta:
    told = WINDOW.fullmatch(window)
    hours = 0 if told is None else int(told[1]) * (24 if told[2] == "d" else 1)
    if not 0 < hours <= LONGEST_H:
        raise Fault("A completion_window is a time such as 24h or 7d, up to 30d.", "completion_window", "invalid_value")
    return timedelta(hours=hours)


def metadata_of(value: Any) -> dict[str, str]:
    """What a client notes down with its batch, within OpenAI's bounds."""
    if value is None:
        return {}
    fits = isinstance(value, dict) and len(value) <= PAIRS
    if not fits or not all(fit(name, NAME) and fit(told, VALUE) for name, told in value.items()):
        told = f"metadata are up to {PAIRS} texts of up to {VALUE} characters, under names of up to {NAME}."
        raise Fault(told, "metadata", "invalid_value")
    return dict(value)


def fit(value: Any, most: int) -> bool:
    return isinstance(value, str) and len(value) <= most and text_fault(value or "-") == ""


class Batch(OpenAIView):
    def get(self, request: Request, id: str) -> Response:  # noqa: A002 (as it is in the address)
        return Response(shown(found(request, id)))


class Cancel(OpenAIView):
    def post(self, request: Request, id: str) -> Response:  # noqa: A002 (as above)
        """Send nothing more; what is done can be read."""
        job = found(request, id)
        try:
            jobs.cancel(job)
        except NotNow:
            raise Fault(f"Cannot cancel a batch with status '{job.state}'.", status=409) from None
        return Response(shown(found(request, id)))
