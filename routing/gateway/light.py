"""Light requests: lists answered from the whole fleet, and what any one node can say."""

import asyncio
from collections.abc import Iterable

import orjson

from routing.core.errors import NoNode
from routing.core.names import canonical
from routing.core.requests import Profile
from routing.core.state import NodeState, Reach
from routing.gateway import bodies, listings
from routing.gateway.envelopes import NATIVE_JSON, PLAIN_JSON
from routing.gateway.exchange import Exchange, Headers
from routing.gateway.headers import from_node, to_node
from routing.gateway.looks import Listed, Looks
from routing.upstream.client import Answer, NodeFailed, Upstream

#: Seconds that a list may be old when a client asks for it, and that a client waits for a node slower than that.
FRESH, PATIENCE = 1.0, 2.0
BUSY = 503


class Light:
    """Answers that need no slot."""

    def __init__(self, looks: Looks, upstream: Upstream, max_body: int) -> None:
        self.looks, self.upstream, self.max_body = looks, upstream, max_body

    @property
    def used(self) -> list[NodeState]:
        return [node for node in self.looks.nodes() if node.spec.enabled]

    async def refresh_inventory(self) -> None:
        """Read the lists of installed models anew where they are older than a second.

        A slow node is not waited for long.
        """
        await self._fan_out([self.looks.inventory(node, FRESH) for node in self.used if node.reach is not Reach.DOWN])

    async def _fan_out(self, looks: Iterable) -> None:  # type: ignore[type-arg]
        tasks = [asyncio.ensure_future(look) for look in looks]
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE)

    def _listed(self) -> list[Listed]:
        """The lists of nodes in use, newest known; a node that is slow or down for the moment drops nothing."""
        return [listed for node in self.used if (listed := self.looks.listed.get(node.spec.id)) is not None]

    async def tags(self, exchange: Exchange) -> None:
        await self.refresh_inventory()
        rows = listings.merged_tags(listed.tags for listed in self._told("tags_at"))
        await json(exchange, {"models": rows})

    async def models(self, exchange: Exchange) -> None:
        await self.refresh_inventory()
        rows = listings.merged_tags(listed.tags for listed in self._told("tags_at"))
        await json(
            exchange,
            {"object": "list", "data": [listings.openai_model(row) for row in rows] or None},
            PLAIN_JSON,
            b"\n",
        )

    def find(self, name: str) -> listings.Row | None:
        """The merged row of one model, or None where no node has it."""
        key = canonical(name)
        rows = listings.merged_tags(listed.tags for listed in self._told("tags_at"))
        return next((row for row in rows if canonical(listings.name_of(row)) == key), None)

    async def ps(self, exchange: Exchange) -> None:
        up = [node for node in self.used if node.reach is not Reach.DOWN]
        await self._fan_out([self.looks.residents(node, FRESH) for node in up])
        listed = [self.looks.listed[node.spec.id] for node in up if node.spec.id in self.looks.listed]
        await json(exchange, {"models": listings.merged_ps(one.ps for one in listed)})

    def _told(self, field: str) -> list[Listed]:
        """The lists that were ever read. Raises `NoNode` where no node ever told one."""
        told = [listed for listed in self._listed() if getattr(listed, field) > float("-inf")]
        if not told:
            raise NoNode(self.nobody())
        return told

    async def version(self, exchange: Exchange) -> None:
        """The lowest version among the nodes that are up, so that a client relies on nothing that one of them lacks."""
        known = [node for node in self.used if node.version]
        up = [node for node in known if node.reach is not Reach.DOWN]
        version = listings.lowest_version(node.version for node in up or known)
        if version is None:
            raise NoNode(self.nobody())
        await json(exchange, {"version": version})

    async def alive(self, exchange: Exchange) -> None:
        """`GET /` as Ollama answers it, while any node is up."""
        if not any(node.reach in {Reach.UP, Reach.SUSPECT} for node in self.used):
            raise NoNode(self.nobody())
        await exchange.respond(200, [(b"content-type", b"text/plain; charset=utf-8")], b"Ollama is running")

    def nobody(self) -> str:
        """Why no node can answer, and what to do about it."""
        if not self.looks.admission.dispatcher.nodes:
            return "no Ollama node is known: add one under /admin/ or set SOLLOL_NODES"
        if not self.used:
            return "every Ollama node is disabled: enable one under /admin/"
        errors = "; ".join(f"{node.spec.name}: {node.error}" for node in self.used if node.error)
        return f"no Ollama node is up ({errors})" if errors else "no Ollama node is up"

    async def show(self, exchange: Exchange) -> None:
        """What a node that has the model says of it."""
        body = await exchange.body(self.max_body)
        asked = bodies.decode(body) or {}
        name = asked.get("model") or asked.get("name")
        key = canonical(name) if isinstance(name, str) else ""
        holders = [node for node in self.used if key in node.models]
        if key and not holders:
            await self.refresh_inventory()
            holders = [node for node in self.used if key in node.models]
        await self.any_node(exchange, body, holders or None)

    async def unload(self, exchange: Exchange, request: Profile, body: bytes) -> None:
        """Unload a model wherever it is loaded.

        One node's answer is the client's. Loaded nowhere: a node that has it says so.
        """
        holders = [node for node in self.used if request.key in node.models]
        loaded = [node for node in holders if node.weights_of(request.key) in node.resident]
        first, *rest = self._by_load(loaded or holders)
        others = [asyncio.ensure_future(self._quietly(exchange, node, body)) for node in (rest if loaded else [])]
        await self.any_node(exchange, body, [first])
        if others:
            await asyncio.wait(others, timeout=PATIENCE)

    async def _quietly(self, exchange: Exchange, node: NodeState, body: bytes) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self.upstream.open(
                    node.spec, exchange.method, exchange.target, to_node(exchange.scope["headers"]), body
                )
                try:
                    await answer.whole()
                finally:
                    answer.close()
        except (NodeFailed, TimeoutError):
            return

    def _by_load(self, nodes: Iterable[NodeState]) -> list[NodeState]:
        """Reachable nodes first, the least busy of them first."""
        return sorted(nodes, key=lambda node: (node.reach is Reach.DOWN, node.spec.draining, len(node.leases)))

    async def any_node(self, exchange: Exchange, body: bytes, nodes: list[NodeState] | None = None) -> None:
        """Hand a request on as it is and relay the answer; an unreachable or busy node leaves it to the next.

        Raises `NoNode` where none answers.
        """
        exchange.task = asyncio.current_task()
        exchange.watch_soon()
        try:
            await self._first_that_answers(exchange, body, self._by_load(self.used if nodes is None else nodes))
        except asyncio.CancelledError:
            if not exchange.gone:
                raise
        finally:
            exchange.unwatch()

    async def _first_that_answers(self, exchange: Exchange, body: bytes, nodes: list[NodeState]) -> None:
        headers = to_node(exchange.scope["headers"])
        busy: tuple[int, Headers, bytes] | None = None
        for node in nodes:
            node.calls.add(exchange.interrupt)
            try:
                answer = await self.upstream.open(node.spec, exchange.method, exchange.target, headers, body)
                try:
                    if answer.status == BUSY:
                        busy = (answer.status, from_node(answer.headers), await answer.whole())
                        continue
                    await relay_any(exchange, answer)
                finally:
                    answer.close()
            except (NodeFailed, asyncio.CancelledError) as failure:
                if isinstance(failure, asyncio.CancelledError):
                    if not exchange.lost or exchange.gone:
                        raise
                    exchange.went_on()
                if exchange.started:
                    # Cut off after the client has seen a part: it must not look like an end.
                    exchange.complete = True
                    return
                continue
            finally:
                node.calls.discard(exchange.interrupt)
            return
        if busy is None:
            raise NoNode(self.nobody())
        await exchange.respond(*busy)


async def relay_any(exchange: Exchange, answer: Answer) -> None:
    """Relay an answer of whatever kind: a short one with its length, any other as it comes."""
    first = await answer.piece()
    headers = from_node(answer.headers)
    if answer.complete:
        await exchange.respond(answer.status, headers, first)
        return
    await exchange.start(answer.status, headers)
    while first:
        await exchange.write(first)
        first = await answer.piece()
    await exchange.finish()


async def json(exchange: Exchange, value: object, content_type: bytes = NATIVE_JSON, end: bytes = b"") -> None:
    """Answer with JSON as Ollama writes it: <, > and & escaped."""
    data = orjson.dumps(value).replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
    await exchange.respond(200, [(b"content-type", content_type)], data + end)
