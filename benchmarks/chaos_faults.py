"""The ways in which a node fails in the chaos suite: how each begins, how it ends, and what it is called."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from simulator.node import SimulatedNode

#: Seconds that a fault lasts; the least that shows what becomes of it.
SECONDS, LEAST = 6.0, 2.0
#: Objects of an answer that come before a fault strikes: the fewest and the most.
CHUNKS = (1, 12)
#: Seconds that a node takes to start anew.
STARTING = 0.3

Act = Callable[[SimulatedNode, int], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """`begin` and `end` act on a node and a number of chunks; `told` is what happens, for the report.

    `seconds` is how long it lasts, but `least` at least; 0 where it is over as soon as it has begun. `ejects`: whether
    a balancer is to stop sending requests to the node; a slow one is still of use, one that has started anew, too.
    `chats`: it strikes chats only, and embeddings may go on.
    """

    name: str
    told: str
    begin: Act
    end: Act
    seconds: float = SECONDS
    least: float = LEAST
    ejects: bool = True
    chats: bool = False

    def lasts(self, share: float) -> float:
        """Seconds for which it lasts where all faults are to last for a share of their time."""
        return max(self.least, self.seconds * share)


def switched(**switches: Any) -> Act:
    """Set switches; those that are `...` to the number of chunks."""

    async def begin(node: SimulatedNode, chunks: int) -> None:
        node.faults.set(**{name: chunks if value is ... else value for name, value in switches.items()})

    return begin


async def healed(node: SimulatedNode, chunks: int) -> None:
    node.faults.clear()


async def killed(node: SimulatedNode, chunks: int) -> None:
    node.kill()


async def started(node: SimulatedNode, chunks: int) -> None:
    await node.start()


async def restarted(node: SimulatedNode, chunks: int) -> None:
    node.kill()
    await asyncio.sleep(STARTING)
    await node.start()


#: A hung node is found out in some seconds, and a stream that stands still is given a few.
FAULTS = (
    Fault("killed", "connections are refused, running answers are reset", killed, started),
    Fault(
        "hung", "connections are accepted, nothing is answered any more", switched(hang=True), healed, 14.0, least=8.0
    ),
    Fault(
        "cut",
        "answers end in the middle, without the chunk that ends them",
        switched(cut_after_chunks=...),
        healed,
        chats=True,
    ),
    Fault(
        "reset",
        "connections are reset in the middle of answers",
        switched(reset_after_chunks=...),
        healed,
        chats=True,
    ),
    Fault("busy", "every request is answered with 503 at once", switched(busy=True), healed),
    Fault("slowed", "everything takes ten times as long", switched(slowdown=10.0), healed, ejects=False),
    Fault(
        "restarted",
        "killed, and up again at once with no model loaded",
        restarted,
        healed,
        seconds=0.0,
        least=0.0,
        ejects=False,
    ),
    Fault(
        "stalled",
        "answers stand still in the middle",
        switched(stall_after_chunks=...),
        healed,
        9.0,
        least=5.0,
        chats=True,
    ),
    Fault(
        "runner died",
        "an error line in the middle, and the model is lost",
        switched(error_after_chunks=..., error_kills_runner=True),
        healed,
        chats=True,
    ),
    Fault("empty", "every answer is empty, at once, with status 200", switched(blank=True), healed),
)


@dataclass(frozen=True)
class Strike:
    """One fault at one node, by its place in the fleet."""

    fault: Fault
    node: int
    chunks: int


def plan(random: Random, rounds: int, nodes: int) -> list[Strike]:
    """Equal shares of all faults: each once in every round, in random order, at random nodes."""
    return [
        Strike(fault, random.randrange(nodes), random.randint(*CHUNKS))
        for _ in range(rounds)
        for fault in random.sample(FAULTS, len(FAULTS))
    ]
