"""Faults at the nodes of several balancers at once, each under its own steady load, and what was seen of them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.chaos_faults import Fault, Strike
from benchmarks.chaos_load import CHAT, EMBEDDER, GOOD, KINDS, End, Load, Request
from simulator.models import CATALOGUE
from simulator.node import SimulatedNode

NAMES = ("ant", "bee", "cat")
#: Simulated seconds per second, and the pace of a node in simulated tokens per simulated second.
SPEED = 4.0
PACE = {"decode_rate": 40.0, "prefill_rate": 500.0, "jitter": 0.1, "parallel": 2, "load_bytes_per_second": 8e9}
#: Answers of few words, so that a request is short beside a fault.
MODELS = (
    replace(CATALOGUE[CHAT], answer_tokens=(15, 45)),
    replace(CATALOGUE[EMBEDDER], embedding_length=16),
)
PATHS = frozenset(kind.path for kind in KINDS)
#: What loads the models of a node; no request of the load has these paths.
LOADS = (("/api/generate", {"model": CHAT}), ("/api/embeddings", {"model": EMBEDDER, "prompt": "bees"}))
#: A node that has had no request for so many seconds under a steady load is not used.
QUIET = 0.7
#: Seconds in which a node that is well again is to be usable, and for which the next fault waits for that.
BACK = 10.0
#: Seconds in which everything must have ended once no requests come any more.
SETTLING = 10.0


def node(name: str, seed: int, port: int = 0, **more: object) -> SimulatedNode:
    return SimulatedNode("gpu-24gb", models=MODELS, name=name, speed=SPEED, seed=seed, port=port, **{**PACE, **more})


def undisturbed() -> SimulatedNode:
    """A node that says the same in no time, to compare with."""
    return SimulatedNode("instant", models=MODELS, name="truth", exact_length=False)


@dataclass
class Struck:
    """A strike as it happened at one fleet; `began` and `over` are simulated seconds of the node's clock.

    `usable_s` are seconds from the end of the fault until the balancer said that it would use the node, if it can be
    asked: a node that nobody needs, since it has lost its models and others have not, gets no request to show that.
    `probes` are the requests that were let through, one at a time, to see whether it is well, if that can be asked.
    """

    strike: Strike
    node: SimulatedNode
    began: float
    over: float = 0.0
    usable_s: float | None = None
    until: float = float("inf")
    probes: int = 0

    @property
    def fault(self) -> Fault:
        return self.strike.fault

    def arrivals(self) -> list[float]:
        """Seconds from the fault's begin to each request, of those it strikes, that the node got until its next."""
        found = self.node.record.arrivals
        return [
            (one.at - self.began) / self.node.clock.speed
            for one in found
            if one.path in PATHS
            and self.began <= one.at < self.until
            and not (self.fault.chats and one.model == EMBEDDER)
        ]

    @property
    def seconds(self) -> float:
        return (self.over - self.began) / self.node.clock.speed

    def seen(self) -> "Seen":
        """What the node tells of how it was used."""
        arrivals = self.arrivals()
        during = [at for at in arrivals if at < self.seconds]
        back = next((at - self.seconds for at in arrivals if at >= self.seconds), None)
        for number, at in enumerate(during, 1):
            following = during[number] if number < len(during) else self.seconds
            if following - at >= QUIET:
                return Seen(number, at, len(during), back)
        if not during:
            return Seen(0, 0.0, 0, back)
        return Seen(len(during), None, len(during), back)


@dataclass(frozen=True)
class Seen:
    """Requests and seconds until a node was ejected (None: it was not), requests during all of the fault.

    `back_s` are the seconds from the end of the fault to the next request (None: there was none).
    """

    until_ejected: int
    ejected_s: float | None
    during: int
    back_s: float | None


