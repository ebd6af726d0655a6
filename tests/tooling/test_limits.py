"""Bounds on what a client may hold open: heads that never end, heads too large, bodies that trickle."""

import asyncio

import pytest

from fleet.management import protocol
from routing.core.errors import BodyTooSlow
from routing.gateway import exchange
from tests.fakes.address import address, sim

HEAD = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n"


@pytest.fixture
def hurried(monkeypatch):
    """The bounds of half a minute and a minute, as parts of a second."""
    monkeypatch.setattr(protocol, "HEAD_S", 0.2)
    monkeypatch.setattr(exchange, "BODY_GAP_S", 0.2)


async def talk(one, data: bytes) -> bytes:
    """Send bytes and read until the server closes the connection."""
    host, port = one.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    return answer


async def test_a_head_that_does_not_come_is_not_waited_for(hurried):
    """Nor one that has begun; a whole one is served, and the connection then waits for the next as always."""
    async with address(sim("ant"), http=protocol.PlainHttp) as one:
        assert await talk(one, b"") == b""
        assert (await talk(one, HEAD)).startswith(b"HTTP/1.1 408")
        async with one.client() as client:
            for _ in range(3):
                assert (await client.get("/healthz")).status_code == 200
                await asyncio.sleep(0.1)


async def test_a_head_that_is_too_large_is_refused():
    """Before it fills the memory."""
    async with address(sim("ant"), http=protocol.PlainHttp) as one:
        answer = await talk(one, HEAD + b"x-filler: " + b"x" * 100_000)
        assert answer.startswith(b"HTTP/1.1 431")


async def test_a_body_may_come_after_its_answer():
    """What is there already is answered before it has been sent again; its bytes are no head."""
    async with address(sim("ant"), http=protocol.PlainHttp) as one:
        host, port = one.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        early = b"DELETE /healthz HTTP/1.1\r\nhost: localhost\r\ncontent-length: 400000\r\n\r\n"
        writer.write(early)
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 ")
            for _ in range(4):
                writer.write(b"x" * 100_000)
                await writer.drain()
            writer.write(HEAD + b"connection: close\r\n\r\n")
            rest = await reader.read()
        writer.close()
        assert rest.count(b"HTTP/1.1 200 OK") >= 1, rest[:400]
        assert b"431" not in rest


async def test_a_body_that_trickles_is_refused_and_held_no_slot(hurried):
    """A slot is asked for once the body is there."""
    async with address(sim("ant"), http=protocol.PlainHttp) as one:
        head = b"POST /api/chat HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n{"
        answer = await talk(one, head)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"body" in answer
        assert one.asked("ant") == 0


async def test_a_byte_now_and_then_is_not_enough(hurried):
    """What comes must come at some rate."""
    messages = [{"type": "http.request", "body": b"x", "more_body": True}] * 100

    async def receive():
        await asyncio.sleep(0.02)
        return messages.pop()

    one = exchange.Exchange({"headers": [], "method": "POST"}, receive, None)
    with pytest.raises(BodyTooSlow):
        await one.body(1000)
