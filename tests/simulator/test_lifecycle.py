"""Starting, killing, restarting and stopping a node."""

import asyncio
import time

import aiohttp
import pytest

from simulator import SimulatedNode, node_in_thread
from tests.simulator.conftest import small

HELLO = [{"role": "user", "content": "hello"}]


async def test_starting_and_stopping_is_quick():
    """Tests start many nodes."""
    began = time.perf_counter()
    for _ in range(10):
        async with SimulatedNode():
            pass
    assert (time.perf_counter() - began) / 10 < 0.02


async def test_stop_leaves_nothing_running(start):
    """Requests in progress are cut, and no task of the node is left."""
    node, client = await start(models=[small("ant:1b")])
    node.faults.stall_after_chunks = 1
    running = asyncio.create_task(client.lines("/api/chat", model="ant:1b", messages=HELLO))
    await node.until(lambda: node.record.tokens)
    await node.stop()
    with pytest.raises(aiohttp.ClientError):
        await running
    names = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}
    assert not any("Scheduler" in name or "SimulatedNode" in name for name in names)


async def test_a_killed_node_resets_its_connections_and_refuses(start):
    """Streams break, new connections are refused, and the clients did not leave by themselves."""
    node, client = await start(models=[small("ant:1b")])
    node.faults.stall_after_chunks = 1
    running = asyncio.create_task(client.lines("/api/chat", model="ant:1b", messages=HELLO))
    await node.until(lambda: node.record.tokens)
    node.kill()
    with pytest.raises(aiohttp.ClientError):
        await running
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.get("/api/version")
    assert node.record.aborted == []
    assert not node.record.in_flight["ant:1b"]


async def test_a_restarted_node_has_lost_its_runners(start):
    """It comes back on the same port with nothing loaded and its models on disk."""
    node, client = await start(models=[small("ant:1b")])
    await client.chat("ant:1b")
    port = node.port
    node.kill()
    await node.restart()
    assert node.port == port
    assert (await client.get("/api/ps")) == {"models": []}
    assert len((await client.get("/api/tags"))["models"]) == 1
    assert (await client.chat("ant:1b"))["done"]


async def test_a_taken_port_is_an_error(start):
    """Two nodes cannot have the same port."""
    node, _ = await start()
    with pytest.raises(OSError, match="in use"):
        await SimulatedNode(port=node.port).start()


async def test_the_record_tells_who_was_sent_what(start):
    """Arrivals in their order, with path and model."""
    node, client = await start(models=[small("ant:1b"), small("bee:1b")])
    for model in ("bee:1b", "ant:1b", "bee:1b"):
        await client.chat(model)
    assert node.record.models_for("/api/chat") == ["bee:1b", "ant:1b", "bee:1b"]
    assert node.record.requests["/api/chat"] == 3
    assert [load.model for load in node.record.loads] == ["bee:1b", "ant:1b"]


def test_a_node_for_callers_that_are_not_asynchronous():
    """It runs on a loop in a thread of its own, and its faults can be set from here."""
    import httpx  # noqa: PLC0415 - only this test needs it

    with node_in_thread(models=["llama3.2:3b"], speed=200) as node:
        assert httpx.get(node.base_url + "/api/version").json() == {"version": "0.33.0"}
        node.faults.version = "0.1.0"
        assert httpx.get(node.base_url + "/api/version").json() == {"version": "0.1.0"}
        asyncio.run_coroutine_threadsafe(node.restart(), node.loop).result()
        assert httpx.get(node.base_url + "/api/ps").json() == {"models": []}
