"""Requests handed to a node as they are, and its answer handed back; and questions of the gateway's own."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from routing.core.errors import NoNode
from routing.core.requests import Api, Route
from routing.core.state import NodeState
from routing.gateway import envelopes
from routing.gateway.exchange import Exchange, Headers
from routing.gateway.headers import from_node, to_node
from routing.gateway.targets import PATIENCE, Targets
from routing.upstream.client import Answer, Body, NodeFailed, Upstream

OK, NOT_FOUND, BUSY, UNAVAILABLE = 200, 404, 503, 503
NDJSON = b"application/x-ndjson"
#: POST routes that change nothing on a node: whoever answers, the answer is the same.
HARMLESS = frozenset((*(route.value for route in Route), "/api/show"))


@dataclass(frozen=True, slots=True)
class Said:
    """What a node answered; status 503 and its failure in words where it did not."""

    node: NodeState
    status: int
    headers: Headers
    body: bytes


class Passing:
    """Light requests: they need no slot."""

    def __init__(self, targets: Targets, upstream: Upstream) -> None:
        self.targets, self.upstream = targets, upstream

    async def on(self, exchange: Exchange, body: bytes | Body, nodes: Iterable[NodeState] | None = None) -> None:
        """Hand a request on and relay the answer; who is unreachable, busy or without the route is passed over.

        `nodes` in the order in which they are asked; all in use, the least busy first, if it is None. Raises `NoNode`
        where none answers.
        """
        exchange.watch_soon()
        try:
            await self._first_that_answers(
                exchange, body, self.targets.by_load(self.targets.used) if nodes is None else nodes
            )
        except asyncio.CancelledError:
            if not exchange.gone:
                raise
        finally:
            exchange.unwatch()

    async def _first_that_answers(self, exchange: Exchange, body: bytes | Body, nodes: Iterable[NodeState]) -> None:
        path = exchange.scope["path"]
        kept: tuple[int, Headers, bytes] | None = None
        failures: list[str] = []
        # Who is known not to have the route is asked last: its word counts if nobody has it.
        for node in sorted(nodes, key=lambda node: path in node.missing):
            if path in node.missing and kept is not None:
                break
            try:
                said = await self._try(exchange, node, body)
            except NodeFailed as failure:
                if exchange.started:
                    await break_off(exchange)
                    return
                failures.append(f"{node.spec.name}: {failure}")
                if not (failure.refused or failure.local or repeatable(exchange)):
                    break
                continue
            if said is None:
                return
            kept = said if kept is None or kept[0] == NOT_FOUND else kept
        if kept is None:
            raise NoNode(f"no node could answer ({'; '.join(failures)})" if failures else self.targets.nobody())
        await exchange.respond(*kept)

    async def _try(self, exchange: Exchange, node: NodeState, body: bytes | Body) -> tuple[int, Headers, bytes] | None:
        """Ask one node and relay its answer; returns the answer instead if another node may know better.

        Raises `NodeFailed`, also where the node is found dead while nothing comes from it.
        """
        call = Standstill(exchange)
        node.calls.add(call)
        try:
            answer = await self.upstream.open(
                node.spec, exchange.method, exchange.target, to_node(exchange.scope["headers"]), body
            )
            try:
                absent = lacks_route(answer)
                if absent:
                    node.lacks(exchange.scope["path"], self.targets.looks.clock())
                if absent or answer.status == BUSY:
                    return answer.status, from_node(answer.headers), await answer.whole()
                await relay_any(exchange, answer)
            finally:
                answer.close()
        except asyncio.CancelledError:
            if not exchange.lost or exchange.gone:
                raise
            exchange.went_on()
            raise NodeFailed("the node does not answer any more") from None
        finally:
            node.calls.discard(call)
        return None

    async def ask(
        self, exchange: Exchange, nodes: Sequence[NodeState], body: bytes, limit: float | None = PATIENCE
    ) -> list[Said]:
        """Send a client's request to several nodes at once; what each says, in their order, after `limit` seconds."""
        headers = to_node(exchange.scope["headers"])
        return list(
            await asyncio.gather(
                *(self.said(node, exchange.method, exchange.target, headers, body, limit) for node in nodes)
            )
        )

    async def said(
        self,
        node: NodeState,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | Body | None = None,
        limit: float | None = PATIENCE,
    ) -> Said:
        """Ask one node one thing and read its whole answer; never raises for what the node does."""
        try:
            async with asyncio.timeout(limit):
                answer = await self.upstream.open(node.spec, method, target, headers, body)
                try:
                    data = await answer.whole()
                finally:
                    answer.close()
        except (NodeFailed, TimeoutError) as failure:
            why = str(failure) or f"no answer within {limit:.0f} s"
            error = envelopes.error_body(Api.OLLAMA, UNAVAILABLE, f"{node.spec.name}: {why}")
            return Said(node, UNAVAILABLE, [(b"content-type", envelopes.NATIVE_JSON)], error)
        return Said(node, answer.status, from_node(answer.headers), data)


def lacks_route(answer: Answer) -> bool:
    """Whether a node says that it does not know the path: a 404 in plain text, where all others are JSON."""
    if answer.status != NOT_FOUND:
        return False
    return any(name.lower() == b"content-type" and value.startswith(b"text/plain") for name, value in answer.headers)


class Standstill:
    """Called at each look that finds a node dead: interrupts an exchange through which nothing has come since the last.

    A busy node may miss looks while it answers; who waits for its first byte is interrupted at once.
    """

    __slots__ = ("_exchange", "_passed")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self._passed = exchange, 0

    def __call__(self) -> None:
        before, self._passed = self._passed, self._exchange.passed
        if before == self._passed:
            self._exchange.interrupt()


def repeatable(exchange: Exchange) -> bool:
    """Whether a request may be sent to another node although one may have begun on it: it changes nothing there."""
    return exchange.method in {"GET", "HEAD"} or exchange.scope["path"] in HARMLESS


async def relay_any(exchange: Exchange, answer: Answer) -> None:
    """Relay an answer of whatever kind: a short one with its length, any other as it comes."""
    first = await answer.piece()
    headers = from_node(answer.headers)
    if exchange.method == "HEAD":
        # What a body would have had is told as the node tells it.
        told = [(name.lower(), value) for name, value in answer.headers if name.lower() == b"content-length"]
        await exchange.start(answer.status, headers + told)
        await exchange.finish()
        return
    if answer.complete:
        await exchange.respond(answer.status, headers, first)
        return
    exchange.lines = dict(headers).get(b"content-type", b"").startswith(NDJSON)
    await exchange.start(answer.status, headers)
    while first:
        exchange.passed += 1
        exchange.midline = not first.endswith(b"\n")
        await exchange.write(first)
        first = await answer.piece()
    await exchange.finish()


async def break_off(exchange: Exchange) -> None:
    """End an answer that broke after the client had seen a part: never so that it looks complete."""
    if exchange.lines:
        line = envelopes.error_body(Api.OLLAMA, BUSY, "the node that was answering has failed")
        await exchange.finish((b"\n" if exchange.midline else b"") + line + b"\n")
    else:
        exchange.complete = True
