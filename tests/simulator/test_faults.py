"""What can go wrong with a node, and how that looks from outside."""

import asyncio

import aiohttp
import pytest

from tests.simulator.conftest import small

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def ant(start):
    """A node that has its model loaded, and a client of it."""
    node, client = await start(models=[small("ant:1b"), small("bee:1b")])
    await client.chat("ant:1b")
    return node, client


async def read(client, **body):
    """The chunks of a streamed chat, and the error that ended it, if any."""
    chunks = []
    try:
        asked = {"model": "ant:1b", "messages": HELLO, **body}
        async with client.session.post(client.node.base_url + "/api/chat", json=asked) as answer:
            async for data, _ in answer.content.iter_chunks():
                if data:
                    chunks.append(data)
    except aiohttp.ClientError as error:
        return chunks, error
    return chunks, None


async def test_a_refusing_node_refuses_connections(ant):
    """The port is closed until the switch is cleared."""
    node, client = ant
    node.faults.refuse = True
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.get("/api/version")
    node.faults.refuse = False
    assert (await client.get("/api/version"))["version"] == "0.33.0"


async def test_a_refusing_node_finishes_what_runs(ant):
    """Streams that have begun go on."""
    node, client = ant
    node.faults.stall_after_chunks = 2
    running = asyncio.create_task(read(client))
    await node.until(lambda: node.record.running["ant:1b"])
    node.faults.refuse = True
    node.faults.stall_after_chunks = None
    chunks, error = await running
    assert error is None
    assert b'"done":true' in chunks[-1]


async def test_a_hanging_node_accepts_and_says_nothing(ant):
    """Once it wakes up, the request is answered."""
    node, client = ant
    node.faults.hang = True
    waiting = asyncio.create_task(client.get("/api/version"))
    await node.until(lambda: node.record.requests["/api/version"])
    await asyncio.sleep(0.02)
    assert not waiting.done()
    node.faults.hang = False
    assert await waiting == {"version": "0.33.0"}


async def test_a_hang_stops_running_streams(ant):
    """No token comes from a node that hangs, and the time is not caught up afterwards."""
    node, client = ant
    node.faults.stall_after_chunks = 3
    running = asyncio.create_task(read(client))
    await node.until(lambda: node.record.tokens and node.record.running["ant:1b"])
    node.faults.set(hang=True, stall_after_chunks=None)
    await asyncio.sleep(0.05)
    made = node.record.tokens
    await asyncio.sleep(0.05)
    assert node.record.tokens == made
    node.faults.hang = False
    assert (await running)[1] is None


@pytest.mark.parametrize("kind", ["reset", "cut"])
@pytest.mark.parametrize("chunks", [1, 4])
async def test_a_stream_breaks_after_so_many_chunks(ant, kind, chunks):
    """Reset and cut both end the transport without the final chunk, after exactly the objects asked for."""
    node, client = ant
    node.faults.set(**{f"{kind}_after_chunks": chunks})
    got, error = await read(client)
    assert len(got) == chunks
    assert isinstance(error, aiohttp.ClientPayloadError)


@pytest.mark.parametrize("kind", ["reset", "cut"])
async def test_a_break_before_the_first_byte(ant, kind):
    """The connection ends and there was no answer at all."""
    node, client = ant
    node.faults.set(**{f"{kind}_after_chunks": 0})
    got, error = await read(client)
    assert got == []
    assert isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)


