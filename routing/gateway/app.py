"""The gateway as an ASGI application: which path is answered by what."""

import logging
import secrets
from collections.abc import Awaitable, Callable, Collection

from routing.core.dispatcher import Dispatcher
from routing.core.errors import ClientGone, Loop, Refusal
from routing.core.names import display
from routing.core.requests import Route
from routing.core.snapshot import FleetSnapshot
from routing.gateway import envelopes, listings
from routing.gateway.access import Access
from routing.gateway.admission import Admission
from routing.gateway.exchange import Exchange, Receive, Scope, Send
from routing.gateway.inference import Inference
from routing.gateway.light import Light, json
from routing.gateway.looks import Looks
from routing.gateway.settings import CONTROL_PLANE, GatewaySettings
from routing.gateway.tally import Tally
from routing.gateway.view import View, view_of
from routing.ports import Clock, Recorder
from routing.upstream import client
from routing.upstream.client import Upstream

log = logging.getLogger("sollol.gateway")

Handler = Callable[[Exchange], Awaitable[None]]
TEXT = b"text/plain"
MARK = client.MARK.lower().encode()
INFERENCE = {route.value: route for route in Route}
#: The order in which Ollama lists the methods that a path allows.
METHOD_ORDER = ("HEAD", "GET", "POST", "DELETE")
#: Seconds that the start waits for nodes to be looked at.
FIRST_LOOK = 3.0


class Gateway:
    """The data plane of one process: everything between a client's request and a node's answer."""

    def __init__(self, settings: GatewaySettings, recorder: Recorder, clock: Clock) -> None:
        self.settings, self.recorder, self.clock = settings, recorder, clock
        self.dispatcher = Dispatcher(limits=settings.limits)
        self.access = Access(settings.anonymous)
        self.admission = Admission(self.dispatcher, clock)
        mark = secrets.token_hex(8)
        self.mark = mark.encode()
        self.upstream = Upstream(settings.connect_timeout, mark)
        self.looks = Looks(self.admission, self.upstream, recorder, clock, settings.poll)
        self.light = Light(self.looks, self.upstream, settings.max_body)
        self.tally = Tally()
        self.inference = Inference(
            settings, self.access, self.admission, self.upstream, self.light, recorder, self.tally, clock
        )
        self.routes = self._routes()

    def _routes(self) -> dict[str, dict[str, Handler]]:
        light = self.light
        routes: dict[str, dict[str, Handler]] = {
            "/": {"GET": self.root, "HEAD": light.alive},
            "/api/version": {"GET": light.version, "HEAD": light.version},
            "/api/tags": {"GET": light.tags, "HEAD": light.tags},
            "/api/ps": {"GET": light.ps},
            "/api/show": {"POST": light.show},
            "/v1/models": {"GET": light.models},
        }
        return routes

    def apply(self, snapshot: FleetSnapshot) -> None:
        """Take a newer snapshot: nodes, teams and keys change together, from one request to the next."""
        self.access.snapshot = snapshot
        self.dispatcher.apply(snapshot)
        self.looks.follow()
        self.admission.pump()

    async def start(self, snapshot: FleetSnapshot) -> None:
        """Open the connections and take an inventory of the fleet, so that the first request finds it known."""
        await self.upstream.open_connections()
        self.access.snapshot = snapshot
        self.dispatcher.apply(snapshot)
        await self.looks.first(FIRST_LOOK)
        self.looks.follow()

    async def stop(self) -> None:
        self.admission.close()
        await self.looks.close()
        await self.upstream.close()

    def view(self) -> View:
        """An immutable picture of what is going on now, for dashboards and metrics."""
        return view_of(self.dispatcher, self.tally, self.clock())

    def claims(self, path: str) -> bool:
        """Whether a path belongs to the data plane, known there or not."""
        if path in INFERENCE or path in self.routes:
            return True
        first, *rest = path.removeprefix("/").split("/", 2)
        return first == "v1" or (first == "api" and (not rest or rest[0] not in CONTROL_PLANE))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        path = scope["path"]
        try:
            self._refuse_loop(exchange)
            route = INFERENCE.get(path)
            if route is not None and scope["method"] == "POST":
                await self.inference.serve(exchange, route)
            else:
                await self._light(exchange, path)
        except Refusal as error:
            await exchange.respond(*envelopes.refusal(envelopes.api_of(path), error))
        except ClientGone:
            return
        except Exception:
            log.exception("%s %s failed", exchange.method, path)
            if exchange.started:
                raise
            body = envelopes.error_body(envelopes.api_of(path), 500, "the gateway failed; its log says why")
            await exchange.respond(500, [(b"content-type", envelopes.PLAIN_JSON)], body)

    def _refuse_loop(self, exchange: Exchange) -> None:
        """Raise `Loop` for a request that this gateway itself has sent to one of its nodes."""
        if exchange.headers.get(MARK) == self.mark:
            raise Loop(f"node and gateway are one: {exchange.headers.get(b'host', b'').decode('latin-1')}")

    async def _light(self, exchange: Exchange, path: str) -> None:
        """Everything but inference; needs the scope that inference needs, save for `/`, which tells nothing."""
        if path != "/":
            self.access.caller_for(exchange.scope, exchange.headers).require("inference")
        methods = self.routes.get(path)
        if methods is not None:
            handler = methods.get(exchange.method)
            await (self._wrong_method(exchange, methods) if handler is None else handler(exchange))
        elif path in INFERENCE:
            await self._wrong_method(exchange, ("POST",))
        else:
            await self._parameter(exchange, path)

    async def _wrong_method(self, exchange: Exchange, methods: Collection[str]) -> None:
        allowed = ", ".join(method for method in METHOD_ORDER if method in methods)
        await exchange.respond(405, [(b"content-type", TEXT), (b"allow", allowed.encode())], b"405 method not allowed")

    async def root(self, exchange: Exchange) -> None:
        """Ollama's greeting, or the dashboard for a browser."""
        if b"text/html" in exchange.headers.get(b"accept", b""):
            await exchange.respond(302, [(b"location", self.settings.dashboard.encode())], b"")
            return
        await self.light.alive(exchange)

    async def _parameter(self, exchange: Exchange, path: str) -> None:
        """Paths with a name in them; any other is unknown, in Ollama's words."""
        name = path.removeprefix("/v1/models/")
        if not name or "/" in name:
            await exchange.respond(404, [(b"content-type", TEXT)], b"404 page not found")
        elif exchange.method != "GET":
            await self._wrong_method(exchange, ("GET",))
        else:
            await self._model(exchange, path, name)

    async def _model(self, exchange: Exchange, path: str, name: str) -> None:
        """`GET /v1/models/{model}`: one row of the list, its id as the path spells it."""
        await self.light.refresh_inventory()
        row = self.light.find(name)
        if row is None:
            body = envelopes.error_body(envelopes.api_of(path), 404, f"model '{display(name)}' not found")
            await exchange.respond(404, [(b"content-type", envelopes.PLAIN_JSON)], body)
            return
        await json(exchange, {**listings.openai_model(row), "id": name}, envelopes.PLAIN_JSON, b"\n")
