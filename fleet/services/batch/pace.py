"""How large calls are and how many run at a time, from what earlier ones have taken."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

#: Seconds that a call should take on a node of mean speed, on the slowest, and that the last ones take at least.
CALL_S, SLOWEST_S, LAST_S = 1.0, 2.5, 0.1
#: What a text costs beside its characters, in characters.
EACH = 32
#: Texts of the first calls, and how much larger the next may be than the largest that has worked.
FIRST, GROWTH = 8, 4
#: Texts and characters of one call, and calls at a time, at most.
MOST_TEXTS, MOST_CHARACTERS, MOST_CALLS = 512, 2_000_000, 48
#: Calls that wait in the gateway beside those that run, at most: so many let it use nodes that are much slower.
MOST_WAITING = 16
#: The weight of the newest call.
NEWEST = 0.3


def work(texts: Iterable[str]) -> int:
    """What texts cost, in characters."""
    return sum(len(text) + EACH for text in texts)


@dataclass(slots=True)
class Pace:
    """`rates` are characters per second by node, `each` what a text of the job costs on average."""

    each: float = EACH
    rates: dict[str, float] = field(default_factory=dict)
    largest: int = 0

    def told(self, node: str, cost: int, texts: int, seconds: float) -> None:
        """A call has taken so long on a node, without waiting and loading."""
        rate = cost / max(seconds, 1e-4)
        known = self.rates.get(node)
        self.rates[node] = rate if known is None else known * (1 - NEWEST) + rate * NEWEST
        self.largest = max(self.largest, texts)

    def late(self, texts: int) -> None:
        """A call of so many texts has not come back in time: the next ones are smaller."""
        self.rates = {node: rate / 2 for node, rate in self.rates.items()}
        self.largest = max(1, texts // 8)

    def texts(self, left: int, places: int) -> int:
        """How many texts the next call takes, with so many left to send: the fewer are left, the smaller.

        So the last calls of fast and slow nodes end at about the same time.
        """
        if not self.rates:
            return max(1, min(FIRST, math.ceil(left / max(1, places))))
        rates = self.rates.values()
        mean = sum(rates) / len(rates)
        whole = min(mean * CALL_S, min(rates) * SLOWEST_S)
        cost = max(mean * LAST_S, min(whole, left * self.each / (2 * max(1, places))))
        most = min(MOST_TEXTS, max(FIRST, self.largest * GROWTH))
        return max(1, min(most, round(min(cost, MOST_CHARACTERS) / self.each)))

    def calls(self, places: int) -> int:
        """How many calls run or wait at a time: as many as wait anyway before a much slower node is worth using."""
        waiting = math.ceil(sum(self.rates.values()) / min(self.rates.values())) if self.rates else places
        return min(MOST_CALLS, max(1, places) + min(MOST_WAITING, max(1, waiting)))


def packed(items: Sequence[tuple[int, bool]], most: int) -> list[list[int]]:
    """Group items, given as what each costs and whether it goes alone, to about `most` in order; positions."""
    groups: list[list[int]] = []
    cost = 0
    fresh = True
    for position, (own, alone) in enumerate(items):
        if alone or fresh or cost + own > most:
            groups.append([])
            cost = 0
        groups[-1].append(position)
        cost += own
        fresh = alone
    return groups
