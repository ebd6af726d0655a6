"""A bucket is what is taken of a quota that refills continuously, exact also when something is given back late."""

from bisect import bisect_right
from itertools import accumulate

#: Everything is counted in whole grains, this many to a request, a token or a GPU-second: a thousandth of any of them
#: is a whole number, and so is what a minute's quota of whole thousandths refills in a millisecond. Sums are exact.
GRAIN = 60_000_000
#: Grains that a millisecond refills of a quota of a thousandth each minute come to one.
THOUSANDTH = GRAIN // 1000
#: Lows remembered beyond two for each open reservation, before those that nobody needs are dropped.
SPARE = 32


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


class Bucket:
    """A token bucket, told by what is taken of it: `level` grains at `at` (epoch ms), never below 0.

    `rate` is the refill in grains per millisecond. `open` are the grains that each open reservation took, by its mark,
    and `reserved` their sum; the level includes them. A level above the quota's amount is debt, which the refill pays.

    What is given back leaves the bucket as if it had never been taken. The level may then fall by no more than the
    lowest level since: what was refilled below that had been of use to nobody, and would otherwise be granted twice.
    So the bucket remembers the lows, each the level just before something was taken, where none later is lower. They
    ascend, and are kept as steps from one to the next, so that giving back lowers all later ones at one place.
    """

    __slots__ = ("at", "level", "marks", "open", "rate", "reserved", "serial", "steps", "top")

    def __init__(self, level: int = 0, at: int = 0) -> None:
        self.level, self.at, self.rate = level, at, 0
        self.open: dict[int, int] = {}
        self.reserved = self.serial = 0
        self.marks: list[int] = []
        self.steps: list[int] = []
        self.top = 0

    def refill(self, at: int) -> int:
        """The level at a moment; a clock that was set back refills nothing, and is followed."""
        elapsed = at - self.at
        if elapsed > 0 and self.level:
            self.level = max(0, self.level - elapsed * self.rate)
        self.at = at
        return self.level

    def reserve(self, grains: int, at: int) -> int:
        """Take an amount until it is settled; returns its mark."""
        self._take(grains, at)
        self.open[self.serial] = grains
        self.reserved += grains
        return self.serial

    def settle(self, mark: int, grains: int, at: int) -> None:
        """What a reservation took becomes what was used: less as if from the start, more as from now."""
        expected = self.open.pop(mark)
        self.reserved -= expected
        if grains > expected:
            self._take(grains - expected, at)
        elif grains < expected:
            self._give_back(mark, expected - grains, at)

    def settled(self) -> int:
        """The level without what is reserved."""
        return max(0, self.level - self.reserved)

    def _take(self, grains: int, at: int) -> None:
        level = self.refill(at)
        while self.marks and self.top >= level:
            self.marks.pop()
            self.top -= self.steps.pop()
        self.serial += 1
        self.marks.append(self.serial)
        self.steps.append(level - self.top)
        self.top = level
        self.level = level + grains
        if len(self.marks) > 2 * len(self.open) + SPARE:
            self._forget()

    def _give_back(self, mark: int, grains: int, at: int) -> None:
        level = self.refill(at)
        first = bisect_right(self.marks, mark)
        if first == len(self.marks):
            self.level = max(0, level - grains)
            return
        back = min(grains, sum(self.steps[: first + 1]))
        self.level = max(0, level - back)
        self.top -= back
        self.steps[first] -= back
        while first and self.steps[first] <= 0:
            # This low is no longer above the one before it, which it replaces.
            first -= 1
            self.steps[first] += self.steps.pop(first + 1)
            del self.marks[first]

    def _forget(self) -> None:
        """Drop the lows that are not the first after any open reservation."""
        needed = sorted({bisect_right(self.marks, mark) for mark in self.open} - {len(self.marks)})
        lows = list(accumulate(self.steps))
        self.marks = [self.marks[i] for i in needed]
        kept = [lows[i] for i in needed]
        self.steps = [low - before for before, low in zip([0, *kept], kept, strict=False)]
        self.top = kept[-1] if kept else 0
