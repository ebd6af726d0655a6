"""Simulated time: a monotonic clock that runs `speed` times as fast as the real one."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

# What Go shows for a keep_alive of "forever": the largest duration that fits an int64 of nanoseconds.
FOREVER_SECONDS = (2**63 - 1) / 1e9


class Clock:
    """Time as the simulated node sees it; all values are simulated seconds unless a name says otherwise."""

    def __init__(self, speed: float = 1.0) -> None:
        if speed <= 0:
            raise ValueError("speed must be positive")
        self.speed = speed
        self._real_start = time.perf_counter()
        self._epoch_start = time.time()
        self._stamp_second = -1
        self._stamp_text = b""

    def now(self) -> float:
        """Simulated seconds since this clock was made."""
        return (time.perf_counter() - self._real_start) * self.speed

    def epoch(self) -> float:
        """Simulated wall-clock time, in seconds since 1970; it is the real time when the clock is made."""
        return self._epoch_start + self.now()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back after so many simulated seconds."""
        return asyncio.get_running_loop().call_later(seconds / self.speed, callback)

    def stamp(self) -> bytes:
        """created_at of an answer: UTC, RFC 3339 with nanoseconds, trailing zeros dropped as Go drops them."""
        second, fraction = divmod(self.epoch(), 1.0)
        if second != self._stamp_second:
            self._stamp_second = int(second)
            self._stamp_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
        digits = b"%09d" % int(fraction * 1e9)
        digits = digits.rstrip(b"0")
        return b"%b.%bZ" % (self._stamp_text, digits) if digits else self._stamp_text + b"Z"


def local_stamp(epoch: float) -> str:
    """A timestamp in the server's own zone, as tags and ps show it."""
    try:
        moment = datetime.fromtimestamp(epoch, UTC).astimezone()
    except (OverflowError, ValueError, OSError):
        moment = datetime.max.replace(tzinfo=UTC)
    text = moment.isoformat(timespec="microseconds")
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text
