"""Lists and short facts answered from the whole fleet: tags, ps, version, status, the OpenAI models list."""

import orjson

from routing.core.errors import NoNode
from routing.core.names import canonical, display
from routing.core.requests import Api
from routing.core.state import NodeState, Reach
from routing.gateway import listings
from routing.gateway.envelopes import NATIVE_JSON, PLAIN_JSON, error_body, go_escaped
from routing.gateway.exchange import Exchange
from routing.gateway.looks import Looks
from routing.gateway.passing import NOT_FOUND, OK, Passing
from routing.gateway.targets import FRESH, Targets, together
from routing.upstream import wire


class Lists:
    """`ttl` is how many seconds a list still counts whose node does not answer; `per_node`: /api/ps names the nodes."""

    def __init__(self, looks: Looks, targets: Targets, passing: Passing, ttl: float, *, per_node: bool) -> None:
        self.looks, self.targets, self.passing = looks, targets, passing
        self.ttl, self.per_node = ttl, per_node

    async def tags(self, exchange: Exchange) -> None:
        await self.targets.refresh()
        await json(exchange, {"models": self._rows()})

    async def models(self, exchange: Exchange) -> None:
        await self.targets.refresh()
        rows = [listings.openai_model(row) for row in self._rows()]
        await json(exchange, {"object": "list", "data": rows or None}, PLAIN_JSON, b"\n")

    async def model(self, exchange: Exchange) -> None:
        """`GET /v1/models/{model}`: one row of the list, its id as the path spells it."""
        name = exchange.scope["path"].removeprefix("/v1/models/")
        await self.targets.refresh()
        row = next((row for row in self._rows() if canonical(listings.name_of(row)) == canonical(name)), None)
        if row is None:
            body = error_body(Api.OPENAI, NOT_FOUND, f"model '{display(name)}' not found")
            await exchange.respond(NOT_FOUND, [(b"content-type", PLAIN_JSON)], body)
            return
        await json(exchange, {**listings.openai_model(row), "id": name}, PLAIN_JSON, b"\n")

    def _rows(self) -> list[listings.Row]:
        """One row for each model of the nodes in use; who does not answer counts with its last list for a while.

        Raises `NoNode` where no node ever told one.
        """
        told = [(node, listed) for node in self.targets.used if (listed := self.looks.listed.get(node.spec.id))]
        told = [(node, listed) for node, listed in told if listed.tags_at > float("-inf")]
        if not told:
            raise NoNode(self.targets.nobody())
        # Where nodes differ, those that take requests say what a name means; the others tell what only they have.
        oldest, away = self.looks.clock() - self.ttl, Reach.DOWN
        present = [listed.tags for node, listed in told if node.reach is not away and node.used]
        others = [listed.tags for node, listed in told if node.reach is not away or listed.tags_at > oldest]
        rows = listings.merged_tags(present, self.looks.admission.dispatcher.drifted)
        return listings.completed(rows, listings.merged_tags(others))

    async def ps(self, exchange: Exchange) -> None:
        up = self.targets.up
        await together(self.looks.residents(node, FRESH) for node in up)
        told = [(node.spec.name, listed.ps) for node in up if (listed := self.looks.listed.get(node.spec.id))]
        rows = listings.named_ps(told) if self.per_node else listings.merged_ps(rows for _, rows in told)
        await json(exchange, {"models": rows})

    async def version(self, exchange: Exchange) -> None:
        """The lowest version among the nodes that are up, so that a client relies on nothing that one of them lacks."""
        known = [node for node in self.targets.used if node.version]
        up = [node for node in known if node.reach is not Reach.DOWN]
        version = listings.lowest_version(node.version for node in up or known)
        if version is None:
            raise NoNode(self.targets.nobody())
        await json(exchange, {"version": version})

    async def status(self, exchange: Exchange) -> None:
        """Cloud models are off only if they are off on every node; nodes too old to tell are not asked."""
        asked: list[NodeState] = [node for node in self.targets.up if exchange.scope["path"] not in node.missing]
        said = [one for one in await self.passing.ask(exchange, asked, b"") if one.status == OK]
        clouds = [listings.cloud_of(wire.decode(one.body)) for one in said]
        if not clouds:
            await self.passing.on(exchange, b"")
            return
        await json(exchange, {"cloud": min(clouds, key=lambda cloud: bool(cloud.get("disabled")))})

    async def alive(self, exchange: Exchange) -> None:
        """`GET /` as Ollama answers it, while any node is up."""
        if not any(node.reach in {Reach.UP, Reach.SUSPECT} for node in self.targets.used):
            raise NoNode(self.targets.nobody())
        await exchange.respond(OK, [(b"content-type", b"text/plain; charset=utf-8")], b"Ollama is running")


async def json(exchange: Exchange, value: object, content_type: bytes = NATIVE_JSON, end: bytes = b"") -> None:
    """Answer with JSON as Ollama writes it."""
    await exchange.respond(OK, [(b"content-type", content_type)], go_escaped(orjson.dumps(value)) + end)