async def test_a_reset_is_a_reset(ant):
    """The client's socket sees ECONNRESET, not an orderly end."""
    node, _ = ant
    node.faults.reset_after_chunks = 2
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    body = b'{"model":"ant:1b","prompt":"x"}'
    writer.write(b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    with pytest.raises(ConnectionResetError):
        await reader.read(-1)
    writer.close()


async def test_an_error_line_ends_a_stream(ant):
    """After the first object the status stays 200 and the last line says what happened."""
    node, client = ant
    node.faults.error_after_chunks = 3
    chunks, error = await read(client)
    assert error is None
    assert len(chunks) == 4
    assert chunks[-1].startswith(b'{"error":"model runner has unexpectedly stopped, this may be')


async def test_an_error_before_the_first_object_has_its_status(ant):
    """Then it is a 500, application/json without a charset."""
    node, client = ant
    node.faults.set(error_after_chunks=0, error_text="boom")
    status, headers, body = await client.send("POST", "/api/chat", {"model": "ant:1b", "messages": HELLO})
    assert (status, headers["Content-Type"], body) == (500, "application/json", b'{"error":"boom"}')


async def test_an_error_in_an_answer_that_is_not_streamed(ant):
    """It is a 500 with the headers of the handler."""
    node, client = ant
    node.faults.set(error_after_chunks=3, error_text="boom")
    asked = {"model": "ant:1b", "messages": HELLO, "stream": False}
    status, headers, body = await client.send("POST", "/api/chat", asked)
    assert (status, body) == (500, b'{"error":"boom"}')
    assert headers["Content-Type"] == "application/json; charset=utf-8"


async def test_a_stream_may_end_without_done(ant):
    """The transport ends properly and the done object is missing."""
    node, client = ant
    node.faults.eof_after_chunks = 3
    chunks, error = await read(client)
    assert error is None
    assert len(chunks) == 3
    assert b'"done":true' not in chunks[-1]


async def test_a_fault_strikes_only_so_many_times(ant):
    """With times=1 the next request is served."""
    node, client = ant
    node.faults.set(reset_after_chunks=1, times=1)
    assert (await read(client))[1] is not None
    assert (await read(client))[1] is None


async def test_a_fault_set_while_a_stream_runs_strikes_it(ant):
    """Switches act at once."""
    node, client = ant
    node.faults.stall_after_chunks = 2
    running = asyncio.create_task(read(client))
    await node.until(lambda: node.record.running["ant:1b"])
    node.faults.set(cut_after_chunks=3, stall_after_chunks=None)
    chunks, error = await running
    assert len(chunks) == 3
    assert error is not None


async def test_a_busy_node_says_so(ant):
    """503 with the text that Ollama has for it, on the native and on the compatible routes."""
    node, client = ant
    node.faults.busy = True
    text = "server busy, please try again.  maximum pending requests exceeded"
    for path in ("/api/chat", "/v1/chat/completions"):
        status, _, body = await client.send("POST", path, {"model": "ant:1b", "messages": HELLO})
        assert status == 503
        assert text in body.decode()


async def test_a_runner_that_dies_is_loaded_anew(ant):
    """Everybody on the runner gets the error, and the next request loads the model again."""
    node, client = ant
    node.faults.stall_after_chunks = 1
    running = [asyncio.create_task(read(client)) for _ in range(2)]
    await node.until(lambda: node.record.running["ant:1b"] == 2)
    node.faults.set(error_after_chunks=2, error_kills_runner=True, stall_after_chunks=None, times=1)
    ends = [chunks[-1] for chunks, _ in await asyncio.gather(*running)]
    assert all(b"model runner has unexpectedly stopped" in end for end in ends)
    assert not node.scheduler.runners
    node.faults.clear()
    assert (await client.chat("ant:1b"))["done"]
    assert len(node.record.loads) == 2


async def test_running_out_of_memory_costs_all_runners(ant):
    """After an error that says so, no runner stays longer than its requests."""
    node, client = ant
    await client.chat("bee:1b")
    node.faults.set(error_after_chunks=1, error_text="CUDA error: out of memory")
    await read(client)
    await node.until(lambda: not node.scheduler.runners)
    assert {eviction.model for eviction in node.record.evictions} == {"ant:1b", "bee:1b"}


async def test_slow_lists(ant):
    """Tags can be slow while everything else is quick."""
    node, client = ant
    node.faults.slow_tags = 40.0
    waiting = asyncio.create_task(client.get("/api/tags"))
    await node.until(lambda: node.record.requests["/api/tags"])
    await client.get("/api/version")
    assert not waiting.done()
    assert len((await waiting)["models"]) == 2


async def test_faults_can_be_cleared(ant):
    """After clear() the node is as new, and an unknown switch is an error that sets nothing."""
    node, client = ant
    node.faults.set(busy=True, version="0.0.0", slowdown=9.0)
    with pytest.raises(KeyError):
        node.faults.set(refuse=True, catch_fire=True)
    node.faults.clear()
    assert (await client.get("/api/version")) == {"version": "0.33.0"}
    assert (await client.chat("ant:1b"))["done"]
