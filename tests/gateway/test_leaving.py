"""A client that leaves, whenever it does, is noticed, and its slot comes back."""

import asyncio
import time

import pytest

from tests.fakes.address import CHAT, MESSAGES, address, sim

STREAM = {"model": CHAT, "messages": MESSAGES}
#: Seconds within which the node's request must be closed.
NOTICED = 0.2


async def leave(task):
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return time.monotonic()


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_before_the_first_byte_ends_the_nodes_work(path, stream):
    """The node's request is closed while the model is still loading."""
    async with address(sim("ant", speed=1)) as one, one.client() as client:
        task = asyncio.ensure_future(client.post(path, json={**STREAM, "stream": stream}))
        await one.until(lambda: one.asked("ant", path) == 1)
        left = await leave(task)
        await one.until(lambda: one.nodes["ant"].record.aborted)
        assert time.monotonic() - left < NOTICED
        await one.until(lambda: one.recorder.requests)
        assert (one.last.outcome, one.last.status) == ("cancelled", 499)


async def test_leaving_in_the_middle_of_a_stream_ends_the_nodes_work():
    """The node stops generating when nobody reads."""
    async with address(sim("ant", speed=3)) as one, one.client() as client:
        async with client.stream("POST", "/api/chat", json=STREAM) as answer:
            async for _ in answer.aiter_lines():
                break
        left = time.monotonic()
        await one.until(lambda: one.nodes["ant"].record.aborted)
        assert time.monotonic() - left < NOTICED


async def test_leaving_the_queue_gives_the_place_up():
    """Who leaves while waiting is forgotten, and no node ever hears of it."""
    async with address(sim("ant", speed=2, parallel=1)) as one, one.client() as client:
        first = asyncio.ensure_future(client.post("/api/chat", json=STREAM))
        await one.until(lambda: one.asked("ant") == 1)
        second = asyncio.ensure_future(client.post("/api/chat", json=STREAM))
        await one.until(lambda: one.gateway.dispatcher.waiting == 1)
        await leave(second)
        await one.until(lambda: one.gateway.dispatcher.waiting == 0)
        await leave(first)
        await one.until(lambda: not one.gateway.dispatcher.in_flight())
        assert one.asked("ant") == 1


async def test_leaving_while_the_body_is_sent_leaves_nothing_behind():
    """A body that never completes is no request."""
    async with address(sim("ant")) as one:
        port = int(one.url.rsplit(":", 1)[1])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()
        async with one.client() as client:
            assert (await client.get("/api/version")).status_code == 200
        assert one.asked("ant") == 0


async def test_a_freed_slot_goes_to_who_waits():
    """When a client leaves, the next in the queue starts."""
    async with address(sim("ant", speed=20, parallel=1)) as one, one.client() as client:
        one.nodes["ant"].faults.slow_first_byte = 1000.0
        first = asyncio.ensure_future(client.post("/api/chat", json=STREAM))
        await one.until(lambda: one.asked("ant") == 1)
        second = asyncio.ensure_future(client.post("/api/chat", json=STREAM))
        await one.until(lambda: one.gateway.dispatcher.waiting == 1)
        one.nodes["ant"].faults.slow_first_byte = 0.0
        await leave(first)
        assert (await second).status_code == 200
