"""Model files on their way: taken from the client once, checked, and sent to each node that needs them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from routing.core.requests import Api
from routing.core.state import NodeState
from routing.gateway.envelopes import NATIVE_JSON, error_body
from routing.gateway.exchange import Exchange
from routing.gateway.passing import NOT_FOUND, OK, Passing
from routing.gateway.spool import Spool, digest_of
from routing.gateway.targets import Targets

PREFIX = "/api/blobs/"
CREATED, BAD_REQUEST = 201, 400
#: Called with the bytes sent and the bytes in all.
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Blob:
    """A spooled file as a request body; `sent` is told how far a node has taken it."""

    spool: Spool
    digest: str
    size: int
    report: Report

    async def pieces(self) -> AsyncIterator[bytes]:
        sent = 0
        async for piece in self.spool.pieces(self.digest):
            self.report(sent, self.size)
            yield piece
            sent += len(piece)
        self.report(sent, self.size)


class BlobRefused(Exception):  # noqa: N818 (what happened, not a category)
    """A node did not take a file; the text says which and why."""


class Blobs:
    """HEAD and POST of /api/blobs/{digest}, and the distribution before a model is created."""

    def __init__(self, spool: Spool, targets: Targets, passing: Passing) -> None:
        self.spool, self.targets, self.passing = spool, targets, passing

    async def has(self, exchange: Exchange) -> None:
        """200 if a create would find the file: it is kept here, or every node chosen has it."""
        digest = await self._digest(exchange)
        if digest is not None:
            known = self.spool.has(digest) is not None or await self._everywhere(exchange, digest)
            await exchange.respond(OK if known else NOT_FOUND, [], b"")

    async def store(self, exchange: Exchange) -> None:
        """Take a file, unless it is known already: then the answer comes before the body is read, as a node's does."""
        digest = await self._digest(exchange)
        if digest is None:
            return
        if self.spool.has(digest) is not None or await self._everywhere(exchange, digest):
            await exchange.respond(OK, [], b"")
            return
        async with aclosing(exchange.pieces()) as pieces:
            await self.spool.store(digest, pieces, exchange.declared)
        await exchange.respond(CREATED, [], b"")

    async def _digest(self, exchange: Exchange) -> str | None:
        digest = digest_of(exchange.scope["path"].removeprefix(PREFIX))
        if digest is None:
            body = error_body(Api.OLLAMA, BAD_REQUEST, "invalid digest format")
            await exchange.respond(BAD_REQUEST, [(b"content-type", NATIVE_JSON)], body)
        return digest

    async def _everywhere(self, exchange: Exchange, digest: str) -> bool:
        chosen = self.targets.chosen(self.targets.asked(exchange))
        return len(await self.having(chosen, [digest])) == len(chosen)

    async def having(self, nodes: Sequence[NodeState], digests: Iterable[str]) -> list[NodeState]:
        """Those of the nodes that have all these files."""
        wanted = list(digests)
        present = await asyncio.gather(*(self._on(node, digest) for node in nodes for digest in wanted))
        found = [present[i * len(wanted) : (i + 1) * len(wanted)] for i in range(len(nodes))]
        return [node for node, answers in zip(nodes, found, strict=True) if all(answers)]

    async def _on(self, node: NodeState, digest: str) -> bool:
        return (await self.passing.said(node, "HEAD", PREFIX + digest)).status == OK

    async def send(self, node: NodeState, digests: Iterable[str], report: Callable[[str, int, int], None]) -> None:
        """Send a node what it lacks of these files. Raises `BlobRefused`.

        `report` is called with the digest, the bytes sent and the bytes in all.
        """
        for digest in digests:
            size = self.spool.has(digest)
            if size is None or await self._on(node, digest):
                continue
            blob = Blob(self.spool, digest, size, partial(report, digest))
            said = await self.passing.said(node, "POST", PREFIX + digest, (), blob, limit=None)
            if said.status not in {OK, CREATED}:
                raise BlobRefused(said.body.decode("utf-8", "replace"))
