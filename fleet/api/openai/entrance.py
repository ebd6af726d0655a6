"""The way in: callers are judged as on the data plane's routes, bodies bounded, and what then comes is Django's."""

import json
from collections.abc import MutableMapping
from typing import Any, Protocol

from fleet.api import uploads

PATHS = ("/v1/files", "/v1/batches")
#: Bytes of a body that is no file.
ORDER = 1 << 20
TOO_LARGE, SERVER = 413, 500
#: Where a scope tells that its caller has no key and needs none.
NOBODY = "sollol.nobody"


class Gateway(Protocol):
    """What is needed of the data plane."""

    async def let_in(self, scope: Any, receive: Any, send: Any) -> tuple[bool, list[tuple[bytes, bytes]]] | None: ...


def concerns(path: str) -> bool:
    return path.startswith(PATHS) and any(path == one or path.startswith(f"{one}/") for one in PATHS)


async def serve(
    gateway: Gateway, application: uploads.Application, scope: MutableMapping[str, Any], receive: Any, send: Any,
    most: int,
) -> None:  # fmt: skip
    """Serve a request; a file may have `most` bytes."""
    admitted = await gateway.let_in(scope, receive, send)
    if admitted is None:
        return
    nobody, shown = admitted

    async def told(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *shown]}
        await send(message)

    # The Host was judged above; Django has rules of its own for the pages that a browser opens.
    headers = [(name, b"localhost" if name == b"host" else value) for name, value in scope["headers"]]
    inner = {**scope, "headers": headers, NOBODY: nobody}
    if scope["path"].startswith("/v1/files"):
        await uploads.bounded(application, inner, receive, told, most, envelope)
    else:
        await uploads.bounded(application, inner, receive, told, ORDER, of_order)


def envelope(status: int, detail: str) -> bytes:
    """An error as OpenAI tells it."""
    return error_body(detail, "server_error" if status >= SERVER else "invalid_request_error")


def of_order(status: int, detail: str) -> bytes:
    """The same of a body that is no upload, whose bound is not the setting's."""
    return envelope(status, f"The body is larger than {ORDER >> 20} MiB." if status == TOO_LARGE else detail)


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> bytes:
    told = {"message": message, "type": kind, "param": param, "code": code}
    return json.dumps({"error": told}).encode()
