"""Virtual time: what is to happen, in the order in which it happens."""

import heapq
from collections.abc import Callable
from typing import Any


class Timeline:
    """Calls at given seconds of virtual time; those of the same moment keep the order in which they were asked for."""

    __slots__ = ("_events", "_sequence", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._sequence = 0

    def at(self, moment: float, call: Callable[..., object], *arguments: Any) -> None:
        """Call at `moment`; what lies in the past happens next."""
        self._sequence += 1
        heapq.heappush(self._events, (max(moment, self.now), self._sequence, call, arguments))

    def after(self, seconds: float, call: Callable[..., object], *arguments: Any) -> None:
        self.at(self.now + seconds, call, *arguments)

    def step(self) -> bool:
        """Let the next thing happen; false if there is none."""
        if not self._events:
            return False
        self.now, _, call, arguments = heapq.heappop(self._events)
        call(*arguments)
        return True
