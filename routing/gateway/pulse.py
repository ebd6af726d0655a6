"""Samples of what only counts up, taken every few seconds, so that rates of late can be told."""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from routing.core.dispatcher import Dispatcher
from routing.gateway.journey import Journey
from routing.gateway.tally import Tally

#: Seconds between two samples.
BEAT_S = 5.0
#: Seconds over which success is told, and over which the speed of writing is.
SUCCESS_S, WRITING_S = 300.0, 15.0


class Sample(NamedTuple):
    """A node's counters at a moment of the gateway's clock: attempts, failures, tokens written."""

    at: float
    requests: int
    failures: int
    written: int


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
    depths: deque[Depth] = field(default_factory=lambda: deque(maxlen=int(SUCCESS_S / BEAT_S) + 1))

    def beat(self, now: float) -> None:
        """Take one sample of everything; cheap, and done whether or not anybody looks."""
        self.depths.append(Depth(now, self.dispatcher.waiting))
        samples = self.samples(now)
        self.nodes = {
            node_id: self.nodes.get(node_id) or deque(maxlen=int(SUCCESS_S / BEAT_S) + 1) for node_id in samples
        }
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
        before = self._before(node_id, now.at - SUCCESS_S)
        requests = now.requests - (before.requests if before else 0)
        failures = now.failures - (before.failures if before else 0)
        return max(0.0, 1.0 - failures / requests) if requests > 0 else None

    def writing(self, now: Sample, node_id: int) -> float:
        """Tokens per second that the node has written lately."""
        before = self._before(node_id, now.at - WRITING_S)
        if before is None or now.at <= before.at:
            return 0.0
        return max(0.0, (now.written - before.written) / (now.at - before.at))

    def _before(self, node_id: int, moment: float) -> Sample | None:
        """The last sample before a moment, else the oldest."""
        found = None
        for sample in self.nodes.get(node_id, ()):
            if found is not None and sample.at > moment:
                break
            found = sample
        return found
