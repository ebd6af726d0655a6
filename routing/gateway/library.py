"""What clients do with installed models: show, unload, copy, delete, push."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from routing.core.names import canonical, is_cloud
from routing.core.requests import Profile
from routing.core.state import NodeState
from routing.gateway import bodies
from routing.gateway.exchange import Exchange
from routing.gateway.passing import NOT_FOUND, OK, Passing, Said
from routing.gateway.targets import Targets

log = logging.getLogger("sollol.models")

#: Seconds that a node may take to delete or copy a model: a few files are linked or unlinked.
LONGEST = 60.0


class Library:
    """One model on many nodes, as if there were one."""

    def __init__(self, targets: Targets, passing: Passing, max_body: int) -> None:
        self.targets, self.passing, self.max_body = targets, passing, max_body

    async def read(self, exchange: Exchange, name: str = "model") -> tuple[bytes, Mapping[str, Any] | None, str]:
        """The body, what it says (None where that is no JSON object), and the key of the model that it names."""
        body = await exchange.body(self.max_body)
        asked = await bodies.decoded(body)
        return body, asked, key_of(asked, name)

    async def show(self, exchange: Exchange) -> None:
        """What a node that has the model says of it; of a cloud model, the node with the account."""
        body, asked, key = await self.read(exchange)
        if is_cloud(name_of(asked)):
            await self.passing.on(exchange, body, self.targets.account)
            return
        nodes = await self._meant(exchange, asked, key)
        nodes.sort(key=lambda node: key in node.outdated)
        await self.passing.on(exchange, body, nodes or None)

    async def _meant(self, exchange: Exchange, asked: Mapping[str, Any] | None, key: str) -> list[NodeState]:
        """The nodes that have a model, of those that the request names if it names any; else those that it names."""
        named = self.targets.asked(exchange, asked)
        holders = await self.targets.holders(key)
        if named is None:
            return holders
        chosen = self.targets.chosen(named)
        return [node for node in holders if node in chosen] or chosen

    async def unload(self, exchange: Exchange, request: Profile, body: bytes) -> None:
        """Unload a model wherever it is loaded, or on the nodes that the header names.

        One node's answer is the client's. Loaded nowhere: a node that has it says so.
        """
        nodes = await self._meant(exchange, None, request.key)
        loaded = [node for node in nodes if node.weights_of(request.key) in node.resident]
        first, *rest = loaded or nodes
        others = asyncio.ensure_future(self.passing.ask(exchange, rest if loaded else [], body))
        await self.passing.on(exchange, body, [first])
        await others

    async def delete(self, exchange: Exchange) -> None:
        """Delete a model from every node that has it, or from those that the request names."""
        body, asked, key = await self.read(exchange)
        await self._everywhere(exchange, body, asked, key)

    async def copy(self, exchange: Exchange) -> None:
        """Give a model a second name on every node that has it, or on those that the request names."""
        body, asked, key = await self.read(exchange, "source")
        await self._everywhere(exchange, body, asked, key)

    async def _everywhere(self, exchange: Exchange, body: bytes, asked: Mapping[str, Any] | None, key: str) -> None:
        """Done if one node did it and all others know no such model; any other answer is the client's.

        The lists may be old, so that a node that lost the model meanwhile says 404; that is no failure.
        """
        await self.targets.refresh()  # a model that came to a node without us is meant too
        nodes = await self._meant(exchange, asked, key)
        if not nodes:
            # Nobody has it, or the body makes no sense: a node says so in its own words.
            await self.passing.on(exchange, body)
            return
        said = await self.passing.ask(exchange, nodes, body, LONGEST)
        await self.targets.changed(one.node for one in said if one.status == OK)
        told = worst(said)
        if told.status not in {OK, NOT_FOUND}:
            remaining = ", ".join(one.node.spec.name for one in said if one.status not in {OK, NOT_FOUND})
            log.warning("%s %s of %s failed on %s", exchange.method, exchange.scope["path"], key, remaining)
        await exchange.respond(told.status, told.headers, told.body)

    async def push(self, exchange: Exchange) -> None:
        """Push from one node that has the model, the one with the account before others: a registry knows its key."""
        body, asked, key = await self.read(exchange)
        nodes = await self._meant(exchange, asked, key)
        nodes.sort(key=lambda node: not node.cloud)
        await self.passing.on(exchange, body, nodes or None)


def worst(said: Sequence[Said]) -> Said:
    """The answer that tells how it went in all: a failure, else a success, else that nobody has the model."""
    return min(said, key=lambda one: (one.status in {OK, NOT_FOUND}, one.status == NOT_FOUND))


def name_of(asked: Mapping[str, Any] | None) -> str:
    """The model that a request names; Go clients send `model` and `name`, one of them empty."""
    name = (asked or {}).get("model") or (asked or {}).get("name")
    return name if isinstance(name, str) else ""


def key_of(asked: Mapping[str, Any] | None, field: str = "model") -> str:
    """The canonical key of the model that a request names, empty where it names none."""
    name = name_of(asked) if field == "model" else (asked or {}).get(field)
    return canonical(name) if isinstance(name, str) and name else ""
