"""HTTP/1.1 as uvicorn speaks it, for clients that offer to go on in HTTP/2."""

import re

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

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


def without_offer(data: bytes) -> bytes:
    """The same bytes with the offer's header renamed; what follows the head is left alone."""
    head, end, rest = data.partition(b"\r\n\r\n")
    return OFFER.sub(rb"\1x-offer\2", head) + end + rest
