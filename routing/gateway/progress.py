"""Many nodes' progress streams (of a pull, of a create), told as one that holds for all of them."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

SUCCESS = "success"
#: Numbers above this are no sizes, and JSON writers do not take them.
LARGEST = (1 << 63) - 1


@dataclass(eq=False, slots=True)
class Step:
    """Something that nodes tell: a status to be said once or, with a digest, a bar that fills; all sizes in bytes.

    `order` is the place of its first appearance in anybody's stream. Of a bar, `total` is the largest size told, `sent`
    the total and completed last sent, `sent_at` when.
    """

    status: str
    digest: str
    order: int
    said: bool = False
    total: int = 0
    sent: tuple[int, int] | None = None
    sent_at: float = -inf

    @property
    def full(self) -> bool:
        return self.sent is not None and self.sent == (self.total, self.total) and self.total > 0


@dataclass(eq=False, slots=True)
class Teller:
    """One node's stream: when it first told each step (`places`), its statuses without digest, its bars' last numbers.

    `success`: success is the last that it said.
    """

    name: str
    state: Literal["working", "succeeded", "failed"] = "working"
    text: str = ""
    success: bool = False
    places: dict[Step, int] = field(default_factory=dict)
    statuses: list[Step] = field(default_factory=list)
    counts: dict[Step, tuple[int, int]] = field(default_factory=dict)

    def heard(self, step: Step) -> bool:
        """Note a step; whether it is new for the node."""
        if step in self.places:
            return False
        self.places[step] = len(self.places)
        if not step.digest:
            self.statuses.append(step)
        return True

    def told_before(self, first: Step, then: Step) -> bool:
        """Whether the node told both, in this order."""
        return first in self.places and self.places[first] < self.places.get(then, -1)

    def went_on_from(self, step: Step) -> bool:
        """Whether a status without digest followed in the node's own stream."""
        return bool(self.statuses) and self.told_before(step, self.statuses[-1])


