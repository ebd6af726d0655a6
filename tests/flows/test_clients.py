"""Real clients against the whole running stack: they cannot tell it from one Ollama server."""

import asyncio
import json
import math
import subprocess

import ollama
import openai
import pytest

from tests.tooling.stack import Stack

pytestmark = pytest.mark.timeout(240)
CHAT, EMBED = "llama3.2:3b", "nomic-embed-text"
MESSAGES = [{"role": "user", "content": "Why is the sky blue?"}]


@pytest.fixture
def client(running_stack: Stack) -> ollama.Client:
    return ollama.Client(host=running_stack.url)


@pytest.fixture
def sdk(running_stack: Stack):
    with openai.OpenAI(base_url=f"{running_stack.url}/v1", api_key="any") as one:
        yield one


def test_ollama_python_chats(client):
    """A whole answer, with its counts."""
    answer = client.chat(model=CHAT, messages=MESSAGES)
    assert answer.message.content
    assert answer.done
    assert answer.eval_count > 0


def test_ollama_python_streams(client):
    """The pieces of a stream are the text of the whole answer."""
    pieces = list(client.chat(model=CHAT, messages=MESSAGES, stream=True))
    assert pieces[-1].done
    whole = client.chat(model=CHAT, messages=MESSAGES)
    assert "".join(piece.message.content for piece in pieces) == whole.message.content


def test_ollama_python_generates(client):
    """Generate, streamed and not, says the same."""
    pieces = list(client.generate(model=CHAT, prompt="Once", stream=True))
    assert "".join(piece.response for piece in pieces) == client.generate(model=CHAT, prompt="Once").response


def test_ollama_python_embeds(client):
    """Vectors come in the order of the texts, normalised, and the same each time."""
    answer = client.embed(model=EMBED, input=["ant", "bee", "cat"])
    assert [list(client.embed(model=EMBED, input=text).embeddings[0]) for text in ("ant", "bee", "cat")] == [
        list(vector) for vector in answer.embeddings
    ]
    assert math.isclose(sum(x * x for x in answer.embeddings[0]), 1.0, abs_tol=1e-3)
    assert client.embeddings(model=EMBED, prompt="ant").embedding


def test_ollama_python_lists(client):
    """list, show and ps read as from one server."""
    client.generate(model=CHAT, prompt="")
    assert CHAT in [model.model for model in client.list().models]
    assert client.show(CHAT).modelinfo
    assert CHAT in [model.model for model in client.ps().models]


def test_ollama_python_gets_ollamas_own_errors(client):
    """An unknown model is the error that a node would give."""
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat(model="nobody", messages=MESSAGES)
    assert (caught.value.status_code, caught.value.error) == (404, "model 'nobody' not found")


def test_ollama_python_async(running_stack):
    """The asynchronous client chats, streams and embeds, many at once."""

    async def talk():
        client = ollama.AsyncClient(host=running_stack.url)
        whole = await asyncio.gather(*(client.chat(model=CHAT, messages=MESSAGES) for _ in range(6)))
        pieces = [piece async for piece in await client.chat(model=CHAT, messages=MESSAGES, stream=True)]
        vectors = await client.embed(model=EMBED, input="ant")
        return whole, pieces, vectors

    whole, pieces, vectors = asyncio.run(talk())
    assert len({answer.message.content for answer in whole}) == 1
    assert "".join(piece.message.content for piece in pieces) == whole[0].message.content
    assert vectors.embeddings


def test_openai_sdk_chats(sdk):
    """A whole answer, with usage."""
    answer = sdk.chat.completions.create(model=CHAT, messages=MESSAGES)
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens > 0


def test_openai_sdk_streams(sdk):
    """A stream with usage at its end, said in the same words."""
    chunks = list(
        sdk.chat.completions.create(model=CHAT, messages=MESSAGES, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == sdk.chat.completions.create(model=CHAT, messages=MESSAGES).choices[0].message.content
    assert chunks[-1].usage.completion_tokens > 0


def test_openai_sdk_completes(sdk):
    """The older completions route."""
    assert sdk.completions.create(model=CHAT, prompt="Once").choices[0].text


def test_openai_sdk_embeds(sdk):
    """The SDK asks for base64 and gets the floats that the native route gives."""
    answer = sdk.embeddings.create(model=EMBED, input=["ant", "bee"])
    floats = sdk.embeddings.create(model=EMBED, input=["ant", "bee"], encoding_format="float")
    for one, other in zip(answer.data, floats.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)


def test_openai_sdk_lists_and_gets_errors(sdk):
    """Models by the SDK, and an unknown one as its own error class."""
    assert CHAT in [model.id for model in sdk.models.list()]
    assert sdk.models.retrieve(CHAT).id == CHAT
    with pytest.raises(openai.NotFoundError):
        sdk.chat.completions.create(model="nobody", messages=MESSAGES)


def test_curl_streams(running_stack):
    """A body by curl -d has a form's content type and gets a stream of objects."""
    body = json.dumps({"model": CHAT, "messages": MESSAGES})
    done = subprocess.run(
        ["curl", "-sS", "--no-buffer", f"{running_stack.url}/api/chat", "-d", body], capture_output=True, check=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1]["_sollol_routing"]["host"] in {"ant", "bee", "cat"}


def test_an_offer_of_http2_does_not_cost_the_body(running_stack):
    """Java's client and `curl --http2` offer h2c with every request; it is declined, and the body counts."""
    body = json.dumps({"model": CHAT, "messages": MESSAGES, "stream": False})
    done = subprocess.run(
        ["curl", "-sS", "--http2", f"{running_stack.url}/api/chat", "-d", body], capture_output=True, check=True
    )
    assert json.loads(done.stdout)["done"] is True
