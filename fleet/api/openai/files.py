"""`/v1/files`: files of requests, and of what came of them."""

from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.db.models import Q, QuerySet
from django.http import StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.utils.http import content_disposition_header
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from fleet.api.batch import told
from fleet.api.openai.views import Fault, OpenAIView, chosen, own, owner, page, text
from fleet.models import BatchFile, FileKind
from fleet.services.batch import files
from fleet.services.batch.steps import DiskFull, enough_disk, room_on_disk

PURPOSES = {FileKind.INPUT: "batch", FileKind.OUTPUT: "batch_output", FileKind.ERRORS: "batch_output"}
FULL = "There is no room on the disk for this file."
NAME = 255


def rows(request: Request) -> QuerySet[BatchFile]:
    """The caller's files; those of results while their job has ended."""
    there = Q(complete=True) & (Q(job=None) | Q(job__ended_at__isnull=False))
    return own(request, BatchFile.objects.filter(there).select_related("job"), Q(team=None, key=None))


def found(request: Request, public_id: str) -> BatchFile:
    file: BatchFile = get_object_or_404(rows(request), public_id=public_id)
    return file


def shown(file: BatchFile) -> dict[str, Any]:
    return {
        "id": file.public_id,
        "object": "file",
        "bytes": files.sized(file),
        "created_at": int(file.created_at.timestamp()),
        "expires_at": int(files.expires_at(file).timestamp()),
        "filename": file.name,
        "purpose": PURPOSES[FileKind(file.kind)],
        "status": "processed",
        "status_details": None,
    }


class Files(OpenAIView):
    parser_classes = (MultiPartParser,)

    def get(self, request: Request) -> Response:
        """The caller's files, newest first."""
        purpose = chosen(request, "purpose", ("", "batch", "batch_output"))
        kinds = [kind for kind, name in PURPOSES.items() if purpose in ("", name)]
        return page(request, rows(request).filter(kind__in=kinds), shown, usual=10_000, most=10_000)

    def post(self, request: Request) -> Response:
        """Take a file of requests; it is checked when a batch is made of it."""
        if not enough_disk():
            raise Fault(FULL, status=507)
        asked: Any = request.data
        upload = asked.get("file")
        if not isinstance(upload, UploadedFile):
            raise Fault("Missing required parameter: 'file'.", "file", "missing_required_parameter")
        if text(asked.get("purpose"), "purpose") != "batch":
            raise Fault("Files are kept for batches here: the purpose is 'batch'.", "purpose", "invalid_value")
        who = owner(request)
        name = str(upload.name or "file").replace("\0", "")[:NAME]
        try:
            with room_on_disk():
                file = files.store(who.team, who.key, name, upload.chunks(files.PART))
        except DiskFull:
            raise Fault(FULL, status=507) from None
        return Response(shown(file))


class File(OpenAIView):
    def get(self, request: Request, id: str) -> Response:  # noqa: A002 (as it is in the address)
        return Response(shown(found(request, id)))

    def delete(self, request: Request, id: str) -> Response:  # noqa: A002 (as above)
        file = found(request, id)
        files.delete(file)
        return Response({"id": file.public_id, "object": "file", "deleted": True})


class FileContent(OpenAIView):
    def get(self, request: Request, id: str) -> StreamingHttpResponse:  # noqa: A002 (as above)
        """What is in the file; that of results is written while it is read."""
        file = found(request, id)
        headers = {"Content-Disposition": content_disposition_header(True, file.name) or "attachment"}
        pieces = told(files.content(file))
        return StreamingHttpResponse(pieces, content_type="application/octet-stream", headers=headers)
