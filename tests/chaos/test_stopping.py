"""SIGTERM while requests run and wait: each ends in its API's own form, and nothing that was done is forgotten."""

import asyncio
import json
import sqlite3
from pathlib import Path

import httpx
import pytest

from simulator import SimulatedNode, node_in_thread
from tests.chaos.gateways import Process, gateway, seeded
from tests.fakes.address import CHAT, MESSAGES

STREAM = {"model": CHAT, "messages": MESSAGES, "stream": True}
#: Two slots, in which answers take a minute.
SLOW = {"models": [CHAT], "name": "ant", "parallel": 2, "decode_rate": 1.0, "speed": 1.0, "load_fixed": 0.0}


async def read(client: httpx.AsyncClient, path: str) -> tuple[int, dict[str, str], bytes, str]:
    """Status, headers and bytes of an answer, and the name of what broke it."""
    data = bytearray()
    async with client.stream("POST", path, json=STREAM) as answer:
        try:
            async for piece in answer.aiter_raw():
                data += piece
        except httpx.HTTPError as error:
            return answer.status_code, dict(answer.headers), bytes(data), type(error).__name__
        return answer.status_code, dict(answer.headers), bytes(data), ""


async def stopped_in_the_middle(one: Process, node: SimulatedNode) -> list[tuple[int, dict[str, str], bytes, str]]:
    """A native and a /v1 stream run and a native request waits; then the gateway is told to end."""
    async with httpx.AsyncClient(base_url=one.url, timeout=60, trust_env=False) as client:
        running = [asyncio.ensure_future(read(client, path)) for path in ("/api/chat", "/v1/chat/completions")]
        await until(lambda: node.record.tokens >= 4)
        waiting = asyncio.ensure_future(read(client, "/api/chat"))
        async with asyncio.timeout(20):
            while (await client.get("/api/queue")).json()["depth"] != 1:
                await asyncio.sleep(0.02)
        one.terminate()
        return await asyncio.gather(*running, waiting)


async def until(predicate) -> None:
    async with asyncio.timeout(20):
        while not predicate():
            await asyncio.sleep(0.02)


def rows(folder: Path) -> list[tuple[str, str, int]]:
    """Route, outcome and status of all requests in the history."""
    with sqlite3.connect(next(folder.glob("*.sqlite3"))) as database:
        return sorted(database.execute("SELECT route, outcome, status FROM fleet_requestrecord"))


@pytest.fixture
def node():
    with node_in_thread("gpu-24gb", **SLOW) as one:
        yield one


def test_what_runs_is_ended_in_its_own_form(tmp_path: Path, node: SimulatedNode) -> None:
    """A native stream gets an error line, a /v1 stream breaks, who waits gets 503, and the history has all three."""
    seeded(tmp_path, [node])
    with gateway(tmp_path, [node], SOLLOL_SHUTDOWN_S="0", SOLLOL_PREFILL_S="0") as one:
        native, v1, waiting = asyncio.run(stopped_in_the_middle(one, node))
        code, log = one.ended()
    assert (native[0], native[3]) == (200, "")
    assert "stopping" in json.loads(native[2].splitlines()[-1])["error"]
    assert (v1[0], v1[3]) == (200, "RemoteProtocolError")
    assert b"[DONE]" not in v1[2]
    assert (waiting[0], waiting[3]) == (503, "")
    assert int(waiting[1]["retry-after"]) > 0
    assert "stopping" in json.loads(waiting[2])["error"]
    assert (code, "Traceback" in log) == (0, False), log
    assert [row[0] for row in rows(tmp_path)] == ["/api/chat", "/api/chat", "/v1/chat/completions"]
    assert not {row[1] for row in rows(tmp_path)} & {"served", "cancelled"}


def test_what_can_finish_finishes(tmp_path: Path) -> None:
    """Streams that end within SOLLOL_SHUTDOWN_S come whole, and are in the history as served."""
    with node_in_thread("gpu-24gb", **SLOW | {"decode_rate": 60.0}) as node:
        seeded(tmp_path, [node])
        with gateway(tmp_path, [node], SOLLOL_SHUTDOWN_S="30", SOLLOL_PREFILL_S="0") as one:
            native, v1, waiting = asyncio.run(stopped_in_the_middle(one, node))
            code, log = one.ended()
    assert json.loads(native[2].splitlines()[-1])["done"]
    assert v1[2].endswith(b"data: [DONE]\n\n")
    assert json.loads(waiting[2].splitlines()[-1])["done"]
    assert (code, "Traceback" in log) == (0, False), log
    assert [row[1:] for row in rows(tmp_path)] == [("served", 200)] * 3
