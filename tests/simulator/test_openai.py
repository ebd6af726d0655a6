"""The OpenAI-compatible routes, byte for byte."""

import json

import pytest

from tests.simulator.conftest import small

HELLO = [{"role": "user", "content": "hello"}]
CHAT = "/v1/chat/completions"


@pytest.fixture
async def client(start):
    models = [
        small("ant:1b"),
        small("bee:1b", capabilities=("completion", "thinking", "tools", "vision")),
        "nomic-embed-text:latest",
    ]
    return (await start(models=models))[1]


def events(chunks):
    """The payloads of server-sent events, one in each chunk."""
    assert all(chunk.startswith(b"data: ") and chunk.endswith(b"\n\n") for chunk in chunks)
    return [chunk[6:-2] for chunk in chunks]


async def test_a_stream_of_chat_completions(client):
    """Role with the first content, one finish chunk, usage when asked for, and [DONE]."""
    asked = {"model": "ant:1b", "messages": HELLO, "max_tokens": 3, "stream": True}
    chunks = await client.chunks(CHAT, **asked, stream_options={"include_usage": True})
    *objects, done = events(chunks)
    assert done == b"[DONE]"
    parsed = [json.loads(item) for item in objects]
    assert parsed[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [list(item["choices"][0]["delta"]) for item in parsed[1:3]] == [["content"], ["content"]]
    assert parsed[3]["choices"] == [{"index": 0, "delta": {}, "finish_reason": "length"}]
    assert parsed[4]["choices"] == []
    assert parsed[4]["usage"]["completion_tokens"] == 3
    assert len({(item["id"], item["created"]) for item in parsed}) == 1


async def test_chat_says_what_the_native_route_says(client):
    """It is the same work in other words."""
    _, headers, body = await client.send("POST", CHAT, {"model": "ant:1b", "messages": HELLO})
    answer = json.loads(body)
    assert headers["Content-Type"] == "application/json"
    assert body.endswith(b"}\n")
    assert list(answer) == ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"]
    assert answer["choices"][0]["message"]["content"] == (await client.chat("ant:1b"))["message"]["content"]
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_thinking_is_called_reasoning(client):
    """It comes in its own field, before the content."""
    chunks = await client.chunks(CHAT, model="bee:1b", messages=HELLO, stream=True)
    deltas = [json.loads(item)["choices"][0]["delta"] for item in events(chunks)[:-2]]
    assert deltas[0]["role"] == "assistant"
    assert "reasoning" in deltas[0]
    first_content = next(i for i, delta in enumerate(deltas) if "reasoning" not in delta)
    assert all("content" in delta for delta in deltas[first_content:])


async def test_content_parts_and_images(client):
    """Text parts are joined, images come as data URLs."""
    parts = [
        {"type": "text", "text": "hel"},
        {"type": "text", "text": "lo"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    body = {"model": "bee:1b", "messages": [{"role": "user", "content": parts}]}
    status, _, raw = await client.send("POST", CHAT, body)
    assert status == 200
    assert json.loads(raw)["usage"]["prompt_tokens"] > 256


async def test_an_error_in_a_stream_is_silent(client):
    """One chunk without model and content, then the end, without finish chunk and [DONE]."""
    client.node.faults.error_after_chunks = 2
    chunks = await client.chunks(CHAT, model="ant:1b", messages=HELLO, stream=True)
    last = json.loads(events(chunks)[-1])
    assert len(chunks) == 3
    assert last["model"] == ""
    assert last["choices"][0]["delta"]["content"] == ""


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "message"),
    [
        ("chat/completions", {"model": "owl", "messages": HELLO}, 404, "not_found_error", "model 'owl' not found"),
        ("chat/completions", {"model": "ant:1b"}, 400, "invalid_request_error", "[] is too short - 'messages'"),
        (
            "chat/completions",
            {
                "model": "bee:1b",
                "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y"}}]}],
            },
            400,
            "invalid_request_error",
            "image URLs are not currently supported, please use base64 encoded data instead",
        ),
        (
            "embeddings",
            {"model": "owl", "input": "x"},
            404,
            "not_found_error",
            'model "owl" not found, try pulling it first',
        ),
        ("embeddings", {"model": "nomic-embed-text"}, 400, "invalid_request_error", "invalid input"),
        (
            "embeddings",
            {"model": "nomic-embed-text", "input": [[1]]},
            400,
            "invalid_request_error",
            "invalid input type",
        ),
        ("chat/completions", b"", 400, "invalid_request_error", "EOF"),
    ],
)
async def test_refusals(client, path, body, status, kind, message):
    """The envelope has message, type, param and code."""
    got, _, raw = await client.send("POST", f"/v1/{path}", body)
    assert got == status
    assert json.loads(raw) == {"error": {"message": message, "type": kind, "param": None, "code": None}}


async def test_completions(client):
    """One prompt; with include_usage every chunk has a usage, the last one the real one."""
    asked = {"model": "ant:1b", "prompt": "hello", "max_tokens": 2, "stream": True}
    chunks = await client.chunks("/v1/completions", **asked, stream_options={"include_usage": True})
    *objects, done = events(chunks)
    parsed = [json.loads(item) for item in objects]
    assert done == b"[DONE]"
    assert [item["usage"]["completion_tokens"] for item in parsed] == [0, 0, 0, 2]
    assert "".join(choice["text"] for item in parsed for choice in item["choices"]) == " ".join(
        (await client.post("/api/generate", model="ant:1b", prompt="hello"))["response"].split()[:2]
    )


async def test_the_list_of_models(client):
    """Names with their tags; a name in the path is echoed."""
    listed = await client.get("/v1/models")
    assert [model["id"] for model in listed["data"]] == ["ant:1b", "bee:1b", "nomic-embed-text:latest"]
    assert (await client.get("/v1/models/ANT:1b"))["id"] == "ANT:1b"
    status, _, raw = await client.send("GET", "/v1/models/owl")
    assert (status, json.loads(raw)["error"]["message"]) == (404, "model 'owl:latest' not found")


async def test_a_node_without_models_lists_null(start):
    """`data` is null there, while tags has an empty list."""
    _, client = await start(models=[])
    assert (await client.get("/v1/models")) == {"object": "list", "data": None}
    assert (await client.get("/api/tags")) == {"models": []}
