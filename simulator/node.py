"""A simulated Ollama node: an HTTP server on a socket of its own, a scheduler, and what can go wrong with them."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Self

from aiohttp import web

from simulator.access import refused_or_preflight
from simulator.clock import Clock
from simulator.downloads import Downloads
from simulator.faults import Faults
from simulator.http_answer import Broken, reset_socket
from simulator.library import Library
from simulator.models import CATALOGUE, ModelSpec
from simulator.names import parse_name
from simulator.node_request import NodeRequest, body_of
from simulator.profiles import PROFILES, Profile
from simulator.record import Arrival, Departure, Record
from simulator.routes import INFERENCE, ROUTES, Handler, parameter_route, refused, unrouted
from simulator.routes_control import PREFIX as CONTROL_PREFIX
from simulator.routes_control import control
from simulator.runner import Device
from simulator.scheduler import Scheduler
from simulator.wire import Refusal, parse_body

BACKLOG = 1024
GO_BUFFER_BYTES = 2048
POLL_SECONDS = 0.002
STOP_SECONDS = 2.0
# Models of one node were installed one after the other, so that lists have an order.
INSTALL_GAP_SECONDS = 3600.0


def _registry(specs: Iterable[ModelSpec]) -> dict[str, ModelSpec]:
    return {name.key: spec for spec in specs if (name := parse_name(spec.name))}


class SimulatedNode:
    """One Ollama server without a GPU.

    `models` are names of the catalogue or ModelSpecs; by default all of the catalogue that fit the profile.
    `speed` simulated seconds pass in one real second. `exact_length` makes every answer as long as num_predict
    says, which is what the instant profile does. `faults` can be flipped and `record` read at any time.
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
        **changes: Any,
    ) -> None:
        """`changes` replace fields of the profile, such as parallel=1 or decode_rate=100."""
        chosen = PROFILES[profile] if isinstance(profile, str) else profile
        self.profile = replace(chosen, **changes) if changes else chosen
        self.name = name
        self.host = host
        self.version = version
        self.exact_length = self.profile.instant if exact_length is None else exact_length
        self.clock = Clock(speed)
        self.faults = Faults()
        self.faults.watch(self._fault_set)
        self.record = Record()
        self.library = Library()
        self.device = Device(self.clock, self.profile, self.faults, seed)
        self.scheduler = Scheduler(self.clock, self.profile, self.device, self.faults, self.record)
        self.downloads = Downloads(self.clock, self.profile, self.library)
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
            answer = await self._answer(request)
        except Broken:
            return web.Response()
        finally:
            del self._handling[task]
        # Go knows the length of what fits its buffer, and sends anything longer in chunks.
        long = not answer.prepared and (answer.content_length or 0) > GO_BUFFER_BYTES
        if long and request.version >= (1, 1) and request.method != "HEAD":
            answer.enable_chunked_encoding()
        return answer

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path.startswith(CONTROL_PREFIX):
            return await control(self, request)
        self.record.requests[path] += 1
        settled = refused_or_preflight(request, loopback=self.loopback)
        if settled is not None:
            return settled
        try:
            return await self._dispatched(request, path)
        except Refusal as refusal:
            return refused(path, refusal)

    async def _dispatched(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        handler = ROUTES.get(path, {}).get(request.method)
        if handler is not None:
            return await self._routed(request, path, handler)
        await self.faults.until_thawed()
        parameter = parameter_route(path)
        if parameter is None or request.method not in parameter[0]:
            return unrouted(request)
        return await parameter[0][request.method](self, request, parameter[1])

    async def _routed(self, request: web.BaseRequest, path: str, handler: Handler) -> web.StreamResponse:
        body: Mapping[str, Any] = {}
        model = ""
        if request.method in {"POST", "DELETE"}:
            empty = "EOF" if path.startswith("/v1/") else "missing request body"
            body = parse_body(await body_of(request), empty=empty)
            named = body.get("model") or body.get("name") or ""
            model = named if isinstance(named, str) else ""
        self.record.arrivals.append(Arrival(path, model, self.clock.now()))
        async with self._departure_noted(path, model):
            await self.faults.until_thawed()
            return await handler(self, request, body)

    @asynccontextmanager
    async def _departure_noted(self, path: str, model: str) -> AsyncIterator[None]:
        """Count the request while it is here, and note a client that leaves before its answer is complete."""
        counted = path in INFERENCE
        name = parse_name(model)
        shown = name.shortest if name else model
        if counted:
            self.record.enter(shown)
        try:
            yield
        except (asyncio.CancelledError, ConnectionError):
            if self.alive:
                self.record.aborted.append(Departure(path, model, self.clock.now()))
            raise
        finally:
            if counted:
                self.record.leave(shown)
