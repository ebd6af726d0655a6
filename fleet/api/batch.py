"""`/api/batch/`: embedding jobs of the caller's team, and of all teams for those who manage the fleet."""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from asgiref.sync import sync_to_async
from django.db import IntegrityError
from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from fleet.api.batch_shapes import JobSerializer, JobsFirst, LineParser, Order, OrderForm, OrderParser
from fleet.api.description import DETAIL
from fleet.api.filters import ColumnFilter
from fleet.api.permissions import MayManage
from fleet.models import ApiKey, BatchJob, Scope, Team
from fleet.selectors import access, batch
from fleet.services.batch import jobs, results
from fleet.services.batch.intake import from_lines, from_texts
from fleet.services.batch.jobs import Input, NotNow, Owner, Unfit
from fleet.services.batch.steps import enough_disk

FORM = {
    "type": "object",
    "properties": {"model": {"type": "string", "maxLength": 255}, "file": {"type": "string", "format": "binary"}},
    "required": ["model", "file"],
}
TOO_LARGE = OpenApiResponse(DETAIL, "There are more bytes than are taken.")
NO_ROOM = OpenApiResponse(DETAIL, "The disk is nearly full.")
CONFLICT = OpenApiResponse(DETAIL, "The job's state does not allow it.")


class Conflict(APIException):
    status_code = 409
    default_code = "conflict"


class NoRoom(APIException):
    status_code = 507
    default_code = "no_room"
    default_detail = "The disk is nearly full: batch jobs are not taken until there is room."


class MayBatch(BasePermission):
    """Any key, for its own team; or a staff session with the permission for it."""

    message = "This needs a key, or a staff session with the permission for batch jobs."

    def has_permission(self, request: Request, view: Any) -> bool:
        return isinstance(request.auth, ApiKey) or MayManage().has_permission(request, view)


@contextmanager
def conflicts() -> Iterator[None]:
    """What the job's state does not allow is 409."""
    try:
        yield
    except NotNow as error:
        raise Conflict(str(error)) from None


class Jobs:
    """Jobs that a caller may see or change."""

    model = BatchJob
    permission_classes: Any = (MayBatch,)

    def get_queryset(self) -> QuerySet[BatchJob]:
        request: Request = self.request  # type: ignore[attr-defined]  # of the view set behind it
        rows = batch.jobs()
        if isinstance(request.auth, ApiKey):
            return rows if Scope.MANAGE in request.auth.scopes else rows.filter(team=request.auth.team_id)
        chosen = access.seen if request.method == "GET" else access.changed
        return chosen(request.user, rows)


class JobViewSet(Jobs, mixins.RetrieveModelMixin, mixins.ListModelMixin, GenericViewSet[BatchJob]):
    """Batch jobs, newest first."""

    queryset = BatchJob.objects.none()
    lookup_field = "public_id"
    lookup_url_kwarg = "id"
    lookup_value_regex = "[^/]+"
    serializer_class = JobSerializer
    pagination_class = JobsFirst
    filter_backends = (ColumnFilter,)
    filter_columns = {"team": "team__name__iexact", "state": "state", "model": "model"}  # noqa: RUF012 (as elsewhere)

    paging_parameters = frozenset(("limit", "cursor", "format", "purge"))

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "details": self.action != "list"}

    @extend_schema(
        parameters=[OpenApiParameter("purge", bool, description="Remove an ended job with its results.")],
        responses={200: JobSerializer, 204: None, 409: CONFLICT},
    )
    def destroy(self, request: Request, id: str | None = None) -> Response:  # noqa: A002 (as it is in the address)
        """Cancel the job; what is done stays, until `?purge=true` removes an ended job."""
        job = self.get_object()
        with conflicts():
            if request.query_params.get("purge") == "true":
                jobs.delete(job)
                return Response(status=204)
            jobs.cancel(job)
        return self.told(job)

    @extend_schema(responses={200: JobSerializer, 409: CONFLICT})
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, id: str | None = None) -> Response:  # noqa: A002 (as above)
        """Send nothing more until the job is resumed; what is under way is stored."""
        job = self.get_object()
        with conflicts():
            jobs.pause(job)
        return self.told(job)

    @extend_schema(responses={200: JobSerializer, 409: CONFLICT})
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, id: str | None = None) -> Response:  # noqa: A002 (as above)
        """Let a paused job go on."""
        job = self.get_object()
        with conflicts():
            jobs.resume(job)
        return self.told(job)

    @extend_schema(responses={200: JobSerializer, 409: CONFLICT})
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, id: str | None = None) -> Response:  # noqa: A002 (as above)
        """Try the failed items again, also those of a job that has ended."""
        job = self.get_object()
        with conflicts():
            jobs.retry_failed(job)
        return self.told(job)

    def told(self, job: BatchJob) -> Response:
        return Response(self.get_serializer(job).data)


