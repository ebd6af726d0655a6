"""HTTP/1.1 as uvicorn speaks it, also for clients that offer to go on in HTTP/2, or that know HTTP/1.0 only."""

import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

OFFER = re.compile(rb"(\r\n)upgrade(:[ \t]*h2c)", re.IGNORECASE)


class PlainHttp(HttpToolsProtocol):
    """Declines `Upgrade: h2c` by not seeing it, as a server may.

    Java's HTTP client and `curl --http2` offer it with every request. The parser would stop at the end of such a head,
    and the body behind it would be lost.
    """

    def data_received(self, data: bytes) -> None:
        if b"h2c" in data and (self.cycle is None or self.cycle.response_complete):
            data = without_offer(data)
        super().data_received(data)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.cycle is not None and self.scope["http_version"] == "1.0":
            self.cycle.__class__ = UnframedCycle


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