@dataclass
class Fleet:
    """A balancer at an address, the nodes behind it and the load on it.

    Where the balancer can be asked, `in_flight` tells how many requests it believes to have, `usable` whether it would
    send one to a node of this name, and `probes` how many it has sent there so far to see whether it is well.
    """

    name: str
    nodes: Sequence[SimulatedNode]
    load: Load
    in_flight: Callable[[], Awaitable[int]] | None = None
    usable: Callable[[str], Awaitable[bool]] | None = None
    probes: Callable[[str], int] | None = None
    struck: list[Struck] = field(default_factory=list)
    leaked: int | None = None
    left_on_nodes: int = 0

    async def strike(self, number: int, strike: Strike, share: float) -> None:
        """Let one fault begin, last and end."""
        failing = self.nodes[strike.node]
        now = failing.clock.now()
        for before in self.struck:
            if before.node is failing:
                before.until = min(before.until, now)
        struck = Struck(strike, failing, now)
        probed = self.probes(failing.name) if self.probes is not None else 0
        self.struck.append(struck)
        self.load.begin(number)
        await strike.fault.begin(failing, strike.chunks)
        await asyncio.sleep(strike.fault.lasts(share))
        if self.probes is not None:
            struck.probes = self.probes(failing.name) - probed
        await strike.fault.end(failing, strike.chunks)
        struck.over = failing.clock.now()

    async def back(self) -> None:
        """Wait until the balancer says that it would use the node that has recovered last, if it can be asked."""
        struck, began = self.struck[-1], time.monotonic()
        while self.usable is not None and (passed := time.monotonic() - began) < BACK:
            if await self.usable(struck.node.name):
                struck.usable_s = passed
                return
            await asyncio.sleep(0.05)

    async def warm(self) -> None:
        """Load the models of the node that has recovered last, as an operator would, so that all are in use again."""
        for path, body in LOADS:
            async with self.load.session.post(self.struck[-1].node.base_url + path, json=body) as answer:
                await answer.read()

    async def settle(self) -> None:
        """Wait until every request has ended, and count what is held for none."""
        await self.load.done()
        deadline = time.monotonic() + SETTLING
        while time.monotonic() < deadline:
            self.left_on_nodes = sum(one.record.in_flight.total() for one in self.nodes)
            self.leaked = await self.in_flight() if self.in_flight is not None else None
            if not self.left_on_nodes and not self.leaked:
                return
            await asyncio.sleep(0.1)

    def met(self, fault: Fault) -> list[Request]:
        """The requests that met a fault of this kind."""
        numbers = {number for number, one in enumerate(self.struck) if one.fault is fault}
        return [request for request in self.load.requests if request.met in numbers]

    def of(self, fault: Fault) -> list[Seen]:
        return [one.seen() for one in self.struck if one.fault is fault]


def silent(text: str) -> None:
    """Tell nobody."""


async def chaos(
    fleets: Sequence[Fleet],
    strikes: Sequence[Strike],
    *,
    before: float,
    between: float,
    share: float = 1.0,
    tell: Callable[[str], None] = silent,
) -> float:
    """Run all strikes at all fleets at the same time, with seconds before the first and after each.

    Faults last for a `share` of their time; `tell` is told of each.
    Returns by how many seconds this process itself was late at most, which would be a fault of the measurement.
    """
    loads = [asyncio.create_task(fleet.load.run()) for fleet in fleets]
    late = asyncio.create_task(lateness(worst := [0.0]))
    await asyncio.sleep(before)
    for number, strike in enumerate(strikes):
        tell(f"{number + 1} of {len(strikes)}: {NAMES[strike.node]} {strike.fault.name}")
        await asyncio.gather(*(fleet.strike(number, strike, share) for fleet in fleets))
        await asyncio.gather(*(fleet.back() for fleet in fleets))
        await asyncio.gather(*(fleet.warm() for fleet in fleets))
        await asyncio.sleep(between)
    for task in (*loads, late):
        if task.done():
            task.result()
        task.cancel()
    await asyncio.gather(*loads, late, return_exceptions=True)
    await asyncio.gather(*(fleet.settle() for fleet in fleets))
    return worst[0]


async def lateness(worst: list[float]) -> None:
    while True:
        due = time.monotonic() + 0.05
        await asyncio.sleep(0.05)
        worst[0] = max(worst[0], time.monotonic() - due)


def counted(requests: Sequence[Request]) -> dict[End, int]:
    return {end: sum(request.end is end for request in requests) for end in End}


def good(requests: Sequence[Request]) -> int:
    return sum(request.end in GOOD for request in requests)
