"""Uvicorn's server with an end that loses nothing: it says that it stops, lets what runs finish, and ends the rest."""

import asyncio
import socket

import uvicorn

from fleet import live

#: Seconds in which what was ended must have been told so.
LAST_WORDS_S = 5


class Server(uvicorn.Server):
    """`drain_s`: seconds for which it still takes connections after it has said that it stops.

    `finish_s`: those that running requests get after that. A second signal cuts both short.
    """

    def __init__(self, config: uvicorn.Config, drain_s: float, finish_s: float) -> None:
        config.timeout_graceful_shutdown = int(finish_s) + LAST_WORDS_S
        super().__init__(config)
        self.drain_s, self.finish_s = drain_s, finish_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        gateway = live.gateway()
        if gateway is None:
            await super().shutdown(sockets)
            return
        gateway.drain()
        await self._wait(self.drain_s)
        end = asyncio.get_running_loop().call_later(self.finish_s, gateway.end_all)
        try:
            await super().shutdown(sockets)
        finally:
            end.cancel()

    async def _wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while loop.time() < until and not self.force_exit:  # noqa: ASYNC110 (a signal handler sets it, as in uvicorn)
            await asyncio.sleep(0.05)
