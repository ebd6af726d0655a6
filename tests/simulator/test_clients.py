"""Real clients against a simulated node."""

import asyncio

import ollama
import openai
import pytest

from simulator import node_in_thread
from tests.simulator.conftest import small

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def node():
    models = ["llama3.2:3b", "nomic-embed-text:latest", "qwen3:8b"]
    with node_in_thread(models=models, speed=200) as node:
        yield node


@pytest.fixture
def bees(node):
    return ollama.Client(host=node.base_url)


@pytest.fixture
def cats(node):
    with openai.OpenAI(base_url=node.base_url + "/v1", api_key="anything", max_retries=0) as client:
        yield client


def test_ollama_chat(bees):
    """Streamed parts join to the whole answer, with thinking where the model thinks."""
    whole = bees.chat("qwen3:8b", HELLO)
    parts = list(bees.chat("qwen3:8b", HELLO, stream=True))
    assert whole.message.content == "".join(part.message.content for part in parts)
    assert whole.message.thinking == "".join(part.message.thinking or "" for part in parts)
    assert parts[-1].done
    assert parts[-1].eval_count == len(parts) - 1


def test_ollama_generate_and_embed(bees):
    """The other two kinds of work."""
    assert bees.generate("llama3.2:3b", "hello").response
    assert len(bees.embed("nomic-embed-text", ["a", "b"]).embeddings) == 2


def test_ollama_models(bees):
    """list, ps, show, copy and delete are understood."""
    bees.chat("llama3.2:3b", HELLO)
    assert {model.model for model in bees.list().models} >= {"llama3.2:3b", "qwen3:8b"}
    assert "llama3.2:3b" in {model.model for model in bees.ps().models}
    assert bees.show("llama3.2:3b").modelinfo["general.architecture"] == "llama"
    assert bees.copy("llama3.2:3b", "dog").status == "success"
    assert bees.delete("dog").status == "success"


def test_ollama_pull_and_create(bees):
    """Progress streams are understood, and the models can be used."""
    assert [step.status for step in bees.pull("gemma3:4b", stream=True)][-1] == "success"
    assert bees.create("wise", from_="gemma3:4b", system="Be wise.").status == "success"
    assert bees.chat("wise", HELLO).message.content != bees.chat("gemma3:4b", HELLO).message.content


def test_ollama_errors(bees):
    """The client shows the text and the status of a refusal."""
    with pytest.raises(ollama.ResponseError, match="model 'owl' not found") as refused:
        bees.chat("owl", HELLO)
    assert refused.value.status_code == 404


async def test_ollama_async(start):
    """The asynchronous client streams, and a stream that it leaves is noticed."""
    node, _ = await start(models=[small("ant:1b")])
    node.faults.stall_after_chunks = 3
    client = ollama.AsyncClient(host=node.base_url)
    stream = await client.chat("ant:1b", HELLO, stream=True)
    parts = [(await anext(stream)).message.content for _ in range(3)]
    await stream.aclose()
    await node.until(lambda: node.record.aborted)
    assert len(parts) == 3
    assert not node.record.running["ant:1b"]


def test_openai_chat(cats):
    """Whole and streamed answers say the same, and usage is there when asked for."""
    whole = cats.chat.completions.create(model="llama3.2:3b", messages=HELLO)
    stream = list(
        cats.chat.completions.create(
            model="llama3.2:3b", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert whole.choices[0].message.content == text
    assert stream[-1].usage == whole.usage


def test_openai_embeddings_and_models(cats):
    """The SDK asks for base64 and gets its floats back."""
    vectors = cats.embeddings.create(model="nomic-embed-text", input=["a", "b"])
    assert [len(row.embedding) for row in vectors.data] == [768, 768]
    assert "llama3.2:3b" in {model.id for model in cats.models.list()}
    assert cats.models.retrieve("llama3.2:3b").owned_by == "library"


def test_openai_errors(cats):
    """A missing model is a NotFoundError with Ollama's text."""
    with pytest.raises(openai.NotFoundError, match="model 'owl' not found"):
        cats.chat.completions.create(model="owl", messages=HELLO)


async def test_openai_async(start):
    """Several at once share the node."""
    node, _ = await start(models=[small("ant:1b")])
    async with openai.AsyncOpenAI(base_url=node.base_url + "/v1", api_key="x") as client:
        answers = await asyncio.gather(
            *(client.chat.completions.create(model="ant:1b", messages=HELLO) for _ in range(5))
        )
    assert len({answer.choices[0].message.content for answer in answers}) == 1
