"""The gateway as an ASGI application: which path is answered by what."""

import asyncio
import logging
import secrets
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from routing.core.dispatcher import Dispatcher
from routing.core.errors import BodyTooSlow, ClientGone, Loop, Refusal, Stopping
from routing.core.learned import Learned
from routing.core.requests import Api, Route, api_of
from routing.core.resuming import Probed
from routing.core.snapshot import FleetSnapshot
from routing.core.usage import DayUse, Level, Taken
from routing.gateway import envelopes
from routing.gateway.access import Access
from routing.gateway.admission import Admission
from routing.gateway.blobs import PREFIX as BLOBS
from routing.gateway.blobs import Blobs
from routing.gateway.condition import Condition
from routing.gateway.edge import Origins
from routing.gateway.embedding.cache import VectorCache
from routing.gateway.embedding.disk import DiskVectors
from routing.gateway.embedding.service import embedding_of
from routing.gateway.exchange import Exchange, Headers, Receive, Scope, Send
from routing.gateway.headers import MARK
from routing.gateway.inference import Inference
from routing.gateway.inquiry import PREFIX as REQUESTS
from routing.gateway.inquiry import Inquiry
from routing.gateway.insight import Insight
from routing.gateway.library import Library
from routing.gateway.lists import Lists
from routing.gateway.looks import Looks
from routing.gateway.passing import Passing
from routing.gateway.prefill import Prefills
from routing.gateway.reception import Reception
from routing.gateway.routes import Endpoint, Methods, Table, allowed, clean
from routing.gateway.settings import CONTROL_PLANE, GatewaySettings
from routing.gateway.spool import Spool
from routing.gateway.stalls import Stalls, told
from routing.gateway.tally import Tally
from routing.gateway.targets import Targets
from routing.gateway.terms import Desk
from routing.gateway.transfers import Transfers
from routing.gateway.view import View, view_of
from routing.ports import Clock, History, NoHistory, Recorder
from routing.upstream.client import Upstream

log = logging.getLogger("sollol.gateway")

TEXT = b"text/plain"
INFERENCE = {route.value: route for route in Route}
#: Seconds that the start waits for nodes to be looked at.
FIRST_LOOK = 3.0
#: Seconds between two looks at the folder of uploads.
TIDY_S = 600.0


