"""A multipart/form-data body read as it comes: small fields are kept, the file is hashed and forgotten."""

from dataclasses import dataclass, field
from hashlib import sha256

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import InvalidHeader

from simulator.node_request import ask_for_body
from simulator.wire import BadBody

CHUNK_BYTES = 64 * 1024
# Go keeps so much of the fields that are no files.
MOST_FIELD_BYTES = 10 * 1024 * 1024


@dataclass
class Form:
    """`file_sha256` is empty where no file came under the name `file`."""

    fields: dict[str, str] = field(default_factory=dict)
    file_sha256: str = ""
    file_bytes: int = 0
    body_bytes: int = 0


async def read_form(request: web.BaseRequest) -> Form:
    """Raises BadBody with the text of the compatible routes."""
    if not request.content_type.startswith("multipart/form-data"):
        raise _bad("request Content-Type isn't multipart/form-data")
    await ask_for_body(request)
    form = Form()
    try:
        reader = MultipartReader(request.headers, request.content)
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader):
                raise _bad("multipart: nested parts")
            await _take(form, part)
    except InvalidHeader:
        raise _bad("multipart: malformed MIME header") from None
    except (ValueError, AssertionError) as error:
        if "boundary missed" in str(error):
            raise _bad("no multipart boundary param in Content-Type") from None
        raise _bad("multipart: NextPart: EOF") from None
    return form


async def _take(form: Form, part: BodyPartReader) -> None:
    if part.filename is not None and part.name == "file":
        await _hash(form, part)
        return
    kept = b""
    while chunk := await part.read_chunk(CHUNK_BYTES):
        form.body_bytes += len(chunk)
        if part.filename is None:
            kept += chunk
        if len(kept) > MOST_FIELD_BYTES:
            raise _bad("multipart: message too large")
    if part.filename is None and part.name:
        # Of several values the first one counts.
        form.fields.setdefault(part.name, kept.decode("utf-8", "replace"))


async def _hash(form: Form, part: BodyPartReader) -> None:
    sha = sha256()
    while chunk := await part.read_chunk(CHUNK_BYTES):
        sha.update(chunk)
        form.file_bytes += len(chunk)
    form.body_bytes += form.file_bytes
    form.file_sha256 = sha.hexdigest()


def _bad(text: str) -> BadBody:
    return BadBody(f"failed to parse multipart form: {text}")
