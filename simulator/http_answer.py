"""HTTP answers as Go's server sends them: no Server header, one object per chunk, headers with the first object."""

import socket
import struct
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import NoReturn

from aiohttp import web

from simulator.faults import Faults
from simulator.runner import RunnerDied
from simulator.wire import JSON_PLAIN, JSON_UTF8, Refusal, error_json, go_json

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Broken(Exception):  # noqa: N818 - named after what happened
    """A fault took the connection; there is nobody to answer."""


class Stream(web.StreamResponse):
    """A streamed answer that frames its chunks itself, so that several objects may share one write to the socket."""

    # aiohttp then leaves the framing to us, and sends the headers together with the first chunk, as Go does.
    _length_check = False
    _send_headers_immediately = False

    def __init__(self, request: web.BaseRequest, headers: Mapping[str, str]) -> None:
        super().__init__(headers=headers)
        self._request = request
        self._framed = request.version >= (1, 1)
        if self._framed:
            self.headers["Transfer-Encoding"] = "chunked"
        else:
            self.force_close()

    async def send(self, objects: Sequence[bytes]) -> None:
        """Send objects, each as one HTTP chunk; waits while the client reads slower than this writes."""
        if not self.prepared:
            await self.prepare(self._request)
        if self._framed:
            await self.write(b"".join([b"%x\r\n%b\r\n" % (len(line), line) for line in objects]))
        else:
            await self.write(b"".join(objects))

    async def finish(self) -> None:
        if not self.prepared:
            await self.prepare(self._request)
        await self.write_eof(b"0\r\n\r\n" if self._framed else b"")


class Delivery:
    """Sends the objects of one answer and breaks it where a fault says so."""

    def __init__(
        self, request: web.BaseRequest, faults: Faults, content_type: str, headers: Mapping[str, str] = NO_HEADERS
    ) -> None:
        self._request = request
        self._faults = faults
        self.stream = Stream(request, {"Content-Type": content_type, **headers})
        self.sent = 0

    async def check(self) -> None:
        """Break here if a fault is due; raises Broken, Cut or RunnerDied."""
        while (due := self._faults.next_break()) is not None and self.sent >= due[0]:
            await self._break(due[1])

    async def send(self, objects: Sequence[bytes]) -> None:
        if self._faults.next_break() is None:
            await self.stream.send(objects)
            self.sent += len(objects)
            return
        for line in objects:
            await self.check()
            await self.stream.send([line])
            self.sent += 1

    async def finish(self) -> web.StreamResponse:
        await self.stream.finish()
        return self.stream

    async def _break(self, kind: str) -> None:
        if kind == "stall":
            await self._faults.until_unstalled()
            return
        if not self._faults.strikes():
            return
        if kind == "error":
            raise RunnerDied(self._faults.error_text)
        if kind == "eof":
            raise EndedEarly
        if kind == "reset":
            reset(self._request)
            raise Broken
        self.cut()

    def cut(self) -> NoReturn:
        """Close the connection in order, but without the chunk that ends a body."""
        if self._request.transport is not None:
            self._request.transport.close()
        raise Broken


class EndedEarly(Exception):  # noqa: N818 - named after what happened
    """The answer is to end properly without its last object."""


def reset(request: web.BaseRequest) -> None:
    """Reset the connection of a request."""
    if request.transport is not None:
        reset_socket(request.transport.get_extra_info("socket"))
        request.transport.abort()


def reset_socket(sock: socket.socket | None) -> None:
    """Make closing this socket send a reset instead of an orderly end."""
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def json_answer(value: object, status: int = HTTPStatus.OK) -> web.Response:
    """What c.JSON sends."""
    return body_answer(go_json(value), JSON_UTF8, status)


def body_answer(body: bytes, content_type: str, status: int = HTTPStatus.OK) -> web.Response:
    return web.Response(body=body, status=status, headers={"Content-Type": content_type})


def text_answer(text: str, status: int = HTTPStatus.OK, content_type: str = "text/plain") -> web.Response:
    return body_answer(text.encode(), content_type, status)


def empty_answer(status: int = HTTPStatus.OK) -> web.Response:
    return web.Response(status=status)


def refusal_answer(refusal: Refusal) -> web.Response:
    """The native error envelope."""
    return body_answer(error_json(refusal.text), JSON_UTF8 if refusal.charset else JSON_PLAIN, refusal.status)
