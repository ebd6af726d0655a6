"""Embeddings."""

import base64
import json
import math
import struct

import pytest

from tests.simulator.conftest import small

NOMIC = "nomic-embed-text"


@pytest.fixture
async def client(start):
    return (await start(models=["nomic-embed-text:latest", small("ant:1b")]))[1]


def cosine(left, right):
    return sum(a * b for a, b in zip(left, right, strict=True))


async def test_vectors_are_normalised_and_in_order(client):
    """One vector of length 1 for each input, the same for the same text wherever it stands."""
    answer = await client.post("/api/embed", model=NOMIC, input=["one", "two", "one"])
    assert list(answer) == ["model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"]
    first, second, third = answer["embeddings"]
    assert len(first) == 768
    assert math.isclose(cosine(first, first), 1.0, rel_tol=1e-5)
    assert first == third != second


async def test_every_node_has_the_same_vectors(client, start):
    """They are a pure function of model and text."""
    _, other = await start("cpu-32", models=["nomic-embed-text:latest"])
    asked = {"model": NOMIC, "input": "the same text"}
    assert (await client.post("/api/embed", **asked))["embeddings"] == (await other.post("/api/embed", **asked))[
        "embeddings"
    ]


async def test_texts_with_words_in_common_are_near(client):
    """Similarity means something, so that demos can search."""
    inputs = ["bees make honey in summer", "honey is made by bees", "the train leaves at noon"]
    bees, honey, train = (await client.post("/api/embed", model=NOMIC, input=inputs))["embeddings"]
    assert cosine(bees, honey) > cosine(bees, train) + 0.2


async def test_dimensions_cut_and_normalise_again(client):
    """Fewer numbers, again of length 1."""
    [short] = (await client.post("/api/embed", model=NOMIC, input="one", dimensions=10))["embeddings"]
    assert len(short) == 10
    assert math.isclose(cosine(short, short), 1.0, rel_tol=1e-5)


async def test_no_input_loads(client):
    """An empty input answers an empty list, and the model is in memory."""
    assert await client.post("/api/embed", model=NOMIC, input="") == {"model": NOMIC, "embeddings": []}
    assert await client.post("/api/embeddings", model=NOMIC, prompt="") == {"embedding": []}
    assert [model["name"] for model in (await client.get("/api/ps"))["models"]] == ["nomic-embed-text:latest"]


async def test_the_older_route_does_not_normalise(client):
    """It points in the same direction."""
    raw = (await client.post("/api/embeddings", model=NOMIC, prompt="one"))["embedding"]
    [unit] = (await client.post("/api/embed", model=NOMIC, input="one"))["embeddings"]
    length = math.sqrt(cosine(raw, raw))
    assert length > 1.5
    assert math.isclose(cosine(raw, unit), length, rel_tol=1e-5)


async def test_openai_embeddings_as_floats_and_base64(client):
    """Base64 is the little-endian 32-bit floats."""
    asked = {"model": NOMIC, "input": ["one", "two"]}
    floats = await client.post("/v1/embeddings", **asked)
    packed = await client.post("/v1/embeddings", **asked, encoding_format="base64")
    raw = base64.b64decode(packed["data"][1]["embedding"])
    numbers = struct.unpack("<768f", raw)
    assert [struct.unpack("<f", struct.pack("<f", n))[0] for n in floats["data"][1]["embedding"]] == list(numbers)
    assert floats["usage"] == {"prompt_tokens": 2, "total_tokens": 2}


async def test_a_chat_model_does_not_embed(client):
    """The engine's own answer is the error, with its status; the older route makes it a 500."""
    status, _, body = await client.send("POST", "/api/embed", {"model": "ant:1b", "input": "x"})
    assert status == 501
    assert "does not support embeddings" in json.loads(body)["error"]
    status, _, _ = await client.send("POST", "/api/embeddings", {"model": "ant:1b", "prompt": "x"})
    assert status == 500
