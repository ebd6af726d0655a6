"""Nodes and clients for the simulator's tests."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from simulator import ModelSpec, SimulatedNode

GB = 1_000_000_000


def small(name: str, gigabytes: float = 1.0, **fields: Any) -> ModelSpec:
    """A model whose context takes next to no memory, so that sizes in tests are the files' sizes."""
    shape = {"layers": 1, "kv_heads": 1, "head_dim": 1, "embedding_length": 16, "parameter_size": "1B"}
    return ModelSpec(name, weights_bytes=int(gigabytes * GB), **{**shape, **fields})


class Client:
    """A plain HTTP client of one node that shows status, headers and bytes as they came."""

    def __init__(self, node: SimulatedNode, session: aiohttp.ClientSession) -> None:
        self.node = node
        self.session = session

    async def send(self, method: str, path: str, body: Any = None, **kwargs: Any) -> tuple[int, Any, bytes]:
        data = json.dumps(body).encode() if isinstance(body, dict | list) else body
        async with self.session.request(method, self.node.base_url + path, data=data, **kwargs) as answer:
            return answer.status, answer.headers, await answer.read()

    async def post(self, path: str, **body: Any) -> Any:
        """The parsed JSON of a POST that is not streamed."""
        return json.loads((await self.send("POST", path, {"stream": False, **body}))[2])

    async def get(self, path: str) -> Any:
        return json.loads((await self.send("GET", path))[2])

    async def chunks(self, path: str, **body: Any) -> list[bytes]:
        """The HTTP chunks of a streamed answer."""
        async with self.session.post(self.node.base_url + path, json=body) as answer:
            return [data async for data, end in answer.content.iter_chunks() if data]

    async def lines(self, path: str, **body: Any) -> list[Any]:
        return [json.loads(chunk) for chunk in await self.chunks(path, **body)]

    def chat(self, model: str, text: str = "hello", **body: Any) -> Any:
        """A coroutine: the answer to one message, not streamed."""
        return self.post("/api/chat", model=model, messages=[{"role": "user", "content": text}], **body)


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Any]]:
    """A function that starts a node and gives it with a client; all are stopped after the test."""
    nodes: list[SimulatedNode] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def starter(profile: Any = "gpu-24gb", *, speed: float = 200.0, **arguments: Any) -> Any:
            node = await SimulatedNode(profile, speed=speed, **arguments).start()
            nodes.append(node)
            return node, Client(node, session)

        yield starter
        for node in nodes:
            await node.stop()
