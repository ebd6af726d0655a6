"""Balancers to compare with: each sends a request at once, to one of the nodes that are up and have its model."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from routing.core.requests import Task
from routing.core.snapshot import NodeSpec
from routing.whatif.calls import Call, End
from routing.whatif.machines import Runnable
from routing.whatif.work import Word
from routing.whatif.world import World

#: Weight of the newest observation in a node's mean latency and in its success rate.
LATENCY_STEP, SUCCESS_STEP = 0.1, 0.05
#: Seconds after which a request for which no node was up is looked at again.
NOBODY_S = 0.25

#: What the fixed score believes and takes: the latency of a node not yet heard of, factors for a GPU and for none.
UNKNOWN_MS, GPU_BONUS, NO_GPU, URGENT = 200.0, 1.5, 0.2, 7
LIKES_GPU = frozenset({Task.GENERATION, Task.CHAT, Task.SUMMARIZATION, Task.ANALYSIS})


@dataclass(slots=True, eq=False)
class Peer:
    """What a balancer knows of one node: what it has sent there, how long answers took (ms), how many went well."""

    spec: NodeSpec
    models: frozenset[str]
    up: bool = True
    in_flight: int = 0
    latency_ms: float | None = None
    success: float = 1.0


Choice = Callable[[Call, Sequence[Peer], random.Random], Peer]


class SendAtOnce:
    """A router that holds nothing back. A failed attempt is tried on another node; a node that failed to answer is left
    alone until the next look at it.
    """

    def __init__(self, choose: Choice, seed: int = 0) -> None:
        self.choose, self.rng = choose, random.Random(seed + 4241)
        self.peers: dict[int, Peer] = {}

    def begin(self, world: World) -> None:
        self.world = world
        self.peers = {
            node_id: Peer(node.machine.spec, frozenset(node.machine.models)) for node_id, node in world.nodes.items()
        }

    def arrived(self, call: Call) -> None:
        if call.end is not None:
            return
        key = call.asked.profile.key
        able = [peer for peer in self.peers.values() if peer.up and key in peer.models]
        fresh = [peer for peer in able if peer.spec.id not in call.tried] or able
        if not fresh:
            self.world.timeline.after(NOBODY_S, self.arrived, call)
            return
        peer = self.choose(call, fresh, self.rng)
        peer.in_flight += 1
        self.world.send(call, peer.spec.id)

    def answered(self, call: Call) -> None:
        return None

    def ended(self, call: Call, word: Word) -> None:
        peer = self._leave(call)
        peer.success += SUCCESS_STEP * ((word is Word.DONE) - peer.success)
        if word is Word.DONE:
            took = (self.world.now - call.sent_at) * 1000.0
            peer.latency_ms = took + (1.0 - LATENCY_STEP) * ((peer.latency_ms or took) - took)
            self.world.close(call, End.SERVED)
            return
        peer.up = peer.up and word is not Word.LOST
        call.tried.add(peer.spec.id)
        if call.attempts >= self.world.rules.attempts:
            self.world.close(call, End.FAILED)
        else:
            self.world.timeline.after(self.world.pause(call), self.arrived, call)

    def left(self, call: Call) -> None:
        if call.work is not None and not call.work.dropped:
            self._leave(call)

    def looked(self, loaded: Mapping[int, Sequence[Runnable] | None]) -> None:
        for node_id, models in loaded.items():
            self.peers[node_id].up = models is not None

    def _leave(self, call: Call) -> Peer:
        assert call.node_id is not None  # noqa: S101 (only what was sent ends)
        peer = self.peers[call.node_id]
        peer.in_flight -= 1
        return peer


def at_random(call: Call, peers: Sequence[Peer], rng: random.Random) -> Peer:
    """Any of them."""
    return rng.choice(peers)


def least_connections(call: Call, peers: Sequence[Peer], rng: random.Random) -> Peer:
    """One of those with the fewest requests."""
    fewest = min(peer.in_flight for peer in peers)
    return rng.choice([peer for peer in peers if peer.in_flight == fewest])


def fixed_score(call: Call, peers: Sequence[Peer], rng: random.Random) -> Peer:
    """The best by a product of factors, as balancers that call themselves intelligent have it.

    100 x success / (1 + latency in 0.1 s x (1 + priority / 10)) x (1.5 with a GPU, 0.2 without, for work that likes
    one) / (1 + 1.5 x load, 3 x load for urgent work); load is requests per slot.
    """
    return max(peers, key=lambda peer: score(call, peer))


def score(call: Call, peer: Peer) -> float:
    profile = call.asked.profile
    latency = UNKNOWN_MS if peer.latency_ms is None else peer.latency_ms
    value = 100.0 * peer.success / (1.0 + latency / 100.0 * (1.0 + profile.priority / 10.0))
    if profile.task in LIKES_GPU:
        value *= GPU_BONUS if peer.spec.node_class == "gpu" else NO_GPU
    return value / (1.0 + (3.0 if profile.priority >= URGENT else 1.5) * peer.in_flight / peer.spec.slots)


class InTurn:
    """One after the other, for each model by itself."""

    def __init__(self) -> None:
        self.turns: dict[str, int] = {}

    def __call__(self, call: Call, peers: Sequence[Peer], rng: random.Random) -> Peer:
        turn = self.turns[call.asked.profile.key] = self.turns.get(call.asked.profile.key, -1) + 1
        return peers[turn % len(peers)]


#: The balancers by name; each call makes one that knows nothing yet.
BALANCERS: Mapping[str, Callable[[], Choice]] = {
    "random": lambda: at_random,
    "in_turn": InTurn,
    "least_connections": lambda: least_connections,
    "fixed_score": lambda: fixed_score,
}
