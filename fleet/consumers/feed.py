"""One live picture for all viewers: computed once a second, each viewer gets the newest when it can take it."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from typing import Any

from fleet import live

log = logging.getLogger(__name__)

PERIOD_S = 1.0
#: An unchanged picture is sent again after so many seconds, so that a viewer can tell quiet from dead.
HEARTBEAT_S = 10.0


class Feed:
    """Runs while somebody watches; a slow viewer skips pictures and delays nobody."""

    def __init__(self, period_s: float = PERIOD_S) -> None:
        self.viewers = 0
        self._period_s = period_s
        self._text = ""
        self._number = 0
        self._news = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def pictures(self) -> AsyncGenerator[str, None]:
        """Every picture from now on as JSON: `{"gateway": bool, "view": {...} | null}`."""
        self.viewers += 1
        if self._task is None or self._task.done() or self._task.get_loop() is not asyncio.get_running_loop():
            self._news = asyncio.Condition()
            self._text = picture()[0]
            self._task = asyncio.create_task(self._run(), name="dashboard feed")
        seen = -1
        try:
            while True:
                async with self._news:
                    while self._number == seen:
                        await self._news.wait()
                    seen, text = self._number, self._text
                yield text
        finally:
            self.viewers -= 1
            if self.viewers == 0 and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _run(self) -> None:
        before: Any = None
        quiet_s = 0.0
        while True:
            await asyncio.sleep(self._period_s)
            try:
                text, content = picture()
            except Exception:  # a picture that cannot be drawn must not end the feed
                log.exception("the live view cannot be shown")
                continue
            quiet_s += self._period_s
            if content == before and quiet_s < HEARTBEAT_S:
                continue
            before, quiet_s = content, 0.0
            async with self._news:
                self._text = text
                self._number += 1
                self._news.notify_all()


def picture() -> tuple[str, dict[str, Any] | None]:
    """The newest view as JSON, and its content without the clock, to compare."""
    view = live.view()
    content = None if view is None else view.as_dict()
    text = json.dumps({"gateway": content is not None, "view": content}, separators=(",", ":"))
    return text, content if content is None else {name: part for name, part in content.items() if name != "at"}


FEED = Feed()
