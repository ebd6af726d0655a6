"""The dashboard's WebSocket: operators and viewers see the live picture, everybody else a close code."""

import asyncio
import contextlib
import logging

from asgiref.sync import sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer

from fleet.consumers import NO_LAYER
from fleet.selectors.access import watches_all
from fleet.services.feed import FEED

log = logging.getLogger(__name__)

#: The close code for those who may not see all teams' requests.
STAFF_ONLY = 4403
INTERNAL_ERROR = 1011


class DashboardConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels is untyped
    """Sends the whole picture at once, then what changes; takes nothing. docs/dashboard.md tells the form."""

    channel_layer_alias = NO_LAYER
    task: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        await self.accept()
        user = self.scope.get("user")
        if user is None or not await sync_to_async(watches_all)(user):
            # Accepted first: a browser never sees the close code of a handshake that was refused.
            await self.close(code=STAFF_ONLY)
            return
        self.task = asyncio.create_task(self.show(), name="dashboard viewer")

    async def show(self) -> None:
        try:
            async with contextlib.aclosing(FEED.pictures()) as pictures:
                async for text in pictures:
                    await self.send(text_data=text)
        except OSError:
            return  # the viewer has left, and the server says so when it is sent something
        except Exception:  # the page must learn that nothing more comes; it connects again
            log.exception("the dashboard's picture cannot be sent")
            await self.close(code=INTERNAL_ERROR)

    async def disconnect(self, code: int) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """What viewers send is ignored."""
