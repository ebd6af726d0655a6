"""One address in front of simulated nodes: the gateway without Django, on a real socket, in the test's event loop."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from routing.core.records import NodeEvent, RequestRecord
from routing.core.resuming import Behaviour
from routing.core.snapshot import FleetSnapshot, Key, NodeSpec, Prefill, TeamPolicy
from routing.gateway.app import Gateway
from routing.gateway.settings import GatewaySettings
from simulator.node import SimulatedNode
from tests.fakes.echo import EchoNode

CHAT = "llama3.2:3b"
MESSAGES = [{"role": "user", "content": "Why is the sky blue?"}]


@dataclass
class MemoryRecorder:
    """A recorder that keeps everything."""

    requests: list[RequestRecord] = field(default_factory=list)
    events: list[NodeEvent] = field(default_factory=list)

    def request(self, record: RequestRecord) -> None:
        self.requests.append(record)

    def event(self, event: NodeEvent) -> None:
        self.events.append(event)


class Server(uvicorn.Server):
    """uvicorn without its signal handlers, which belong to a process and not to a test."""

    @contextlib.contextmanager
    def capture_signals(self):
        yield


@dataclass
class Address:
    """The running gateway and its nodes by name; `snapshot` is what it was last told."""

    gateway: Gateway
    recorder: MemoryRecorder
    nodes: dict[str, SimulatedNode]
    url: str
    snapshot: FleetSnapshot

    def client(self, **more) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=30, **more)

    def operate(self, name: str, **changes) -> None:
        """Change a node's configuration, as a new snapshot would."""
        nodes = tuple(changed(spec, **changes) if spec.name == name else spec for spec in self.snapshot.nodes)
        self.snapshot = replace(self.snapshot, revision=self.snapshot.revision + 1, nodes=nodes)
        self.gateway.apply(self.snapshot)

    def remove(self, name: str) -> None:
        """Delete a node, as a new snapshot would."""
        nodes = tuple(spec for spec in self.snapshot.nodes if spec.name != name)
        self.snapshot = replace(self.snapshot, revision=self.snapshot.revision + 1, nodes=nodes)
        self.gateway.apply(self.snapshot)

    @property
    def last(self) -> RequestRecord:
        return self.recorder.requests[-1]

    def asked(self, name: str, path: str = "/api/chat") -> int:
        """Requests that a node has seen on a path."""
        return self.nodes[name].record.requests[path]

    async def until(self, predicate, seconds: float = 5.0) -> None:
        """Return when the predicate holds; TimeoutError after so many seconds."""
        async with asyncio.timeout(seconds):
            while not predicate():
                await asyncio.sleep(0.002)


def changed(spec: NodeSpec, **changes) -> NodeSpec:
    return NodeSpec(**{name: getattr(spec, name) for name in spec.__slots__} | changes)


def spec_of(number: int, node: SimulatedNode) -> NodeSpec:
    return NodeSpec(
        number,
        node.name,
        node.base_url,
        slots=node.profile.parallel,
        node_class="gpu" if node.profile.has_gpu else "cpu",
        vram_bytes=node.profile.vram_bytes or None,
        ram_bytes=node.profile.ram_bytes,
        max_loaded=node.profile.max_loaded,
    )


def probed(nodes) -> dict[str, Prefill]:
    installed = [model for node in nodes for model in getattr(node, "node", node).library.newest_first()]
    return {model.digest: Prefill(Behaviour.CONTINUE, 1.0) for model in installed}


def sim(
    name: str, profile: str = "gpu-24gb", speed: float = 50.0, models=(CHAT, "nomic-embed-text:latest"), **more
) -> SimulatedNode:
    return SimulatedNode(profile, name=name, speed=speed, models=models, **more)


@asynccontextmanager
async def address(
    *nodes: SimulatedNode | EchoNode,
    settings: GatewaySettings | None = None,
    teams: dict[int, TeamPolicy] | None = None,
    keys: dict[str, Key] | None = None,
    start: bool = True,
    continuing: bool = False,
    around: Callable[[Gateway], Any] | None = None,
    http: Any = "httptools",
) -> AsyncIterator[Address]:
    """Start nodes and gateway; at the end nothing may be left in flight, whatever the test did.

    `around` makes the application that is served of the gateway, where that is to be more. `continuing`: probes have
    shown that every model of the nodes goes on with an unfinished assistant message.
    """
    recorder = MemoryRecorder()
    settings = settings or GatewaySettings(poll=0.2)
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        settings = settings if settings.spool else replace(settings, spool=Path(folder))
        gateway = Gateway(settings, recorder, time.monotonic)
        for node in nodes:
            if start and isinstance(node, SimulatedNode):
                await stack.enter_async_context(node)
        snapshot = FleetSnapshot(
            1,
            tuple(
                spec_of(i + 1, node) if isinstance(node, SimulatedNode) else node.spec(i + 1)
                for i, node in enumerate(nodes)
            ),
            teams or {},
            keys or {},
            prefills=probed(nodes) if continuing else {},
        )
        await gateway.start(snapshot)
        config = uvicorn.Config(
            around(gateway) if around else gateway,
            host="127.0.0.1",
            port=0,
            loop="none",
            http=http,
            ws="websockets-sansio" if around else "none",
            lifespan="off",
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
        server = Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.001)
        port = server.servers[0].sockets[0].getsockname()[1]
        running = Address(gateway, recorder, {node.name: node for node in nodes}, f"http://127.0.0.1:{port}", snapshot)
        try:
            yield running
            await running.until(lambda: not gateway.dispatcher.in_flight() and not gateway.dispatcher.waiting)
        finally:
            server.should_exit = True
            await serving
            await gateway.stop()
