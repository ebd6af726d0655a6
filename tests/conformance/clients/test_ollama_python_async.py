"""ollama-python's asynchronous client against the running address."""

import asyncio

import ollama
import pytest

from tests.conformance.clients.cast import CHAT, EMBED, MESSAGES, TOOL, WEATHER

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
async def client(running_stack):
    async with ollama.AsyncClient(host=running_stack.url) as one:
        yield one


async def test_many_at_once(client):
    """Six chats, a stream and a vector share the client."""

    async def streamed():
        return [piece async for piece in await client.chat(model=CHAT, messages=MESSAGES, stream=True)]

    chats = [client.chat(model=CHAT, messages=MESSAGES) for _ in range(6)]
    pieces, vector, *whole = await asyncio.gather(streamed(), client.embed(model=EMBED, input="ant"), *chats)
    assert {answer.message.content for answer in whole} == {"".join(piece.message.content for piece in pieces)}
    assert len(vector.embeddings[0]) == 768


async def test_generate_and_tools(client):
    """Generate streams, and tools are called."""
    pieces = [piece async for piece in await client.generate(model=CHAT, prompt="Once", stream=True)]
    assert "".join(piece.response for piece in pieces) == (await client.generate(model=CHAT, prompt="Once")).response
    called = await client.chat(model=CHAT, messages=WEATHER, tools=[TOOL])
    assert called.message.tool_calls[0].function.name == "weather"


async def test_lists(client):
    """list, show, ps and the older embeddings route."""
    assert CHAT in [model.model for model in (await client.list()).models]
    assert (await client.show(CHAT)).details.family == "llama"
    assert (await client.ps()).models
    assert (await client.embeddings(model=EMBED, prompt="ant")).embedding


async def test_an_unknown_model(client):
    """The error of a stream comes with its first piece."""
    with pytest.raises(ollama.ResponseError, match="model 'nobody' not found"):
        await anext(aiter(await client.chat(model="nobody", messages=MESSAGES, stream=True)))


async def test_leaving_a_stream(client, stalled):
    """A stream that is closed frees the node."""
    stream = await client.chat(model=CHAT, messages=MESSAGES, stream=True)
    assert (await anext(stream)).message.content
    await stream.aclose()
    await asyncio.to_thread(stalled.noticed)


async def test_a_cancelled_task(client, stalled):
    """A task that waits for a whole answer is cancelled, and the node is freed."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.chat(model=CHAT, messages=MESSAGES), 1.0)
    await asyncio.to_thread(stalled.noticed)


async def test_models_come_and_go(client, new_name, tmp_path):
    """An upload in pieces becomes a model that is copied, used and deleted."""
    weights = tmp_path / "ant.gguf"
    weights.write_bytes(b"GGUF" + new_name.encode() * 100_000)
    digest = await client.create_blob(weights)
    assert (await client.create(new_name, files={"ant.gguf": digest})).status == "success"
    assert (await client.chat(model=new_name, messages=MESSAGES, options={"num_predict": 3})).eval_count == 3
    copy = f"copy-of-{new_name}"
    assert (await client.copy(new_name, copy)).status == "success"
    assert (await client.delete(copy)).status == "success"
    assert copy not in [model.model for model in (await client.list()).models]
