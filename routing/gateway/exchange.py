"""One HTTP exchange with a client over ASGI: its body, its answer, and whether the client is still there."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from routing.core.errors import BodyTooLarge, BodyTooSlow, ClientGone

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

#: Seconds after which a request that is still unanswered is watched for its client's leaving.
WATCH_AFTER_S = 0.03
#: Seconds in which something must come of a body that is on its way, and bytes per second that it must have after that.
BODY_GAP_S, LEAST_RATE = 60.0, 256.0
NO_CONTENT = 204


class Exchange:
    """`started` once the answer's head was sent, `complete` once its end was, `gone` once the client has left.

    Headers are looked up by lower-case name; of a repeated one the last counts. `extra` are headers that go out with
    the answer, whatever it will be; `lines`: the answer is NDJSON, in which a last line can tell of an error; `passed`
    counts the pieces of a node's answer, `midline` tells that the last one ended within a line. `lost`: the node does
    not answer any more, `stopped`: the gateway stops; both come with the cancellation of `task`.
    """

    __slots__ = (
        "_timer",
        "_watcher",
        "complete",
        "extra",
        "gone",
        "headers",
        "lines",
        "lost",
        "midline",
        "passed",
        "receive",
        "scope",
        "send",
        "started",
        "status",
        "stopped",
        "task",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.started = self.complete = self.gone = self.lost = self.stopped = self.lines = self.midline = False
        self.status = self.passed = 0
        self.extra: Headers = []
        self.task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def method(self) -> str:
        return str(self.scope["method"])

    @property
    def target(self) -> str:
        """Path and query as the client sent them, for the node."""
        raw: bytes = self.scope.get("raw_path") or self.scope["path"].encode()
        query: bytes = self.scope["query_string"]
        return (raw.split(b"?", 1)[0] + (b"?" + query if query else b"")).decode("latin-1")

    async def body(self, limit: int) -> bytes:
        """The whole request body. Raises `BodyTooLarge` above `limit` bytes and `ClientGone` if it never completes."""
        self._declared_within(limit)
        message = await self.receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            return bytes(message.get("body", b""))
        return b"".join([data async for data in self._rest(message, limit)])

    async def pieces(self, limit: int | None = None) -> AsyncGenerator[bytes, None]:
        """The request body as it comes, for bodies too large to hold; raises as `body` does. No limit if it is None."""
        if limit is not None:
            self._declared_within(limit)
        async for data in self._rest(await self.receive(), limit):
            yield data

    @property
    def declared(self) -> int | None:
        """The length of the body in bytes that the client has announced; None where it has not."""
        told = self.headers.get(b"content-length", b"")
        return int(told) if told.isdigit() else None

    def _declared_within(self, limit: int) -> None:
        if (self.declared or 0) > limit:
            raise too_large(limit)

    async def _rest(self, message: Message, limit: int | None) -> AsyncIterator[bytes]:
        size, began = 0, time.monotonic()
        while True:
            if message["type"] == "http.disconnect":
                self.gone = True
                raise ClientGone
            data = message.get("body", b"")
            size += len(data)
            if limit is not None and size > limit:
                raise too_large(limit)
            yield data
            if not message.get("more_body"):
                return
            try:
                async with asyncio.timeout(BODY_GAP_S):
                    message = await self.receive()
            except TimeoutError:
                raise BodyTooSlow(f"nothing came of the request's body for {BODY_GAP_S:.0f} s") from None
            if (passed := time.monotonic() - began) > BODY_GAP_S and size < passed * LEAST_RATE:
                raise BodyTooSlow(f"{size} bytes of the request's body came in {passed:.0f} s")

    def watch_soon(self) -> None:
        """Begin to watch for the client's leaving, unless the exchange is over within the next moment.

        A task for each request costs more than many a request itself; most of those that end so soon need none.
        """
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._begin_to_watch)

    def _begin_to_watch(self) -> None:
        self._watcher = asyncio.ensure_future(self._watch())

    def unwatch(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        elif self._timer is not None:
            self._timer.cancel()

    async def _watch(self) -> None:
        """Cancel the exchange's task as soon as the client leaves; an ASGI server's `send` would not tell."""
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                break
        if not self.complete:
            self.gone = True
            if self.task is not None:
                self.task.cancel()

    def interrupt(self) -> None:
        """Interrupt what waits for a node that does not answer any more; whoever waits finds `lost` set."""
        if self.task is not None and not (self.complete or self.gone or self.lost):
            self.lost = True
            self.task.cancel()

    def stop(self) -> None:
        """The gateway stops: interrupt whatever is being done, so that it ends in the API's own form."""
        if self.task is not None and not (self.complete or self.gone or self.stopped):
            self.stopped = True
            self.task.cancel()

    def went_on(self) -> None:
        """The interruption was taken note of, and the exchange goes on."""
        self.lost = False
        if self.task is not None:
            self.task.uncancel()

    async def start(self, status: int, headers: Headers) -> None:
        self.started, self.status = True, status
        if self.extra:
            headers = headers + self.extra
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes) -> None:
        await self.send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes = b"") -> None:
        self.complete = True
        await self.send({"type": "http.response.body", "body": data, "more_body": False})

    async def respond(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        """A whole answer at once, with its length."""
        self.started, self.status = True, status
        head = [*headers, *self.extra]
        if status != NO_CONTENT:
            head.append((b"content-length", b"%d" % len(body)))
        await self.send({"type": "http.response.start", "status": status, "headers": head})
        self.complete = True
        if self.scope["method"] == "HEAD":
            body = b""
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


def too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the request body is larger than {limit >> 20} MiB (SOLLOL_MAX_BODY_MB)")
