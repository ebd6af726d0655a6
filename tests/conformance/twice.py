"""One node asked twice, directly and through the gateway, from tests that are not asynchronous themselves."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace

import httpx

from routing.core.health import Health
from routing.core.records import RequestRecord
from routing.gateway.settings import GatewaySettings
from simulator.models import CATALOGUE, ModelSpec
from simulator.node import SimulatedNode
from tests.fakes.address import Address, address, sim

CHAT, THINKER, CODER, SEER = "llama3.2:3b", "qwen3:8b", "qwen2.5-coder:7b", "gemma3:4b"
EMBEDDER, LISTENER, STUB = "nomic-embed-text:latest", "whisper-sim:latest", "gpt-oss:120b-cloud"

#: What differs between two answers of one node: times, durations and ids, the latter also where events refer to them.
_NAMES = "created|created_at|id|item_id|call_id|request_id|(?:total|load|prompt_eval|eval)_duration"
VARYING = re.compile(rb',?"(?:%b)":(?:"(?:[^"\\]|\\.)*"|[0-9]+)' % _NAMES.encode())
ROUTING = re.compile(rb',?"_sollol_routing":\{[^{}]*\}')
#: Of this hop, or of the framing that the gateway chooses itself.
OWN_HEADERS = {"date", "connection", "content-length", "transfer-encoding"}


@dataclass(frozen=True)
class Told:
    """One answer without what differs from call to call; `body` is otherwise as it was on the wire."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def told(answer: httpx.Response) -> Told:
    kept = sorted((name, value) for name, value in answer.headers.items() if name not in OWN_HEADERS)
    headers = tuple(pair for pair in kept if not pair[0].startswith("x-sollol-"))
    return Told(answer.status_code, headers, bare(answer.content))


def bare(body: bytes) -> bytes:
    """Bytes without varying members; a comma behind one that stood first goes with it."""
    return VARYING.sub(b"", ROUTING.sub(b"", body)).replace(b"{,", b"{")


@dataclass(repr=False)
class Twice:
    """The running address and a client for each way; `ask` runs their event loop as long as it needs."""

    runner: asyncio.Runner
    one: Address
    node: SimulatedNode
    direct: httpx.AsyncClient
    through: httpx.AsyncClient

    def ask(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[httpx.Response, httpx.Response]:
        """The node's own answer, and the one that comes through the gateway."""
        return self.runner.run(self._ask(path, body, headers))

    async def _ask(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[httpx.Response, httpx.Response]:
        for state in self.one.gateway.dispatcher.nodes.values():
            # Errors of 5xx count against a node, three in a row put it aside for a second; here nobody waits for that.
            state.health = Health()
        asked = {"content": body, "headers": headers}
        return await self.direct.post(path, **asked), await self.through.post(path, **asked)

    @property
    def last(self) -> RequestRecord | None:
        return self.one.recorder.requests[-1] if self.one.recorder.requests else None


def models() -> list[ModelSpec]:
    """One of each ability, all of few words; and a stub of a model at ollama.com."""
    names = (CHAT, THINKER, CODER, SEER, EMBEDDER, LISTENER)
    local = [replace(CATALOGUE[name], answer_tokens=(2, 6), embedding_length=8) for name in names]
    return [*local, ModelSpec(STUB, remote_host="https://ollama.com:443", remote_model="gpt-oss:120b", license="")]


@contextmanager
def asked_twice() -> Iterator[Twice]:
    """Start a node without a time model and a gateway in front of it; nothing may be left in flight at the end."""
    node = sim("ant", "instant", models=models(), exact_length=False, parallel=4)
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        one = runner.run(stack.enter_async_context(address(node, settings=GatewaySettings(poll=1.0))))
        direct = runner.run(stack.enter_async_context(httpx.AsyncClient(base_url=node.base_url, timeout=20)))
        through = runner.run(stack.enter_async_context(one.client()))
        try:
            yield Twice(runner, one, node, direct, through)
        finally:
            runner.run(stack.aclose())
