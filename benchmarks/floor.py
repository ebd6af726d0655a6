"""The least that a proxy of this kind can do: plain ASGI, aiohttp upstream, no look at any byte."""

import argparse
from typing import Any

import aiohttp
import uvicorn


class Floor:
    """Reads the request's body, forwards it, and sends on each piece of the answer as it comes."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
        elif scope["type"] == "http":
            await self.forward(scope, receive, send)

    async def lifespan(self, receive: Any, send: Any) -> None:
        while True:
            kind = (await receive())["type"]
            if kind == "lifespan.startup":
                self.session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0),
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
                    auto_decompress=False,
                )
            elif self.session is not None:
                await self.session.close()
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return

    async def forward(self, scope: Any, receive: Any, send: Any) -> None:
        assert self.session is not None
        body, more = b"", True
        while more:
            event = await receive()
            body += event.get("body", b"")
            more = event.get("more_body", False)
        url = self.backend + scope["path"]
        async with self.session.request(
            scope["method"], url, data=body or None, headers={"Content-Type": "application/json"}
        ) as answer:
            headers = [
                (name, value)
                for name, value in answer.raw_headers
                if name.lower() in (b"content-type", b"content-length")
            ]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            while piece := await answer.content.readany():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--backend", required=True, help="For example http://127.0.0.1:9000.")
    options = parser.parse_args()
    uvicorn.run(
        Floor(options.backend),
        host="127.0.0.1",
        port=options.port,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        lifespan="on",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_level="warning",
        timeout_keep_alive=75,
    )


if __name__ == "__main__":
    main()