class EmbedViewSet(GenericViewSet[BatchJob]):
    model = BatchJob
    permission_classes = (MayBatch,)
    parser_classes = (OrderParser, OrderForm, LineParser)
    serializer_class = Order

    @extend_schema(
        parameters=[
            OpenApiParameter(
                "model", str, description="With a body of JSON lines: the model, and so the other members."
            )
        ],
        request={"application/json": Order, "multipart/form-data": FORM, "application/x-ndjson": str},
        responses={201: JobSerializer, 413: TOO_LARGE, 507: NO_ROOM},
        operation_id="batch_embed",
    )
    def create(self, request: Request) -> Response:
        """Make a job of texts, or of JSON lines: each a text, or an object with `text` and `custom_id`."""
        if not enough_disk():
            raise NoRoom
        lines, data = lines_of(request)
        order = Order(data=data)
        order.is_valid(raise_exception=True)
        told = order.validated_data
        texts = told.pop("texts", None)
        if (texts is None) == (lines is None):
            raise ValidationError({"texts": ["Give either texts, or a file of JSON lines."]})
        inputs = from_texts(texts) if lines is None else from_lines(lines)
        job = made(owner(request, told.pop("team", None)), inputs, told)
        return Response(JobSerializer(job, context={"details": True}).data, status=201)


def lines_of(request: Request) -> tuple[Any, Any]:
    """The upload of a request, if it has one, and what is told beside it."""
    data: Any = request.data
    if (request.content_type or "").startswith(LineParser.media_type):
        # Of an empty body no parser is asked.
        return data if hasattr(data, "readline") else BytesIO(), request.query_params.dict()
    if request.FILES:
        return request.FILES.get("file"), {name: value for name, value in data.items() if name != "file"}
    return None, data


def owner(request: Request, named: Team | None) -> Owner:
    """Whose job it is: the key's team; of a person the team that he names, or the only one that he belongs to."""
    if isinstance(request.auth, ApiKey):
        own = request.auth.team
        if named is not None and named != own and Scope.MANAGE not in request.auth.scopes:
            raise ValidationError({"team": ["A key makes jobs of its own team."]})
        return Owner(named or own, request.auth)
    mine = list(Team.objects.filter(members=request.user.pk)[:2])
    everything = access.changes_all(request.user)
    if named is not None and not everything and named not in mine:
        raise ValidationError({"team": ["This is not your team."]})
    team = named or (mine[0] if len(mine) == 1 else None)
    if team is None and not everything:
        raise ValidationError({"team": ["Name the team whose job it is."]})
    return Owner(team, None, request.user)


def made(owner: Owner, inputs: Iterable[Input], told: dict[str, Any]) -> BatchJob:
    names = ("options", "dimensions", "truncate", "keep_alive")
    parameters = {name: told.pop(name) for name in names if name in told}
    if parameters.get("keep_alive", "").lstrip("-").isdigit():
        parameters["keep_alive"] = int(parameters["keep_alive"])  # seconds, as Ollama takes a number
    try:
        with conflicts():  # somebody has cancelled it while it came in
            return jobs.create(owner, inputs, parameters=parameters, **told)
    except Unfit as error:
        raise ValidationError({"non_field_errors": [str(error)]}) from None
    except IntegrityError:
        raise ValidationError({"non_field_errors": ["Two inputs have the same custom_id."]}) from None


class ResultsViewSet(Jobs, GenericViewSet[BatchJob]):
    queryset = BatchJob.objects.none()
    lookup_field = "public_id"
    lookup_url_kwarg = "id"
    lookup_value_regex = "[^/]+"
    serializer_class = JobSerializer

    @extend_schema(
        parameters=[
            OpenApiParameter("format", str, enum=["jsonl", "npy"], description="JSON lines, or a file of NumPy."),
            OpenApiParameter("partial", bool, description="What there is of a job that has not ended."),
        ],
        responses={(200, "application/x-ndjson"): str, (200, "application/octet-stream"): bytes, 409: CONFLICT},
        operation_id="batch_results",
    )
    def retrieve(self, request: Request, id: str | None = None) -> StreamingHttpResponse:  # noqa: A002 (as above)
        """What came of each input, in their order; errors stand where the results of their inputs would."""
        form = request.query_params.get("format", "jsonl")
        if form not in ("jsonl", "npy"):
            raise ValidationError({"format": ["Give jsonl or npy."]})
        job = self.get_object()
        if not job.ended and request.query_params.get("partial") != "true":
            raise Conflict(f"The job is {jobs.told(job)}; its results are complete when it has ended.")
        if form == "jsonl":
            return stream(results.lines(job), "application/x-ndjson", f"{job}.jsonl")
        try:
            answer = stream(results.npy(job), "application/octet-stream", f"{job}.npy")
        except results.NoArray as error:
            raise Conflict(str(error)) from None
        answer["Content-Length"] = str(results.npy_bytes(job))
        return answer

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[Any, str]:
        """`format` says what is wanted; errors are JSON."""
        renderer = self.get_renderers()[0]
        return renderer, renderer.media_type


def stream(pieces: Iterator[bytes], media_type: str, name: str) -> StreamingHttpResponse:
    disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingHttpResponse(told(pieces), content_type=media_type, headers=disposition)


async def told(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces, each made in the request's own thread when the reader has taken the last: Django would make all."""
    following = sync_to_async(lambda: next(pieces, None))
    while (piece := await following()) is not None:
        yield piece
