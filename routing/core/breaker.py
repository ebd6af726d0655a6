"""A circuit breaker per node: closed, open with growing back-off, half-open with one identified probe."""

import math
from collections.abc import Callable
from enum import StrEnum

THRESHOLD = 3
#: Seconds; the longest is short enough, with its jitter, for a node that is well again to be used within ten.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 8.0


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Counts failures in a row; `THRESHOLD` of them open it. Times are seconds of the injected clock.

    While open nothing passes. After the pause exactly one attempt may pass as the probe; only that attempt's result
    closes or reopens the breaker, so the late answer of an older attempt changes nothing. In a row are failures without
    an attempt that `began` after the last of them and went well: one that began before tells how it was then. `jitter`
    returns a factor near 1 that keeps several gateways from probing in step.
    """

    __slots__ = ("failed_at", "failures", "jitter", "open_until", "openings", "probe", "state")

    def __init__(self, jitter: Callable[[], float] = lambda: 1.0) -> None:
        self.state = BreakerState.CLOSED
        self.failures = 0
        self.failed_at = -math.inf
        self.openings = 0
        self.open_until = 0.0
        self.probe: object | None = None
        self.jitter = jitter

    def allows(self, now: float) -> bool:
        if self.state is BreakerState.CLOSED:
            return True
        return self.probe is None and now >= self.open_until

    def begin(self, attempt: object, now: float) -> bool:
        """An attempt starts; after the pause it becomes the probe. True if it did."""
        if self.state is BreakerState.CLOSED or not self.allows(now):
            return False
        self.state, self.probe = BreakerState.HALF_OPEN, attempt
        return True

    def answered(self, attempt: object) -> bool:
        """The first byte of an attempt came; true if this closed the breaker.

        It is too early to tell that all is well, since answers may break off later. Of a probe it is enough to let
        others pass, who need not wait for a long answer's end; the next failure opens the breaker again, for longer.
        """
        if self.state is BreakerState.CLOSED or attempt is not self.probe:
            return False
        self.state, self.probe, self.failures = BreakerState.CLOSED, None, THRESHOLD - 1
        return True

    def success(self, attempt: object, began: float = math.inf) -> bool:
        """An attempt went well to its end; true if this closed the breaker."""
        if self.state is BreakerState.CLOSED:
            if began >= self.failed_at:
                self.failures = self.openings = 0
            return False
        if attempt is not self.probe:
            return False
        self.state, self.probe, self.failures, self.openings = BreakerState.CLOSED, None, 0, 0
        return True

    def failure(self, attempt: object, now: float, weight: int = 1) -> bool:
        """An attempt failed.

        True if this opened the breaker. `weight` counts a refused connection as several failures.
        """
        if self.state is BreakerState.CLOSED:
            self.failures, self.failed_at = self.failures + weight, now
            if self.failures < THRESHOLD:
                return False
        elif attempt is not self.probe:
            return False
        self.failed_at = now
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**self.openings) * self.jitter()
        self.state, self.probe, self.open_until = BreakerState.OPEN, None, now + pause
        self.openings += 1
        return True

    def neutral(self, attempt: object) -> None:
        """An attempt ended without telling anything about the node; a probe's place becomes free again."""
        if attempt is self.probe:
            self.state, self.probe = BreakerState.OPEN, None

    def recovered(self, now: float) -> bool:
        """Another signal (a health look) says that the node answers: the next attempt may be the probe at once.

        True if that is sooner than it would have been.
        """
        if self.state is BreakerState.CLOSED or self.open_until <= now:
            return False
        self.open_until = now
        return True
