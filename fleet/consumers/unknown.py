"""WebSocket addresses that nobody serves."""

from channels.generic.websocket import AsyncWebsocketConsumer


class UnknownConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels is untyped
    """Refuses the handshake, where Channels would log an error for each."""

    async def connect(self) -> None:
        await self.close()