class MergedProgress:
    """What to tell a client of the nodes' streams; `interval` seconds lie between two lines of one bar.

    A status without digest is told once, when every node that has not failed has come to it; a bar tells the largest
    total and the least completed, and never goes back. Times are the caller's, of any clock.
    """

    def __init__(self, nodes: Sequence[str], interval: float = 0.06) -> None:
        self._tellers = {name: Teller(name) for name in nodes}
        self._interval = interval
        self._steps: dict[tuple[str, str], Step] = {}
        self._unsaid: deque[Step] = deque()
        self._moved: set[Step] = set()

    def take(self, node: str, status: Mapping[str, Any]) -> None:
        """One progress object of a node; what is malformed in it counts as not told.

        Success counts once the node's stream ends: a create that pulls its base first says it in the middle as well.
        """
        teller = self._tellers[node]
        if teller.state != "working":
            return
        if "error" in status:
            self._close(teller, str(status["error"] or "failed"))
            return
        text, digest = status.get("status"), status.get("digest")
        if isinstance(text, str) and text:
            teller.success = text == SUCCESS
            if not teller.success:
                self._told(teller, self._step(text, digest if isinstance(digest, str) else ""), status)

    def failed(self, node: str, text: str) -> None:
        """The node's stream broke off; only behind its success that does no harm."""
        self._end(self._tellers[node], text)

    def ended(self, node: str) -> None:
        """The node's stream has come to its proper end."""
        self._end(self._tellers[node], "ended without success")

    def due(self, now: float) -> list[dict[str, Any]]:
        """The objects to send now, in order."""
        lines: list[dict[str, Any]] = []
        while self._unsaid and self._reached(self._unsaid[0]):
            status = self._unsaid.popleft()
            lines += self._bars_before(status, now)
            status.said = True
            lines.append({"status": status.status})
        return [*lines, *self._bars(now)]

    def next_at(self) -> float | None:
        """When `due` may have more although nothing new was taken; None if it needs news."""
        return min((bar.sent_at + self._interval for bar in self._moved if self._open(bar)), default=None)

    @property
    def over(self) -> bool:
        """Whether every node has succeeded or failed."""
        return all(teller.state != "working" for teller in self._tellers.values())

    @property
    def failures(self) -> dict[str, str]:
        """Why, by the name of the node that failed."""
        return {teller.name: teller.text for teller in self._tellers.values() if teller.state == "failed"}

    @property
    def succeeded(self) -> list[str]:
        return [teller.name for teller in self._tellers.values() if teller.state == "succeeded"]

    def outcome(self) -> dict[str, Any]:
        """The last object: success of all, or the error; one that all nodes agree on is told as a single node would."""
        failures, succeeded = self.failures, self.succeeded
        if not failures:
            return {"status": SUCCESS} if succeeded else {"error": "no node was asked"}
        by_text: dict[str, list[str]] = {}
        for name, text in failures.items():
            by_text.setdefault(text, []).append(name)
        if len(by_text) == 1 and not succeeded:
            return {"error": next(iter(by_text))}
        parts = [f"{', '.join(names)}: {text}" for text, names in by_text.items()]
        return {"error": "; ".join([*parts, f"succeeded on {', '.join(succeeded)}"] if succeeded else parts)}

    def _step(self, status: str, digest: str) -> Step:
        step = self._steps.get((status, digest))
        if step is None:
            step = self._steps[status, digest] = Step(status, digest, len(self._steps))
            if not digest:
                self._unsaid.append(step)
        return step

    def _told(self, teller: Teller, step: Step, status: Mapping[str, Any]) -> None:
        new = teller.heard(step)
        if step.digest:
            total, completed = size_of(status.get("total")), size_of(status.get("completed"))
            teller.counts[step] = total, completed
            step.total = max(step.total, total)
            self._moved.add(step)
        elif new:
            self._stir()

    def _end(self, teller: Teller, text: str) -> None:
        if teller.state == "working":
            self._close(teller, None if teller.success else text)

    def _close(self, teller: Teller, failure: str | None) -> None:
        teller.state, teller.text = ("succeeded", "") if failure is None else ("failed", failure)
        self._stir()

    def _stir(self) -> None:
        """A node came further: what it holds up may be less."""
        self._moved.update(step for step in self._steps.values() if step.digest and not step.full)

    def _alive(self) -> list[Teller]:
        return [teller for teller in self._tellers.values() if teller.state != "failed"]

    def _reached(self, status: Step) -> bool:
        """Whether a status may be said; the very first one as soon as anybody says it."""
        return status.order == 0 or all(self._came_to(teller, status) for teller in self._alive())

    def _came_to(self, teller: Teller, status: Step) -> bool:
        """Whether a node is at a status or beyond it: at one that some node told after it.

        Statuses that name a node's own state (`using existing layer ..` here, `creating new layer ..` there) are never
        told by all.
        """
        if teller.state == "succeeded" or status in teller.places:
            return True
        return any(self._told_before(status, other) for other in teller.statuses)

    def _told_before(self, first: Step, then: Step) -> bool:
        return any(teller.told_before(first, then) for teller in self._tellers.values())

    def _bars_before(self, status: Step, now: float) -> Iterator[dict[str, Any]]:
        """The completions that belong before a status."""
        for bar in sorted(self._moved, key=lambda bar: bar.order):
            if bar.order < status.order or self._told_before(bar, status):
                yield from self._line(bar, now)

    def _bars(self, now: float) -> Iterator[dict[str, Any]]:
        over = self.over
        for bar in sorted(self._moved, key=lambda bar: bar.order):
            if self._open(bar) and (over or now >= bar.sent_at + self._interval):
                yield from self._line(bar, now, whole=False)

    def _open(self, bar: Step) -> bool:
        """Whether for some node everything that it told before this bar has been said."""
        return bar.sent is not None or any(
            all(status.said or not teller.told_before(status, bar) for status in teller.statuses)
            for teller in self._tellers.values()
            if bar in teller.places
        )

    def _line(self, bar: Step, now: float, *, whole: bool = True) -> Iterator[dict[str, Any]]:
        """A bar's line if it differs from the last one; with `whole`, only if the bar is full."""
        numbers = bar.total, self._completed(bar)
        if whole and numbers[1] < bar.total:
            return
        self._moved.discard(bar)
        if numbers != bar.sent:
            bar.sent, bar.sent_at = numbers, now
            told = zip(("total", "completed"), numbers, strict=True)
            yield {"status": bar.status, "digest": bar.digest} | {name: size for name, size in told if size}

    def _completed(self, bar: Step) -> int:
        before = bar.sent[1] if bar.sent else 0
        tellers = self._alive() or self._tellers.values()
        return max(before, min(self._completed_on(teller, bar) for teller in tellers))

    def _completed_on(self, teller: Teller, bar: Step) -> int:
        if teller.state == "succeeded" or self._passed(teller, bar):
            return bar.total
        total, completed = teller.counts.get(bar, (0, 0))
        return bar.total if 0 < total <= completed else min(completed, bar.total)

    def _passed(self, teller: Teller, bar: Step) -> bool:
        """Whether a node is done with a bar, which it need not have told: its manifest may be another."""
        if bar in teller.places:
            return teller.went_on_from(bar)
        return any(bar.order < status.order or self._told_before(bar, status) for status in teller.statuses)


def size_of(value: object) -> int:
    """A size in bytes, 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LARGEST:
        return 0
    return int(value)
