"""A simulated Ollama node: an HTTP server on a socket of its own, a scheduler, and what can go wrong with them."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Self

from aiohttp import web

from simulator.clock import Clock
from simulator.dispatch import answer
from simulator.downloads import Downloads
from simulator.faults import Faults
from simulator.http_answer import Broken, reset_socket
from simulator.library import Library
from simulator.models import CATALOGUE, ModelSpec
from simulator.names import parse_name
from simulator.node_request import NodeRequest
from simulator.origins import Origins
from simulator.profiles import PROFILES, Profile
from simulator.record import Record
from simulator.runner import Device
from simulator.scheduler import Scheduler

BACKLOG = 1024
POLL_SECONDS = 0.002
STOP_SECONDS = 2.0
# How long Go reads on after it has answered without reading a body, before it closes the connection.
LINGERING_SECONDS = 0.5
# Models of one node were installed one after the other, so that lists have an order.
INSTALL_GAP_SECONDS = 3600.0


def _registry(specs: Iterable[ModelSpec]) -> dict[str, ModelSpec]:
    return {name.key: spec for spec in specs if (name := parse_name(spec.name))}


class SimulatedNode:
    """One Ollama server without a GPU.

    `models` are names of the catalogue or ModelSpecs; by default all of the catalogue that fit the profile.
    `speed` simulated seconds pass in one real second. `exact_length` makes every answer as long as num_predict
    says, which is what the instant profile does. `account` is who is signed in at ollama.com, if anybody is.
    `origins` is what OLLAMA_ORIGINS would be. `faults` can be flipped and `record` read at any time.
    """

    def __init__(
        self,
        profile: str | Profile = "gpu-24gb",
        *,
        models: Iterable[str | ModelSpec] | None = None,
        speed: float = 1.0,
        name: str = "ollama",
        host: str = "127.0.0.1",
        port: int = 0,
        version: str = "0.33.0",
        seed: int = 0,
        exact_length: bool | None = None,
        account: str = "",
        origins: str = "",
        **changes: Any,
    ) -> None:
        """`changes` replace fields of the profile, such as parallel=1 or decode_rate=100."""
        chosen = PROFILES[profile] if isinstance(profile, str) else profile
        self.profile = replace(chosen, **changes) if changes else chosen
        self.name = name
        self.host = host
        self.version = version
        self.account = account
        self.origins = Origins.of(origins)
        self.exact_length = self.profile.instant if exact_length is None else exact_length
        self.clock = Clock(speed)
        self.faults = Faults()
        self.faults.watch(self._fault_set)
        self.record = Record()
        self.library = Library()
        self.device = Device(self.clock, self.profile, self.faults, seed)
        self.scheduler = Scheduler(self.clock, self.profile, self.device, self.faults, self.record)
        self.downloads = Downloads(self.clock, self.profile, self.library, self.faults)
        self.registry = _registry(CATALOGUE.values())
        """What can be pulled, by canonical name; pushing adds to it."""
        self._install(self.profile.catalogue() if models is None else models)
        self.loop: asyncio.AbstractEventLoop | None = None
        self._port = port
        self._socket: socket.socket | None = None
        self._listening: asyncio.Server | None = None
        self._server: web.Server | None = None
        self._handling: dict[asyncio.Task[Any], object] = {}
        """Tasks that answer a request, with the connection it came on."""
        self._chores: set[asyncio.Task[Any]] = set()
        self._ids = 0

    def _install(self, models: Iterable[str | ModelSpec]) -> None:
        newest = time.time()
        for age, model in enumerate(models):
            spec = CATALOGUE[model] if isinstance(model, str) else model
            installed = self.library.install(spec, newest - age * INSTALL_GAP_SECONDS)
            self.registry[installed.name.key] = spec

    # Life

    @property
    def port(self) -> int:
        """The port, known after the first start and kept over kills and restarts."""
        return self._port

    @property
    def base_url(self) -> str:
        return f"http://{self.host}:{self._port}"

    @property
    def effective_version(self) -> str:
        """What /api/version says, and the routes follow."""
        return self.faults.version or self.version

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the node, which turns the Host check on."""
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")

    @property
    def alive(self) -> bool:
        """Whether the process is there; it may still refuse or hang."""
        return self._server is not None

    async def start(self) -> "SimulatedNode":
        """Listen. Raises OSError when the port is taken."""
        self.loop = self.faults.loop = asyncio.get_running_loop()
        self._socket = self._socket or self._bind()
        self._port = self._socket.getsockname()[1]
        self._server = web.Server(
            self._handle,
            request_factory=NodeRequest.of,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            lingering_time=LINGERING_SECONDS,
        )
        self.scheduler.start()
        if not self.faults.refuse:
            await self._listen()
        return self

    async def stop(self) -> None:
        """End at once: connections are cut, nothing is left running."""
        self.kill()
        tasks = (set(self._handling) | self._chores) - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def kill(self) -> None:
        """As kill -9: every connection is reset, the port refuses, all runners and the queue are lost."""
        if self._server is None:
            return
        server, self._server = self._server, None
        self._refuse()
        for connection in server.connections:
            transport = connection.transport
            if transport is not None:
                reset_socket(transport.get_extra_info("socket"))
                transport.abort()
        for task in self._handling:
            task.cancel()
        self.scheduler.lose_all("killed")
        self.downloads.lose_all()

    async def restart(self) -> None:
        """Come up again on the same port, with nothing loaded."""
        if self._server is not None:
            self.kill()
        await self.start()

    def kill_for(self, seconds: float) -> None:
        """Be dead for so many real seconds, beginning as soon as the answer that says so is on its way."""

        async def down() -> None:
            await asyncio.sleep(0.05)
            self.kill()
            await asyncio.sleep(seconds)
            await self.restart()

        self.in_background(down())

    def in_background(self, chore: Any) -> "asyncio.Task[Any]":
        """Run a coroutine that ends with the node at the latest."""
        task = asyncio.get_running_loop().create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
        return task

    async def until(self, predicate: Callable[[], object], seconds: float = 5.0) -> None:
        """Return when the predicate holds; raises TimeoutError after so many real seconds."""
        deadline = time.monotonic() + seconds
        while not predicate():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not true within {seconds} s on node {self.name}")
            await asyncio.sleep(POLL_SECONDS)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    # The socket: it is bound all the time, so that the system gives its port to nobody who asks for any free one, and
    # listens only while the node accepts.

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setblocking(False)
            sock.bind((self.host, self._port))
        except OSError:
            sock.close()
            raise
        return sock

    async def _listen(self) -> None:
        if self._server is None or self._socket is None:
            return
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(self._server, sock=self._socket, backlog=BACKLOG)
        self._socket = None

    def _refuse(self) -> None:
        """Close the listening socket and hold the port with one that does not listen."""
        if self._listening is None:
            return
        self._listening.close()
        self._listening = None
        # A loop that closes its sockets a moment later still has the port; then it is bound at the next start.
        with suppress(OSError):
            self._socket = self._bind()

    def _fault_set(self, switch: str) -> None:
        if switch != "refuse" or self._server is None:
            return
        if not self.faults.refuse:
            if self._listening is None:
                # From now on connections wait in the backlog, so that nobody who comes at once is refused.
                self._socket = self._socket or self._bind()
                self._socket.listen(BACKLOG)
                self.in_background(self._listen())
            return
        self._refuse()
        busy = set(map(id, self._handling.values()))
        for connection in self._server.connections:
            if connection.transport is not None and id(connection) not in busy:
                connection.transport.close()

    # Requests

    def next_id(self) -> int:
        self._ids += 1
        return self._ids

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a handler always runs in a task
        self._handling[task] = request.protocol
        try:
            return await answer(self, request)
        except Broken:
            return web.Response()
        finally:
            del self._handling[task]
