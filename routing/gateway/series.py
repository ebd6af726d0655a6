"""The last hour in steps of fifteen seconds: rings of counts and times that one event loop owns, for charts."""

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from routing.core.records import Outcome, RequestRecord

#: Seconds of one step, and how many of them are kept: an hour and the step that goes on.
STEP_S, STEPS = 15, 241
#: Buckets of a times' histogram: the bounds grow by the fourth root of 2 from 1 ms on, the last has no bound.
PER_DOUBLING, MARKS = 4, 84
#: Outcomes that charts tell as errors, in the order of a point.
ERRORS = (Outcome.FAILED, Outcome.EXPIRED, Outcome.REFUSED)
SHARES = (0.5, 0.95, 0.99)


class Times:
    """A histogram of milliseconds whose quantiles are right within a tenth."""

    __slots__ = ("counts", "seen")

    def __init__(self) -> None:
        self.counts = array("I", bytes(4 * MARKS))
        self.seen = 0

    def take(self, ms: float, weight: int = 1) -> None:
        mark = 0 if ms <= 1.0 else min(MARKS - 1, 1 + int(PER_DOUBLING * math.log2(ms)))
        self.counts[mark] += weight
        self.seen += weight

    def add(self, other: "Times") -> None:
        for mark, count in enumerate(other.counts):
            if count:
                self.counts[mark] += count
        self.seen += other.seen

    def quantiles(self) -> list[float | None]:
        """The times in milliseconds that these `SHARES` of all do not exceed, None without any."""
        if not self.seen:
            return [None] * len(SHARES)
        told: list[float | None] = []
        below, wanted = 0, [share * self.seen for share in SHARES]
        for mark, count in enumerate(self.counts):
            while count and len(told) < len(wanted) and below + count >= wanted[len(told)]:
                told.append(within(mark, (wanted[len(told)] - below) / count))
            below += count
        return told + [told[-1]] * (len(SHARES) - len(told))


def within(mark: int, part: float) -> float:
    """The milliseconds at a part, 0 to 1, of a bucket."""
    if mark == 0:
        return round(part, 2)
    return float(f"{2.0 ** ((mark - 1 + part) / PER_DOUBLING):.3g}")


@dataclass(slots=True)
class Step:
    """What ended within one step; `number` is epoch seconds divided by `STEP_S`."""

    number: int
    requests: int = 0
    tokens: int = 0
    errors: list[int] = field(default_factory=lambda: [0] * len(ERRORS))
    first_byte: Times = field(default_factory=Times)
    total: Times = field(default_factory=Times)
    queue: Times = field(default_factory=Times)

    def add(self, other: "Step") -> None:
        self.requests += other.requests
        self.tokens += other.tokens
        self.errors = [one + more for one, more in zip(self.errors, other.errors, strict=True)]
        self.first_byte.add(other.first_byte)
        self.total.add(other.total)
        self.queue.add(other.queue)

    def point(self, seconds: float = STEP_S) -> list[Any]:
        """As charts read it: epoch second of its end, requests and tokens per second, errors, quantiles in ms."""
        return [
            (self.number + 1) * STEP_S,
            round(self.requests / seconds, 3),
            round(self.tokens / seconds, 2),
            self.errors,
            self.first_byte.quantiles(),
            self.total.quantiles(),
            self.queue.quantiles(),
        ]


class Series:
    """Steps of the last hour. What ended belongs to the moment of its end, by the wall clock."""

    def __init__(self) -> None:
        self._steps: list[Step | None] = [None] * STEPS
        self._points: dict[int, list[Any]] = {}
        self.newest = 0

    def take(self, record: RequestRecord) -> None:
        """Count one that has just ended; where newer ones are known, the clock was set back and these never were."""
        ended_at = record.started_at + record.total_ms / 1000
        if int(ended_at) // STEP_S < self.newest - 1:
            self.rewind(int(ended_at) // STEP_S)
        self.count(
            ended_at,
            record.outcome,
            record.output_tokens or 0,
            (record.first_byte_ms, record.total_ms, record.queue_ms),
        )

    def rewind(self, number: int) -> None:
        """Forget the steps after this one."""
        self.newest = number
        self._points.clear()
        for place, step in enumerate(self._steps):
            if step is not None and step.number > number:
                self._steps[place] = None

    def count(
        self,
        ended_at: float,
        outcome: Outcome,
        tokens: int,
        times: tuple[float | None, float, float],
        weight: int = 1,
    ) -> None:
        """Count a request that ended at this epoch second; one that stands for others has a weight.

        `times` are milliseconds to the first byte, to the end, and in the queue.
        """
        number = int(ended_at) // STEP_S
        step = self._steps[number % STEPS]
        if step is None or step.number != number:
            if number <= self.newest - STEPS:
                return
            step = self._steps[number % STEPS] = Step(number)
            self.newest = max(self.newest, number)
        first_byte, total, queue = times
        step.requests += weight
        step.tokens += tokens * weight
        if outcome in ERRORS:
            step.errors[ERRORS.index(outcome)] += weight
        if first_byte is not None:
            step.first_byte.take(first_byte, weight)
        step.total.take(total, weight)
        step.queue.take(queue, weight)
        self._points.pop(number, None)

    def points(self, now: float) -> dict[int, list[Any]]:
        """The points of the last hour by step, oldest first; `now` in epoch seconds.

        The last one tells the fifteen seconds up to now, so that it neither starts from nothing nor jumps. Steps in
        which nothing ended have no point.
        """
        current = int(now) // STEP_S
        kept = {step.number: step for step in self._within(current)}
        self._points = {
            number: self._points.get(number) or step.point() for number, step in kept.items() if number < current
        }
        told = {number: self._points[number] for number in sorted(self._points)}
        recent = self.recent(now)
        if recent.requests:
            told[current] = [int(now), *recent.point(STEP_S)[1:]]
        return told

    def recent(self, now: float) -> Step:
        """The step that goes on, and the one before while the former is young; counts are of fifteen seconds."""
        current = int(now) // STEP_S
        part = (now % STEP_S) / STEP_S
        last, before = self._at(current), self._at(current - 1)
        told = Step(current)
        if before is not None:
            told.add(before)
            # Of the step before, the part that is less than fifteen seconds ago, as if it had been even.
            told.requests = round(told.requests * (1 - part))
            told.tokens = round(told.tokens * (1 - part))
            told.errors = [round(count * (1 - part)) for count in told.errors]
        if last is not None:
            told.add(last)
        return told

    def _at(self, number: int) -> Step | None:
        step = self._steps[number % STEPS]
        return step if step is not None and step.number == number else None

    def _within(self, current: int) -> Iterator[Step]:
        for step in self._steps:
            if step is not None and current - STEPS < step.number <= current:
                yield step
