"""HTTP/1.1 as uvicorn speaks it, also for clients that offer to go on in HTTP/2, or that know HTTP/1.0 only."""

import asyncio
import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

#: Seconds in which a request's head must have come, and how large it may be, in bytes.
HEAD_S, LARGEST_HEAD = 30.0, 64 << 10
OFFER = re.compile(rb"(\r\n)upgrade(:[ \t]*h2c)", re.IGNORECASE)


class PlainHttp(HttpToolsProtocol):
    """Declines `Upgrade: h2c` by not seeing it, as a server may.

    Java's HTTP client and `curl --http2` offer it with every request. The parser would stop at the end of such a head,
    and the body behind it would be lost.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        #: Whether what comes next is a head: an answer may be complete while its request's body is still coming.
        self.between = True
        self._head_begins()

    def _head_begins(self) -> None:
        self.head_bytes = 0
        self.head_timer: asyncio.TimerHandle | None = self.loop.call_later(HEAD_S, self._head_late)

    def _head_late(self) -> None:
        """A client that never ends its head would hold a connection for ever; one that never began needs no answer."""
        self.head_timer = None
        if self.head_bytes:
            self._refuse(408, "The request did not come.")
        else:
            self.transport.close()

    def _refuse(self, status: int, reason: str) -> None:
        if self.transport.is_closing():
            return
        body = reason.encode()
        head = [b"connection: close", b"content-type: text/plain; charset=utf-8", b"content-length: %d" % len(body)]
        self.transport.write(STATUS_LINE[status] + b"\r\n".join(head) + b"\r\n\r\n" + body)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_over()
        super().connection_lost(exc)

    def _head_over(self) -> None:
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None

    def data_received(self, data: bytes) -> None:
        if self.head_timer is None and self.between:
            self._head_begins()
        if self.head_timer is not None:
            self.head_bytes += len(data)
            if self.head_bytes > LARGEST_HEAD and b"\r\n\r\n" not in data:
                self._head_over()
                self._refuse(431, "The request's head is too large.")
                return
        if b"h2c" in data and self.between:
            data = without_offer(data)
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._head_over()
        self.between = False
        super().on_headers_complete()
        if self.cycle is not None and self.scope["http_version"] == "1.0":
            self.cycle.__class__ = UnframedCycle

    def on_message_complete(self) -> None:
        self.between = True
        super().on_message_complete()


class UnframedCycle(RequestResponseCycle):
    """The answer to a client of HTTP/1.0, which knows no chunks: without a length, it ends with the connection."""

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            if all(name.lower() != b"content-length" for name, _ in message.get("headers", ())):
                self.chunked_encoding = False
                self.unframed = True
        elif getattr(self, "unframed", False):
            # uvicorn counts an answer's bytes against its length, and this one has none.
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


def without_offer(data: bytes) -> bytes:
    """The same bytes with the offer's header renamed; what follows the head is left alone."""
    head, end, rest = data.partition(b"\r\n\r\n")
    return OFFER.sub(rb"\1x-offer\2", head) + end + rest
