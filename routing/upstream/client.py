"""The streaming HTTP client towards the nodes; foreign exceptions become ours here."""

import errno
import os
from collections.abc import AsyncIterator, Iterable
from typing import Protocol

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from routing.core.snapshot import NodeSpec

#: Headers that belong to one hop or that the client library sets itself.
SKIPPED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
MARK = "X-Sollol-Gateway"
#: Nothing but the connection has a time limit: a node may load a model for minutes before its first byte.
READ_LIMIT = 1 << 18


class NodeFailed(Exception):  # noqa: N818 (what happened, not a category)
    """The node or the way to it failed.

    `refused`: no connection came about, so the node has not seen the request; `certain`: because nobody listens there;
    `local`: because this machine lacks something, which says nothing of the node; `said`: the node itself told that its
    model's runner has died.
    """

    def __init__(
        self, message: str, *, refused: bool = False, certain: bool = False, local: bool = False, said: bool = False
    ) -> None:
        super().__init__(message)
        self.refused, self.certain, self.local, self.said = refused, certain, local, said


class Body(Protocol):
    """A request body that is sent piece by piece and can be sent again; `size` in bytes."""

    @property
    def size(self) -> int: ...

    def pieces(self) -> AsyncIterator[bytes]: ...


#: Errors of a connection attempt that are this machine's own.
LOCAL = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL}
#: What reading from a node raises when the connection breaks.
BREAKS = (aiohttp.ClientError, OSError)


def broken(error: BaseException) -> NodeFailed:
    """Our name for what broke while an answer was read."""
    return NodeFailed(f"connection lost: {str(error) or type(error).__name__}")


class Answer:
    """One node's answer, read piece by piece; leaving it early closes the connection and ends the work.

    `read()` waits for the bytes that came since the last call, empty at the proper end, and raises one of `BREAKS`:
    for loops over many small pieces, where a layer more would cost. All others call `piece()`.
    """

    __slots__ = ("_content", "_response", "headers", "read", "status")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._content = response.content
        self.read = response.content.readany
        self.status = response.status
        self.headers = response.raw_headers

    @property
    def complete(self) -> bool:
        """Whether all bytes have come and were handed out."""
        return self._content.at_eof()

    async def piece(self) -> bytes:
        """The bytes that have come since the last call, waiting for at least one; empty at the proper end.

        Raises `NodeFailed` where the connection broke before the answer was complete.
        """
        try:
            return await self._content.readany()
        except BREAKS as error:
            raise broken(error) from None

    async def whole(self, limit: int | None = None) -> bytes:
        """All bytes up to the proper end; `NodeFailed` if it does not come, or if there are more than `limit`."""
        try:
            data = await self.read()
            if self._content.at_eof():
                return data
            pieces, size = [data], len(data)
            while data := await self.read():
                pieces.append(data)
                size += len(data)
                if limit is not None and size > limit:
                    raise NodeFailed(f"the answer is larger than {limit} bytes")
        except BREAKS as error:
            raise broken(error) from None
        return b"".join(pieces)

    def close(self) -> None:
        """Give the connection back if the answer was read to its end, else cut it."""
        self._response.close() if not self._content.is_eof() else self._response.release()


class Upstream:
    """Connections to all nodes; one per gateway, opened inside the event loop that uses it.

    `mark` goes with every request in `MARK`, behind those of gateways before, so that one that a request comes back to
    finds out.
    """

    def __init__(self, connect_timeout: float, mark: str = "") -> None:
        self._connect_timeout, self._mark = connect_timeout, mark
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[tuple[str, str], URL] = {}

    async def open_connections(self) -> None:
        """Make the connection pool; call inside the event loop that will use it."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=30, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=SKIPPED,
            read_bufsize=READ_LIMIT,
            max_line_size=65536,
            max_field_size=65536,
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def open(
        self,
        node: NodeSpec,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | Body | None = None,
    ) -> Answer:
        """Send a request and wait for the answer's headers; `target` is path and query as they go on the wire.

        The node's own credentials replace headers of the same name. Raises `NodeFailed`.
        """
        assert self._session is not None, "not opened"  # noqa: S101
        url = self._urls.get((node.url, target))
        if url is None:
            if not target.startswith("/"):
                # Behind the node's address it could make another host of it.
                raise NodeFailed(f"no path: {target}", local=True)
            url = URL(node.url + target, encoded=True)
            if len(self._urls) < 4096:  # noqa: PLR2004 (query strings must not grow it without end)
                self._urls[node.url, target] = url
        sent = CIMultiDict(headers)
        passed = sent.get(MARK)
        sent[MARK] = f"{passed}, {self._mark}" if passed else self._mark
        if node.headers:
            sent.update(node.headers)
        try:
            payload: object = None
            if isinstance(body, bytes):
                payload = aiohttp.BytesPayload(body)
            elif body is not None:
                payload, sent["Content-Length"] = body.pieces(), str(body.size)
            response = await self._session.request(method, url, data=payload, headers=sent, allow_redirects=False)
        except aiohttp.ClientConnectorError as error:
            number = error.os_error.errno
            reason = os.strerror(number) if number and number > 0 else str(error.os_error)
            raise NodeFailed(
                f"cannot connect to {error.host}:{error.port}: {reason}",
                refused=True,
                certain=number == errno.ECONNREFUSED,
                local=number in LOCAL,
            ) from None
        except (aiohttp.ServerTimeoutError, aiohttp.InvalidURL) as error:
            raise NodeFailed(f"cannot connect to {node.url}: {error}", refused=True) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NodeFailed(f"no answer: {str(error) or type(error).__name__}") from None
        return Answer(response)
