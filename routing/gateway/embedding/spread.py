"""What is left of a long list of texts, and how much of it a node takes next."""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from routing.core.learner import Metrics
from routing.gateway.embedding.asked import Wanted
from routing.gateway.embedding.counts import weight

#: Seconds that a part is to take at least, so that what any call costs beside does not count.
PART_S = 0.05
#: A node takes so much of its share of what is left at a time; the rest shows who is faster than was known.
BITE = 0.6


class Part(NamedTuple):
    """What one node is to embed now, and the seconds that it is expected to take."""

    indexes: list[int]
    expected_s: float


@dataclass(slots=True, eq=False)
class Spread:
    """The texts of one request that nobody works on yet, and how fast those are who work.

    `sizes` are the texts' tokens, about, and `left` those of all that is `pending`; `rates` are tokens per second by
    node id. `failed` are nodes that are asked no more. `told` holds by node nanoseconds in all and of loading.
    """

    wanted: Wanted
    sizes: dict[int, float]
    pending: deque[int]
    left: float
    rates: dict[int, float] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    told: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """What those who work would take for all that is left."""
        return self.left / sum(self.rates.values())

    def part(self, node_id: int, left: float) -> Part:
        """The next part for a node: a bite of its share of `left`, or all that is pending where little would remain."""
        rate, rates = self.rates[node_id], self.rates
        size = max(left * rate / sum(rates.values()) * BITE, PART_S * rate)
        if len(rates) == 1 or self.left - size < PART_S * rate / 2:
            size = self.left
        indexes: list[int] = []
        took = 0.0
        while self.pending and (not indexes or took + self.sizes[self.pending[0]] <= size * (1 + 1e-9)):
            indexes.append(self.pending.popleft())
            took += self.sizes[indexes[-1]]
        self.left = max(0.0, self.left - took) if self.pending else 0.0
        return Part(indexes, took / rate)

    def give_back(self, part: Part) -> None:
        self.pending.extendleft(reversed(part.indexes))
        self.left += sum(self.sizes[i] for i in part.indexes)

    def count(self, node_id: int, name: str, metrics: Metrics, part: Part) -> None:
        """Take what an answer to a part told of the time that it took."""
        total, load = self.told.get(node_id, (0, 0))
        self.told[node_id] = total + round(metrics.total_s * 1e9), load + round(metrics.load_s * 1e9)
        self.wanted.parts[name] = self.wanted.parts.get(name, 0) + len(part.indexes)

    @property
    def durations(self) -> tuple[int, int]:
        """Nanoseconds in all and of loading: those of the node that took longest, since others worked meanwhile."""
        return max(self.told.values(), default=(0, 0))


def spread(wanted: Wanted) -> Spread:
    missing = wanted.missing()
    sizes = {i: weight(wanted.texts[i]) for i in missing}
    return Spread(wanted, sizes, deque(missing), sum(sizes.values()))
