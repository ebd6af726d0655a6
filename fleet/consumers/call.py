"""One request of a WebSocket, put to the gateway of this process as the HTTP request that it would have been."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import uuid4

from fleet import live

#: Headers of the handshake that belong to the connection, not to the request; the page's cookies are no business of a
#: node.
HANDSHAKE = (b"sec-websocket-", b"connection", b"upgrade", b"cookie", b"content-", b"authorization", b"accept-encoding")
OK = 200

Take = Callable[[bytes], Awaitable[None]]


class Fault(Exception):  # noqa: N818 (what happened, not a category)
    """The request was answered with an error status."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        try:
            self.text = str(json.loads(body)["error"])
        except (ValueError, KeyError, TypeError):
            self.text = body.decode("utf-8", "replace")
        super().__init__(self.text)


class Call:
    """`leave()` ends it as a client does that closes its connection; `left` tells that it did."""

    def __init__(
        self, path: str, handshake: Mapping[str, Any], key: str, body: bytes, request_id: str | None = None
    ) -> None:
        self.request_id = request_id or uuid4().hex
        self.left = False
        self._gone = asyncio.Event()
        self._body: bytes | None = body
        self._status = OK
        self._rest = b""
        self._complete = False
        self._refused = b""
        headers = [pair for pair in handshake["headers"] if not pair[0].startswith(HANDSHAKE)]
        headers += [(b"content-type", b"application/json"), (b"x-request-id", self.request_id.encode())]
        if key:
            headers.append((b"authorization", b"Bearer " + key.encode("utf-8", "replace")))
        elif told := dict(handshake["headers"]).get(b"authorization"):
            headers.append((b"authorization", told))
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": handshake.get("client"),
            "server": handshake.get("server"),
        }

    def leave(self) -> None:
        self.left = True
        self._gone.set()

    async def run(self, gateway: live.Gateway | None, take: Take) -> None:
        """Hand each object of the answer to `take` when it comes; the gateway waits until it was taken.

        Raises `Fault` for an error status, and for an answer that breaks off.
        """
        if gateway is None:
            raise Fault(503, b"this process runs no gateway")
        self._take = take
        await gateway(self._scope, self._receive, self._send)
        if self._status != OK:
            raise Fault(self._status, self._refused)
        if not self._complete and not self.left:
            raise Fault(503, b"the node that was answering has failed")

    async def _receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            return
        self._complete = not message.get("more_body")
        if self._status != OK:
            self._refused += message.get("body", b"")
            return
        *lines, self._rest = (self._rest + message.get("body", b"")).split(b"\n")
        for line in [*lines, self._rest] if self._complete else lines:
            if line:
                await self._take(line)