class Gateway:
    """The data plane of one process: everything between a client's request and a node's answer."""

    def __init__(
        self, settings: GatewaySettings, recorder: Recorder, clock: Clock, history: History | None = None
    ) -> None:
        self.settings, self.recorder, self.clock = settings, recorder, clock
        self.dispatcher = Dispatcher(limits=settings.limits, drift=settings.drift)
        hosts = settings.hosts if settings.listens_locally else None
        self.access = Access(settings.anonymous, hosts=hosts, secret=settings.secret)
        self.origins = Origins(settings.origins)
        self.admission = Admission(self.dispatcher, clock)
        mark = secrets.token_hex(8)
        self.mark = mark.encode()
        self.upstream = Upstream(settings.connect_timeout, mark)
        self.looks = Looks(self.admission, self.upstream, recorder, clock, settings.poll)
        self.tally = Tally()
        self.desk = Desk(self.dispatcher)
        self.targets = Targets(self.looks, settings.model_nodes)
        self.passing = Passing(self.targets, self.upstream)
        self.library = Library(self.targets, self.passing, settings.max_body)
        self.spool = Spool(settings.spool_folder, settings.max_blob, settings.spool_size, settings.spool_keep)
        self.prefills = Prefills(self.admission, self.upstream, clock, settings.prefill_every)
        self.inference = Inference(
            settings, self.admission, self.desk, self.upstream, self.looks, recorder, self.tally, self.prefills, clock
        )
        store = DiskVectors(settings.vectors_file, settings.vectors_disk) if settings.vectors_disk else None
        self.embedding = embedding_of(self.inference, VectorCache(settings.vectors_memory, store))
        self.inference.embedding = self.embedding
        self.stalls = Stalls(self.inference.attempts, clock, settings.stall, told, self.looks.doubt)
        self.reception = Reception(
            self.access, self.desk, self.inference, self.library, settings.max_body, settings.spool
        )
        self.inquiry = Inquiry(self.access, self.inference, history or NoHistory(), clock)
        self.insight = Insight(self.access, self.desk, self.inquiry, settings.max_body, clock)
        self.condition = Condition(self.dispatcher)
        self.exchanges: set[Exchange] = set()
        self.table = self._table()
        self._tidying: asyncio.Task[None] | None = None

    def _table(self) -> Table:
        lists = Lists(
            self.looks, self.targets, self.passing, self.settings.list_ttl, per_node=self.settings.ps == "nodes"
        )
        blobs = Blobs(self.spool, self.targets, self.passing)
        transfers = Transfers(self.library, blobs, self.clock)
        library, models = self.library, "models"
        account = Endpoint(self._account)
        own = Endpoint(self._account, models)
        exact: dict[str, Methods] = {
            "/": {"GET": Endpoint(self.root, ""), "HEAD": Endpoint(lists.alive, "")},
            "/healthz": {"GET": Endpoint(self.condition.alive, ""), "HEAD": Endpoint(self.condition.alive, "")},
            "/readyz": {"GET": Endpoint(self.condition.ready, ""), "HEAD": Endpoint(self.condition.ready, "")},
            "/api/version": {"GET": Endpoint(lists.version), "HEAD": Endpoint(lists.version)},
            "/api/status": {"GET": Endpoint(lists.status)},
            "/api/tags": {"GET": Endpoint(lists.tags), "HEAD": Endpoint(lists.tags)},
            "/api/ps": {"GET": Endpoint(lists.ps)},
            "/api/show": {"POST": Endpoint(library.show)},
            "/api/pull": {"POST": Endpoint(transfers.pull, models)},
            "/api/push": {"POST": Endpoint(library.push, models)},
            "/api/create": {"POST": Endpoint(transfers.create, models)},
            "/api/copy": {"POST": Endpoint(library.copy, models)},
            "/api/delete": {"DELETE": Endpoint(library.delete, models)},
            "/api/me": {"POST": own},
            "/api/signout": {"POST": own},
            "/api/experimental/web_search": {"POST": account},
            "/api/experimental/web_fetch": {"POST": account},
            "/api/experimental/model-recommendations": {"GET": account},
            "/v1/models": {"GET": Endpoint(lists.models)},
            "/api/queue": {"GET": Endpoint(self.insight.queue)},
            "/api/usage": {"GET": Endpoint(self.insight.usage)},
            "/api/explain": {"POST": Endpoint(self.insight.explain)},
        }
        exact |= {route.value: {"POST": Endpoint(partial(self._infer, route))} for route in Route}
        named: dict[str, Methods] = {
            BLOBS: {"HEAD": Endpoint(blobs.has, models), "POST": Endpoint(blobs.store, models)},
            REQUESTS: {"GET": Endpoint(self.inquiry.answer)},
            "/api/user/keys/": {"DELETE": own},
            "/v1/models/": {"GET": Endpoint(lists.model)},
        }
        return Table(exact, named)

    def apply(self, snapshot: FleetSnapshot) -> None:
        """Take a newer snapshot: nodes, teams and keys change together, from one request to the next."""
        self._take(snapshot)
        self.looks.follow()
        self.admission.pump()

    def _take(self, snapshot: FleetSnapshot) -> None:
        self.access.snapshot = snapshot
        self.dispatcher.apply(snapshot)
        self.desk.apply(snapshot)
        self.prefills.apply(snapshot.prefills)

    async def start(self, snapshot: FleetSnapshot) -> None:
        """Open the connections and take an inventory of the fleet, so that the first request finds it known."""
        await self.upstream.open_connections()
        self._take(snapshot)
        await self.looks.first(FIRST_LOOK)
        self.looks.follow()
        self.prefills.start()
        self.stalls.start()
        self._tidying = asyncio.ensure_future(self._tidy())
        self.condition.started = True

    async def _tidy(self) -> None:
        """Keep the folder of uploads within its bounds."""
        while True:
            try:
                await self.spool.tidy()
            except OSError as error:
                log.warning("the folder of uploads %s cannot be tidied: %s", self.spool.folder, error)
            await asyncio.sleep(TIDY_S)

    def drain(self) -> None:
        """Say that no new requests should come; those that do are served, and their connections end with them."""
        self.condition.draining = True

    def end_all(self) -> None:
        """End what still runs or waits, in the form of each API."""
        log.warning("%d requests are not done and are ended", len(self.exchanges))
        for exchange in list(self.exchanges):
            exchange.stop()

    async def stop(self) -> None:
        if self._tidying is not None:
            self._tidying.cancel()
            await asyncio.gather(self._tidying, return_exceptions=True)
        await self.prefills.stop()
        self.admission.close()
        await self.stalls.stop()
        await self.looks.close()
        await self.embedding.close()
        await self.upstream.close()

    # What is kept over a restart: the control plane asks, and writes it down

    def learn(self, learned: Learned) -> None:
        """Take what was kept from before."""
        self.dispatcher.learn(learned)

    def learned(self) -> Learned:
        """All that is known, to be kept."""
        return self.dispatcher.learner.learned()

    def relearn(self, nodes: Collection[int], learned: Learned) -> None:
        """Drop what is known of these nodes, and take what is kept of them."""
        self.dispatcher.learn(learned, nodes)
        self.admission.pump()

    def load_usage(self, days: Iterable[DayUse], levels: Iterable[Level]) -> None:
        """Take what teams used this month before this start, and how full the buckets of their quotas were."""
        self.desk.quotas.load(days, levels)

    def taken_usage(self) -> Taken:
        """What was used since the last call."""
        return self.desk.quotas.taken()

    def give_back_usage(self, taken: Taken) -> None:
        """What was taken could not be written: it will be part of what is taken next."""
        self.desk.quotas.give_back(taken)

    def taken_prefills(self) -> list[Probed]:
        """What was found out of models since the last call, to be kept."""
        return self.prefills.taken()

    def give_back_prefills(self, taken: Iterable[Probed]) -> None:
        """What was taken could not be written: it will be part of what is taken next."""
        self.prefills.give_back(taken)

    def view(self) -> View:
        """An immutable picture of what is going on now, for dashboards and metrics."""
        view, hedging = view_of(self.dispatcher, self.tally, self.clock()), self.inference.hedging
        view.data["totals"] |= {"second_copies": hedging.sent, "second_copies_won": hedging.won}
        view.data["totals"]["retries_denied"] = self.dispatcher.budget.denied
        view.data["totals"] |= self.embedding.totals
        return view

    def admits(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a page that sends these headers may connect, by the same rules as those of its requests."""
        return self.origins.admit(headers)

    def knows_key(self, key: str) -> bool:
        """Whether this is a key of ours that is in force."""
        return self.access.key_of(key.encode("utf-8", "replace")) is not None

    def told(self, request_id: str) -> dict[str, Any] | None:
        """A request that has not ended, as `GET /api/requests/{id}` tells it; None for any other."""
        return self.inquiry.told(request_id)

    def claims(self, path: str) -> bool:
        """Whether a path belongs to the data plane, known there or not."""
        if path in self.table.exact:
            return True
        first, *rest = path.removeprefix("/").split("/", 2)
        if first == "v1" or (first == "api" and (not rest or rest[0] not in CONTROL_PLANE)):
            return True
        return self.table.find(path) is not None or (clean(path) != path and self.claims(clean(path)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        path = scope["path"]
        exchange.task = asyncio.current_task()
        self.exchanges.add(exchange)
        if self.condition.draining:
            exchange.extra = [(b"connection", b"close")]
        try:
            if b"origin" in exchange.headers and await self.origins.settle(exchange):
                return
            self._refuse_loop(exchange)
            route = INFERENCE.get(path)
            if route is not None and scope["method"] == "POST":
                await self.reception.serve(exchange, route)
            else:
                await self._light(exchange, path)
        except Refusal as error:
            if isinstance(error, BodyTooSlow):
                exchange.extra = [(b"connection", b"close")]
            await exchange.respond(*envelopes.refusal(api_of(path), error))
        except ClientGone:
            return
        except asyncio.CancelledError:
            if not exchange.stopped or exchange.gone:
                raise
            await self._stopped(exchange, api_of(path))
        except Exception:
            log.exception("%s %s failed", exchange.method, path)
            if exchange.started:
                raise
            body = envelopes.error_body(api_of(path), 500, "the gateway failed; its log says why")
            await exchange.respond(500, [(b"content-type", envelopes.PLAIN_JSON)], body)
        finally:
            self.exchanges.discard(exchange)

    async def let_in(self, scope: Scope, receive: Receive, send: Send) -> tuple[bool, Headers] | None:
        """Judge the caller of a request that is served outside; None if it is answered, because it goes no further.

        Otherwise whether the caller has no key and needs none, and headers that the answer must carry.
        """
        exchange = Exchange(scope, receive, send)
        try:
            if b"origin" in exchange.headers and await self.origins.settle(exchange):
                return None
            caller = self.access.caller_for(scope, exchange.headers)
            caller.require("inference")
        except Refusal as error:
            await exchange.respond(*envelopes.refusal(api_of(scope["path"]), error))
            return None
        return caller.anonymous, exchange.extra

    async def _stopped(self, exchange: Exchange, api: Api) -> None:
        """End what a stop has interrupted: with an error where there is room for one, never as if it were complete."""
        exchange.went_on()
        refusal = Stopping("the gateway is stopping; send the request again")
        if not exchange.started:
            await exchange.respond(*envelopes.refusal(api, refusal))
        elif exchange.lines:
            line = envelopes.error_body(Api.OLLAMA, refusal.status, refusal.message) + b"\n"
            await exchange.finish((b"\n" if exchange.midline else b"") + line)

    def _refuse_loop(self, exchange: Exchange) -> None:
        """Raise `Loop` for a request that has passed this gateway before, directly or by way of others."""
        if self.mark in exchange.headers.get(MARK, b""):
            raise Loop(f"node and gateway are one: {exchange.headers.get(b'host', b'').decode('latin-1')}")

    async def _light(self, exchange: Exchange, path: str) -> None:
        """Everything but inference."""
        if (tidy := clean(path)) != path:
            await self._redirect(exchange, 307, tidy)
            return
        methods, method = self.table.find(path), exchange.method
        if method == "OPTIONS" and self.settings.listens_locally:
            await exchange.respond(204, [], b"")
            return
        endpoint = methods.get(method) if methods else None
        caller = None
        if endpoint is None or endpoint.scope:
            caller = self.access.caller_for(exchange.scope, exchange.headers)
        if endpoint is not None:
            if caller is not None:
                caller.require(endpoint.scope)
            await endpoint.handler(exchange)
        elif methods is not None:
            headers = [(b"content-type", TEXT), (b"allow", allowed(methods))]
            await exchange.respond(405, headers, b"405 method not allowed")
        elif (bare := self.table.unslashed(path, method)) is not None:
            await self._redirect(exchange, 301 if method == "GET" else 307, bare)
        else:
            # A route of a newer Ollama, perhaps: a node knows.
            self.access.caller_for(exchange.scope, exchange.headers).require("models")
            await self.passing.on(exchange, await exchange.body(self.settings.max_body))

    async def _redirect(self, exchange: Exchange, status: int, path: str) -> None:
        query = exchange.scope["query_string"]
        location = quote(path).encode() + (b"?" + query if query else b"")
        await exchange.respond(status, [(b"location", location)], b"")

    async def root(self, exchange: Exchange) -> None:
        """Ollama's greeting, or the dashboard for a browser."""
        if b"text/html" in exchange.headers.get(b"accept", b""):
            await exchange.respond(302, [(b"location", self.settings.dashboard.encode())], b"")
            return
        await self.table.exact["/"]["HEAD"].handler(exchange)

    async def _account(self, exchange: Exchange) -> None:
        """What concerns the account at ollama.com is for the one node that stands for it."""
        await self.passing.on(exchange, await exchange.body(self.settings.max_body), self.targets.account[:1])

    async def _infer(self, route: Route, exchange: Exchange) -> None:
        await self.reception.serve(exchange, route)
