"""One live picture for all viewers: drawn twice a second while somebody looks, and sent as what has changed."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable

import orjson

from fleet import live
from fleet.services.batch.board import Reader
from fleet.services.changes import Sections, changes

log = logging.getLogger(__name__)

PERIOD_S = 0.5
#: An unchanged picture is told of again after so many seconds, so that a viewer can tell quiet from dead.
HEARTBEAT_S = 10.0


def drawn() -> Sections | None:
    """The gateway's sections; None where this process runs no gateway."""
    panorama = live.panorama()
    return None if panorama is None else panorama.sections()


class Feed:
    """Draws while somebody watches; a slow viewer skips pictures, gets a whole one then, and delays nobody."""

    def __init__(
        self,
        draw: Callable[[], Sections | None] = drawn,
        period_s: float = PERIOD_S,
        batch: Reader | None = None,
    ) -> None:
        self.viewers = 0
        self._draw, self._period_s, self._batch = draw, period_s, batch
        self._sections: Sections | None = None
        self._number = 0
        self._drawn_at = float("-inf")
        self._spoke_at = 0.0
        self._whole = self._change = ""
        self._news = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def pictures(self) -> AsyncGenerator[str, None]:
        """The whole picture, then what changes, as JSON texts; docs/dashboard.md tells their form."""
        self.viewers += 1
        try:
            if self._task is None or self._task.done() or self._task.get_loop() is not asyncio.get_running_loop():
                self._news = asyncio.Condition()
                self.look()
                self._task = asyncio.create_task(self._run(), name="dashboard feed")
            seen, text = self._number, self.whole()
            while True:
                yield text
                async with self._news:
                    while self._number == seen:
                        await self._news.wait()
                    text = self._change if self._number == seen + 1 else self.whole()
                    seen = self._number
        finally:
            self.viewers -= 1
            if self.viewers == 0 and self._task is not None:
                self._task.cancel()
                self._task = None

    def now(self) -> str:
        """The whole picture for who asks again and again; the viewers' where there are some."""
        if self._task is None and time.monotonic() - self._drawn_at >= self._period_s:
            self.look()
        return self.whole()

    def whole(self) -> str:
        """The newest picture in full, with the time of now; the rest is written once for all who want it."""
        if not self._whole and self._sections is not None:
            self._whole = orjson.dumps(self._sections).decode()
        return self._text("whole", self._whole)

    def look(self) -> bool:
        """Draw; true if that is to be told."""
        before, sections = self._sections, self._draw()
        if sections is not None and self._batch is not None and (board := self._batch.look()) is not None:
            sections["batch"] = board
        now = self._drawn_at = time.monotonic()
        change = sections if sections is None or before is None else changes(before, sections)
        if (sections is before or change == {}) and now - self._spoke_at < HEARTBEAT_S:
            return False
        self._sections, self._whole, self._spoke_at = sections, "", now
        self._number += 1
        if sections is None or before is None:
            self._change = self.whole()
        else:
            self._change = self._text("change", orjson.dumps(change).decode())
        return True

    def _text(self, kind: str, sections: str) -> str:
        head = {"number": self._number, "at": time.time(), "gateway": self._sections is not None}
        told = orjson.dumps(head).decode()
        return f'{told[:-1]},"{kind}":{sections}}}' if sections else told

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._period_s)
            try:
                news = self.look()
            except Exception:  # a picture that cannot be drawn must not end the feed
                log.exception("the live view cannot be shown")
                continue
            if news:
                async with self._news:
                    self._news.notify_all()


FEED = Feed(batch=Reader())
