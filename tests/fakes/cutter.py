"""A node whose answers come in the pieces that a test wants, and break off after the byte that it names."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import httpx
from aiohttp import web

from routing.core.requests import Route
from routing.core.snapshot import NodeSpec
from simulator.node import SimulatedNode

INFERENCE = {route.value for route in Route}


@dataclass
class Cutter:
    """Stands before a node. The next inference answer breaks off after `cut` bytes of its body (None: none does).

    `edges` are the offsets in bytes at which the body is split into pieces; `broken` counts what was broken off.
    """

    node: SimulatedNode
    client: httpx.AsyncClient
    cut: int | None = None
    edges: Iterable[int] = field(default_factory=tuple)
    broken: int = 0
    port: int = 0

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def spec(self, number: int) -> NodeSpec:
        return NodeSpec(number, self.name, self.base_url, slots=self.node.profile.parallel)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        told = await self.client.request(
            request.method,
            self.node.base_url + request.raw_path,
            content=await request.read(),
            headers={name: value for name, value in request.headers.items() if name.lower() == "content-type"},
        )
        kind = {"Content-Type": told.headers.get("content-type", "text/plain")}
        if self.cut is None or request.path not in INFERENCE or self.cut > len(told.content):
            return web.Response(status=told.status_code, body=told.content, headers=kind)
        body, self.cut = told.content[: self.cut], None
        answer = web.StreamResponse(status=told.status_code, headers=kind)
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        marks = sorted({0, *(edge % (len(body) + 1) for edge in self.edges), len(body)})
        for start, end in pairwise(marks):
            await answer.write(body[start:end])
        self.broken += 1
        assert request.transport is not None
        request.transport.close()
        return answer


@asynccontextmanager
async def cutter(node: SimulatedNode) -> AsyncIterator[Cutter]:
    """A listening cutter before a node that runs already."""
    async with httpx.AsyncClient(timeout=20) as client:
        one = Cutter(node, client)
        runner = web.ServerRunner(web.Server(one.handle), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        one.port = site._server.sockets[0].getsockname()[1]
        try:
            yield one
        finally:
            await runner.cleanup()
