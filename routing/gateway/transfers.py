"""Pull and create on several nodes at once, told to the client as one."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from routing.core.errors import NoNode
from routing.core.names import is_cloud
from routing.core.state import NodeState, Reach
from routing.gateway.blobs import BlobRefused, Blobs
from routing.gateway.envelopes import PLAIN_JSON, go_escaped
from routing.gateway.exchange import Exchange, Headers
from routing.gateway.headers import from_node, to_node
from routing.gateway.library import Library, key_of, name_of
from routing.gateway.passing import NDJSON, OK
from routing.gateway.progress import MergedProgress
from routing.gateway.spool import digest_of
from routing.ports import Clock
from routing.upstream import wire
from routing.upstream.client import Answer, NodeFailed

log = logging.getLogger("sollol.models")

FAILED = 500
#: A pull that breaks is begun again on the node so many times, since it goes on where it was; seconds between.
AGAIN, PAUSE = 2, 1.0
FILES = ("files", "adapters", "draft_files")

Prepare = Callable[[NodeState, "Work"], Awaitable[None]]


@dataclass(eq=False)
class Work:
    """One request being carried out on several nodes; `refusals` are nodes' error answers that came before any line.

    `heard` counts what each node has said.
    """

    exchange: Exchange
    body: bytes
    progress: MergedProgress
    again: int = 0
    prepare: Prepare | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    refusals: list[tuple[int, Headers, bytes]] = field(default_factory=list)
    heard: Counter[str] = field(default_factory=Counter)

    @property
    def unanimous(self) -> bool:
        """Whether every node has refused the request in the same words."""
        progress, words = self.progress, {body for _, _, body in self.refusals}
        return len(words) == 1 and not progress.succeeded and len(self.refusals) == len(progress.failures)

    def take(self, node: NodeState, status: Mapping[str, Any]) -> None:
        self.heard[node.spec.name] += 1
        self.progress.take(node.spec.name, status)
        self.news.set()

    def failed(self, node: NodeState, text: str) -> None:
        self.progress.failed(node.spec.name, text)
        self.news.set()


class Transfers:
    """Serves /api/pull and /api/create."""

    def __init__(self, library: Library, blobs: Blobs, clock: Clock) -> None:
        self.library, self.blobs, self.clock = library, blobs, clock
        self.targets, self.passing = library.targets, library.passing

    async def pull(self, exchange: Exchange) -> None:
        """Pull a model to the nodes named, else by default; a cloud model's stub to the node with the account."""
        body, asked, key = await self.library.read(exchange)
        if asked is None or not key:
            await self.passing.on(exchange, body)
            return
        named = self.targets.asked(exchange, asked)
        if named is None and is_cloud(name_of(asked)):
            nodes = self.targets.account[:1]
        else:
            nodes = self.targets.chosen(named, self.targets.size_of(key))
        await self._carry_out(exchange, asked, nodes, Work(exchange, body, progress_of(nodes), AGAIN))

    async def create(self, exchange: Exchange) -> None:
        """Create a model on the nodes named, else wherever what it is made from is, else by default."""
        body, asked, key = await self.library.read(exchange)
        if asked is None or not key:
            await self.passing.on(exchange, body)
            return
        digests = digests_of(asked)
        kept = {digest: size for digest in digests if (size := self.blobs.spool.has(digest)) is not None}
        nodes = await self._makers(exchange, asked, digests, kept)

        async def prepare(node: NodeState, work: Work) -> None:
            await self.blobs.send(node, kept, lambda *sent: work.take(node, copying(*sent)))

        await self._carry_out(
            exchange, asked, nodes, Work(exchange, body, progress_of(nodes), prepare=prepare if kept else None)
        )

    async def _makers(
        self, exchange: Exchange, asked: Mapping[str, Any], digests: Sequence[str], kept: Mapping[str, int]
    ) -> list[NodeState]:
        """The nodes on which a model is to be created; a file that is not kept here must be on them already.

        `kept` are the sizes in bytes of those that are.
        """
        named = self.targets.asked(exchange, asked)
        holders = [] if named is not None else await self.targets.holders(key_of(asked, "from"))
        known = sum(kept.values()) or None
        nodes = [node for node in holders if node in self.targets.up] or self.targets.chosen(named, known)
        elsewhere = [digest for digest in digests if digest not in kept]
        return (await self.blobs.having(nodes, elsewhere) if elsewhere else nodes) or nodes[:1]

    async def _carry_out(
        self, exchange: Exchange, asked: Mapping[str, Any], nodes: Sequence[NodeState], work: Work
    ) -> None:
        if not nodes:
            raise NoNode(self.targets.nobody())
        exchange.extra = [
            *exchange.extra,
            (b"x-sollol-nodes", ",".join(node.spec.name for node in nodes).encode("ascii", "replace")),
        ]
        if len(nodes) == 1 and work.prepare is None:
            await self.passing.on(exchange, work.body, nodes)
            await self.targets.changed(nodes)
            return
        exchange.watch_soon()
        tasks = [asyncio.ensure_future(self._on_node(node, work)) for node in nodes]
        try:
            await self._tell(exchange, work, streams=asked.get("stream") is not False)
        except asyncio.CancelledError:
            if not exchange.gone:
                raise
        finally:
            exchange.unwatch()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self, exchange: Exchange, work: Work, *, streams: bool) -> None:
        """Tell the client how far all nodes are, then how it ended."""
        progress = work.progress
        while True:
            work.news.clear()
            due = progress.due(self.clock())
            if due and streams:
                if not exchange.started:
                    await exchange.start(OK, [(b"content-type", NDJSON)])
                for status in due:
                    await exchange.write(line_of(status))
            if progress.over:
                break
            await self._news(work)
        await self.targets.changed(node for node in self.targets.used if node.spec.name in progress.succeeded)
        await self._end(exchange, work)

    async def _news(self, work: Work) -> None:
        """Return when a node has said something, or when what it said before may be told."""
        at = work.progress.next_at()
        if at is None:
            await work.news.wait()
            return
        try:
            async with asyncio.timeout(max(0.0, at - self.clock())):
                await work.news.wait()
        except TimeoutError:
            return

    async def _end(self, exchange: Exchange, work: Work) -> None:
        outcome = work.progress.outcome()
        if exchange.started:
            await exchange.finish(line_of(outcome))
        elif work.unanimous:
            # As one node says it, status included.
            await exchange.respond(*work.refusals[0])
        else:
            status = FAILED if "error" in outcome else OK
            await exchange.respond(status, [(b"content-type", PLAIN_JSON)], line_of(outcome).rstrip())

    async def _on_node(self, node: NodeState, work: Work) -> None:
        """One node's part, from preparing it to its last line; whatever it does, the others go on."""
        try:
            await self._watched(node, work)
        except (NodeFailed, BlobRefused) as failure:
            work.failed(node, text_of(str(failure).encode()))
        except Exception:
            log.exception("%s on %s failed", work.exchange.scope["path"], node.spec.name)
            work.failed(node, "the gateway failed; its log says why")

    async def _watched(self, node: NodeState, work: Work) -> None:
        """The same, given up when the node is found dead and nothing has come from it since the look before."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (always in a task)
        heard, lost = 0, False

        def lose() -> None:
            nonlocal heard, lost
            before, heard = heard, work.heard[node.spec.name]
            if before == heard and not lost:
                lost = True
                task.cancel()

        node.calls.add(lose)
        try:
            if work.prepare is not None:
                await work.prepare(node, work)
            await self._persist(node, work)
        except asyncio.CancelledError:
            if not lost:
                raise
            raise NodeFailed("the node does not answer any more") from None
        finally:
            node.calls.discard(lose)

    async def _persist(self, node: NodeState, work: Work) -> None:
        """Carry it out, again if the connection breaks and that makes sense."""
        for tries in range(work.again + 1):
            try:
                await self._once(node, work)
            except NodeFailed:
                if tries == work.again or node.reach is Reach.DOWN:
                    raise
                await asyncio.sleep(PAUSE * 2**tries)
            else:
                return

    async def _once(self, node: NodeState, work: Work) -> None:
        exchange = work.exchange
        headers = to_node(exchange.scope["headers"])
        answer = await self.passing.upstream.open(node.spec, exchange.method, exchange.target, headers, work.body)
        try:
            if answer.status != OK:
                data = await answer.whole()
                work.refusals.append((answer.status, from_node(answer.headers), data))
                work.failed(node, text_of(data))
                return
            async for status in objects(answer):
                work.take(node, status)
            work.progress.ended(node.spec.name)
            work.news.set()
        finally:
            answer.close()


def progress_of(nodes: Iterable[NodeState]) -> MergedProgress:
    return MergedProgress([node.spec.name for node in nodes])


async def objects(answer: Answer) -> AsyncIterator[dict[str, Any]]:
    """The JSON objects of a stream of lines, or of an answer that is one object."""
    rest = b""
    while data := await answer.piece():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if (value := wire.decode(line)) is not None:
                yield value
    if (value := wire.decode(rest)) is not None:
        yield value


def digests_of(asked: Mapping[str, Any]) -> list[str]:
    """The files that a create names, each once."""
    named = [files.values() for name in FILES if isinstance(files := asked.get(name), dict)]
    found = [digest for values in named for text in values if isinstance(text, str) and (digest := digest_of(text))]
    return list(dict.fromkeys(found))


def copying(digest: str, sent: int, total: int) -> dict[str, Any]:
    """Progress of a file on its way to the nodes, in the form of Ollama's own progress."""
    return {"status": f"copying {digest[7:19]}", "digest": digest, "total": total, "completed": sent}


def line_of(status: Mapping[str, Any]) -> bytes:
    return go_escaped(orjson.dumps(status)) + b"\n"


def text_of(data: bytes) -> str:
    """What an error answer says."""
    value = wire.decode(data)
    return str(value["error"]) if value and "error" in value else data.decode("utf-8", "replace").strip()
