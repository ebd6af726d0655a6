"""Samples of what only counts up, taken every few seconds, so that rates of late can be told."""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from routing.core.dispatcher import Dispatcher
from routing.gateway.journey import Journey
from routing.gateway.tally import Tally

#: Seconds between two samples.
BEAT_S = 5.0
#: Samples over which success is told, five minutes, and over which the speed of writing is.
BEATS, BEATS_OF_WRITING = 61, 3


class Sample(NamedTuple):
    """A node's counters at a moment of the gateway's clock: attempts, failures, tokens written."""

    at: float
    requests: int
    failures: int
    written: int


NOTHING = Sample(0.0, 0, 0, 0)


class Depth(NamedTuple):
    """How many requests waited at a moment of the gateway's clock."""

    at: float
    waiting: int


@dataclass(slots=True)
class Pulse:
    """The samples of the last five minutes; `live` is the gateway's requests that have not ended, by id."""

    dispatcher: Dispatcher
    tally: Tally
    live: dict[str, Journey]
    nodes: dict[int, deque[Sample]] = field(default_factory=dict)
    depths: deque[Depth] = field(default_factory=lambda: deque(maxlen=BEATS))

    def beat(self, now: float) -> None:
        """Take one sample of everything; cheap, and done whether or not anybody looks."""
        self.depths.append(Depth(now, self.dispatcher.waiting))
        samples = self.samples(now)
        self.nodes = {node_id: self.nodes.get(node_id) or deque(maxlen=BEATS) for node_id in samples}
        for node_id, sample in samples.items():
            self.nodes[node_id].append(sample)

    def samples(self, now: float) -> dict[int, Sample]:
        """The counters of each node at this moment; what running answers have written so far is part of them."""
        running: dict[str, int] = {}
        for journey in self.live.values():
            if journey.lease is not None:
                name = journey.lease.node.spec.name
                running[name] = running.get(name, 0) + journey.seen.objects
        written = self.tally.written
        return {
            node.spec.id: Sample(
                now, node.requests, node.failures, written[node.spec.name] + running.get(node.spec.name, 0)
            )
            for node in self.dispatcher.nodes.values()
        }

    def success(self, now: Sample, node_id: int) -> float | None:
        """The part of attempts that did not fail in the last five minutes, None without any."""
        requests, failures = self.attempts(now, node_id)
        return max(0.0, 1.0 - failures / requests) if requests > 0 else None

    def attempts(self, now: Sample, node_id: int) -> tuple[int, int]:
        """How many attempts began, and how many failed, in the last five minutes."""
        samples = self.nodes.get(node_id)
        before = samples[0] if samples else NOTHING
        return now.requests - before.requests, now.failures - before.failures

    def writing(self, now: Sample, node_id: int) -> float:
        """Tokens per second that the node has written in the last fifteen seconds or so."""
        samples = self.nodes.get(node_id)
        if not samples:
            return 0.0
        before = samples[max(0, len(samples) - BEATS_OF_WRITING)]
        passed = now.at - before.at
        return max(0.0, (now.written - before.written) / passed) if passed > 0 else 0.0
