"""Signs of life for a client whose streamed answer has not begun: proxies cut connections on which nothing moves."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import orjson

from routing.core.requests import Api, Profile, Route
from routing.gateway.exchange import Exchange, Headers

EVENT_STREAM, NDJSON = b"text/event-stream", b"application/x-ndjson"
COMMENT = b": waiting\n\n"


class KeepAlive:
    """Begins the answer after `interval` seconds without a byte, and sends a sign without meaning each as long again.

    On /v1 streams that is a comment, which every reader of events skips; on native streams an object without text,
    since a blank line would break clients there. Once it has begun, an error can only be told inside the stream.
    """

    __slots__ = ("_exchange", "_headers", "_interval", "_request", "_sending", "_timer")

    def __init__(self, exchange: Exchange, request: Profile, interval: float, headers: Callable[[], Headers]) -> None:
        self._exchange, self._request, self._interval, self._headers = exchange, request, interval, headers
        self._sending: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(interval, self._beat)

    def _beat(self) -> None:
        self._sending = asyncio.ensure_future(self._send())

    async def _send(self) -> None:
        exchange, native = self._exchange, self._request.route.api is Api.OLLAMA
        if not exchange.started:
            content_type = (b"content-type", NDJSON if native else EVENT_STREAM)
            await exchange.start(200, [content_type, *self._headers()])
        await exchange.write(empty_object(self._request) if native else COMMENT)
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._beat)

    async def stop(self) -> None:
        """End it before the answer itself is sent; a sign that is on its way is finished first."""
        self._timer.cancel()
        if self._sending is not None:
            # Whoever waits here may be interrupted; the sign itself must come out whole.
            await asyncio.shield(self._sending)
            self._timer.cancel()

    def cancel(self) -> None:
        """End it at once; the exchange is over."""
        self._timer.cancel()
        if self._sending is not None:
            self._sending.cancel()


def empty_object(request: Profile) -> bytes:
    """A piece of a native answer that holds no text yet."""
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    text = {"message": {"role": "assistant", "content": ""}} if request.route is Route.CHAT else {"response": ""}
    return orjson.dumps({"model": request.model, "created_at": now, **text, "done": False}) + b"\n"
