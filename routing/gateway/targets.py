"""Which nodes a request about models is for: those that have one, those that get one, the one with the account."""

import asyncio
import math
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any

from routing.core.errors import BadRequest, NoNode
from routing.core.residency import MEMORY_FACTOR
from routing.core.snapshot import NodeSpec
from routing.core.state import NodeState, Reach
from routing.gateway.exchange import Exchange
from routing.gateway.looks import Looks

#: Seconds that a list may be old when a client asks for it, and that a client waits for a node slower than that.
FRESH, PATIENCE = 1.0, 2.0
HEADER, FIELD = b"x-sollol-nodes", "sollol_nodes"
FITTING, ALL = "fit", "all"


class Targets:
    """Picks nodes; `default` says where new models go if a request does not: `fit`, `all`, names or `label=value`."""

    def __init__(self, looks: Looks, default: str = FITTING) -> None:
        self.looks, self.default = looks, default

    @property
    def used(self) -> list[NodeState]:
        return [node for node in self.looks.nodes() if node.spec.enabled]

    @property
    def up(self) -> list[NodeState]:
        return [node for node in self.used if node.reach is not Reach.DOWN]

    async def refresh(self) -> None:
        """Read the lists of installed models anew where they are older than a second.

        A slow node is not waited for long.
        """
        await together(self.looks.inventory(node, FRESH) for node in self.up)

    async def changed(self, nodes: Iterable[NodeState]) -> None:
        """Models were installed or deleted on these nodes: know it before the client asks again."""
        await together(self.looks.changed(node) for node in nodes)

    def by_load(self, nodes: Iterable[NodeState]) -> list[NodeState]:
        """Reachable nodes first, those that are not being emptied before others, the least busy of them first."""
        return sorted(nodes, key=lambda node: (node.reach is Reach.DOWN, node.spec.draining, node.in_flight))

    async def holders(self, key: str) -> list[NodeState]:
        """The nodes in use that have a model, best first; their lists are read anew if none is known to."""
        found = self._holding(key)
        if key and not found:
            await self.refresh()
            found = self._holding(key)
        return self.by_load(found)

    def _holding(self, key: str) -> list[NodeState]:
        return [node for node in self.used if key in node.models]

    @property
    def account(self) -> list[NodeState]:
        """The node that stands for the account at ollama.com, as a list of one.

        Those that the operator has marked where none of them is up or takes requests; all nodes where none is marked.
        """
        standing = [node for node in self.used if node.cloud]
        marked = [node for node in self.used if node.spec.cloud]
        return standing or self.by_load(marked or self.used)

    def asked(self, exchange: Exchange, body: Mapping[str, Any] | None = None) -> str | None:
        """The nodes that a request names, in the header or the body's field; None where it names none.

        Raises `BadRequest` for a field that is neither text nor a list of texts.
        """
        header = exchange.headers.get(HEADER)
        if header is not None:
            return header.decode("latin-1").strip()
        told = (body or {}).get(FIELD)
        if told is None or isinstance(told, str):
            return told
        if isinstance(told, list) and all(isinstance(name, str) for name in told):
            return ",".join(told)
        raise BadRequest(f"{FIELD} is a text or a list of texts: node names, label=value, {FITTING} or {ALL}")

    def chosen(self, asked: str | None, size: float | None = None) -> list[NodeState]:
        """The nodes that are to get a model of `size` bytes (None: unknown), as asked for, else by default.

        Named nodes are chosen in whatever state they are; of all others, those that are up. Raises `BadRequest` for a
        name or label that no enabled node has, `NoNode` where no node is up.
        """
        wish = self.default if asked is None else asked
        if wish in {FITTING, ALL, ""}:
            if not self.up:
                raise NoNode(self.nobody())
            return fitting(self.up, size) if wish != ALL else self.up
        source = "SOLLOL_MODEL_NODES" if asked is None else "X-Sollol-Nodes"
        found = {node.spec.id: node for item in wish.split(",") for node in self._named(item.strip(), source)}
        return list(found.values())

    def _named(self, item: str, source: str) -> list[NodeState]:
        label, equals, value = item.partition("=")
        if equals:
            found = [node for node in self.up if node.spec.labels.get(label.strip()) == value.strip()]
        else:
            found = [node for node in self.used if node.spec.name.lower() == item.lower()]
        if not found:
            known = ", ".join(sorted(node.spec.name for node in self.used)) or "none"
            what = "node that is up has the label" if equals else "enabled node is called"
            raise BadRequest(f"{source}: no {what} {item!r}; enabled nodes: {known}")
        return found

    def size_of(self, key: str) -> float | None:
        """Bytes of a model on any node's disk; None where no node has it."""
        sizes = [node.models[key].size for node in self.used if key in node.models]
        return max(sizes, default=0) or None

    def nobody(self) -> str:
        """Why no node can answer, and what to do about it."""
        if not self.looks.admission.dispatcher.nodes:
            return "no Ollama node is known: add one under /admin/ or set SOLLOL_NODES"
        if not self.used:
            return "every Ollama node is disabled: enable one under /admin/"
        errors = "; ".join(f"{node.spec.name}: {node.error}" for node in self.used if node.error)
        return f"no Ollama node is up ({errors})" if errors else "no Ollama node is up"


def fitting(nodes: list[NodeState], size: float | None) -> list[NodeState]:
    """Nodes whose memory holds a model of `size` bytes; the roomiest where it fits nowhere, all if that is unknown."""
    if size is None:
        return nodes
    rooms = {node.spec.id: room_of(node.spec) for node in nodes}
    needed = min(size * MEMORY_FACTOR, max(rooms.values()))
    return [node for node in nodes if rooms[node.spec.id] >= needed]


def room_of(spec: NodeSpec) -> float:
    """Bytes of the memory that models are loaded into; endless where the operator has not told."""
    room = spec.ram_bytes if spec.node_class == "cpu" else spec.vram_bytes
    return math.inf if room is None else float(room)


async def together(jobs: Iterable[Awaitable[Any]]) -> None:
    """Do things at the same time, and do not wait long for slow ones; they go on by themselves."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    if tasks:
        await asyncio.wait(tasks, timeout=PATIENCE)
