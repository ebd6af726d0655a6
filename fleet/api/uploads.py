"""Bounds on what is uploaded to Django, kept while it comes in: Django itself takes any amount to disk first."""

import errno
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Application = Callable[[Any, Any, Any], Awaitable[None]]
PREFIX = "/api/batch/"
FULL = (errno.ENOSPC, errno.EDQUOT)


def plain(status: int, detail: str) -> bytes:
    """An error as the REST API tells it."""
    return json.dumps({"detail": detail}).encode()


async def bounded(
    application: Application, scope: Any, receive: Any, send: Any, most: int,
    error: Callable[[int, str], bytes] = plain,
) -> None:  # fmt: skip
    """Serve a request with a body of `most` bytes at most: 413 beyond that, 507 where the disk has no room for it.

    `error` writes the body of such an answer.
    """
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > most:
        await refuse(send, 413, error(413, too_large(most)))
        return
    taken, answered, over = 0, False, False

    async def counted() -> Any:
        nonlocal taken, over
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            over = True
            # To Django the client has left: it drops what it has and answers nothing.
            return {"type": "http.disconnect"}
        return message

    async def told(message: Any) -> None:
        nonlocal answered
        answered = True
        await send(message)

    try:
        await application(scope, counted, told)
    except OSError as fault:
        if answered or fault.errno not in FULL:
            raise
        await refuse(send, 507, error(507, "There is no room on the disk for this upload."))
        return
    if over and not answered:
        await refuse(send, 413, error(413, too_large(most)))


def too_large(most: int) -> str:
    return f"This is more than {most >> 20} MiB (SOLLOL_BATCH_UPLOAD_MB)."


async def refuse(send: Any, status: int, body: bytes) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def concerns(scope: Mapping[str, Any]) -> bool:
    return bool(scope["path"].startswith(PREFIX))
