"""The request class of the node's server."""

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

if TYPE_CHECKING:
    from aiohttp.web_protocol import RequestHandler


# Where a request keeps the CORS headers that its answer is to carry.
CORS = web.RequestKey("cors", dict[str, str])


class NodeRequest(web.BaseRequest):
    """A request without a limit on its body, whose answers carry the headers that Go's server sends and no others."""

    @classmethod
    def of(
        cls,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: "RequestHandler",
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> "NodeRequest":
        """What the server calls for each request."""
        return cls(message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=0)

    async def _prepare_hook(self, resp: web.StreamResponse) -> None:
        headers = resp.headers
        headers.pop("Server", None)
        if resp.content_length == 0 and headers.get("Content-Type") == "application/octet-stream":
            del headers["Content-Type"]
        headers.update(self.get(CORS, {}))


async def body_of(request: web.BaseRequest) -> bytes:
    """The whole body, asked for first where the client waits to be asked."""
    await ask_for_body(request)
    return await request.read()


async def ask_for_body(request: web.BaseRequest) -> None:
    """Answer `Expect: 100-continue`, which Go does when a handler begins to read."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
