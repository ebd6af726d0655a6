"""A node that remembers what it was sent, byte for byte, and says what a test wants it to say."""

import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from routing.core.snapshot import NodeSpec

MODEL = "echo:1b"
FINAL = {"model": MODEL, "created_at": "2026-01-01T00:00:00Z", "response": "", "done": True, "done_reason": "stop"}
LISTED = {"name": MODEL, "model": MODEL, "modified_at": "2026-01-01T00:00:00Z", "size": 1, "digest": "e" * 64}

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass
class Seen:
    """One request as it came; header names in lower case, `target` is path and query as they were on the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class EchoNode:
    """`answer` makes the answer to whatever is no list; `seen` are those requests, oldest first."""

    answer: Answer
    seen: list[Seen] = field(default_factory=list)
    port: int = 0
    name: str = "echo"

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def spec(self, number: int = 1, **more) -> NodeSpec:
        return NodeSpec(number, self.name, self.base_url, slots=4, **more)

    @property
    def last(self) -> Seen:
        return self.seen[-1]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        lists = {
            "/api/version": {"version": "0.33.0"},
            "/api/tags": {"models": [LISTED]},
            "/api/ps": {"models": []},
        }
        if request.path in lists and request.method == "GET" and not request.query_string:
            return web.json_response(lists[request.path])
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append(Seen(request.method, request.raw_path, headers, await request.read()))
        return await self.answer(request)


async def final(request: web.BaseRequest) -> web.StreamResponse:
    """A whole stream of one object."""
    return web.Response(body=json.dumps(FINAL).encode() + b"\n", headers={"Content-Type": "application/x-ndjson"})


@asynccontextmanager
async def echo_node(answer: Answer = final, name: str = "echo"):
    """A listening node that echoes."""
    node = EchoNode(answer, name=name)
    server = web.Server(node.handle, request_factory=unlimited, auto_decompress=False, handler_cancellation=True)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    node.port = site._server.sockets[0].getsockname()[1]
    try:
        yield node
    finally:
        await runner.cleanup()


def unlimited(message, payload, protocol, writer, task):
    return web.BaseRequest(message, payload, protocol, writer, task, protocol._loop, client_max_size=0)
