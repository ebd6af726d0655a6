"""A client cannot tell the gateway from one node: status, type and body are the node's own."""

import json

import httpx
import pytest

from tests.fakes.address import CHAT, MESSAGES, address, sim

#: What differs from run to run on one and the same node.
VARYING = {
    "created_at",
    "total_duration",
    "load_duration",
    "prompt_eval_duration",
    "eval_duration",
    "_sollol_routing",
    "created",
    "id",
}


def settled(value):
    """A JSON value without what varies, field order kept."""
    if isinstance(value, dict):
        return [(name, settled(member)) for name, member in value.items() if name not in VARYING]
    return [settled(member) for member in value] if isinstance(value, list) else value


def objects(answer: httpx.Response):
    """The answer's JSON objects in order, whatever the framing; what is no JSON stays text."""
    found = []
    for line in answer.text.split("\n"):
        bare = line.removeprefix("data: ")
        try:
            found.append(settled(json.loads(bare)))
        except ValueError:
            found.append(bare)
    return found


CASES = {
    "chat": ("/api/chat", {"model": CHAT, "messages": MESSAGES}),
    "chat at once": ("/api/chat", {"model": CHAT, "messages": MESSAGES, "stream": False}),
    "chat, other spelling": ("/api/chat", {"model": "Llama3.2:3B", "messages": MESSAGES, "stream": False}),
    "chat to load": ("/api/chat", {"model": CHAT, "messages": []}),
    "chat with options": ("/api/chat", {"model": CHAT, "messages": MESSAGES, "options": {"num_predict": 3, "seed": 1}}),
    "chat, bad option": ("/api/chat", {"model": CHAT, "messages": MESSAGES, "options": {"num_ctx": "x"}}),
    "chat, wrong type": ("/api/chat", {"model": CHAT, "messages": 7}),
    "chat without a model": ("/api/chat", {"messages": MESSAGES}),
    "chat, unknown model": ("/api/chat", {"model": "nobody", "messages": MESSAGES}),
    "chat with an embedding model": ("/api/chat", {"model": "nomic-embed-text", "messages": MESSAGES}),
    "generate": ("/api/generate", {"model": CHAT, "prompt": "Why?"}),
    "generate at once": ("/api/generate", {"model": CHAT, "prompt": "Why?", "stream": False}),
    "generate to load": ("/api/generate", {"model": CHAT}),
    "generate to unload": ("/api/generate", {"model": CHAT, "keep_alive": "0s"}),
    "generate, unknown model": ("/api/generate", {"model": "nobody", "prompt": "Why?"}),
    "generate, bad name": ("/api/generate", {"model": "a b c", "prompt": "Why?"}),
    "generate, bad duration": ("/api/generate", {"model": CHAT, "prompt": "Why?", "keep_alive": "300"}),
    "embed": ("/api/embed", {"model": "nomic-embed-text", "input": ["a", "b"]}),
    "embed nothing": ("/api/embed", {"model": "nomic-embed-text", "input": []}),
    "embed, wrong type": ("/api/embed", {"model": "nomic-embed-text", "input": 5}),
    "embed, unknown model": ("/api/embed", {"model": "nobody", "input": "a"}),
    "embeddings": ("/api/embeddings", {"model": "nomic-embed-text", "prompt": "a"}),
    "v1 chat": ("/v1/chat/completions", {"model": CHAT, "messages": MESSAGES}),
    "v1 chat stream": ("/v1/chat/completions", {"model": CHAT, "messages": MESSAGES, "stream": True}),
    "v1 chat stream, usage": (
        "/v1/chat/completions",
        {"model": CHAT, "messages": MESSAGES, "stream": True, "stream_options": {"include_usage": True}},
    ),
    "v1 chat, no messages": ("/v1/chat/completions", {"model": CHAT, "messages": []}),
    "v1 chat, unknown model": ("/v1/chat/completions", {"model": "nobody", "messages": MESSAGES}),
    "v1 completions": ("/v1/completions", {"model": CHAT, "prompt": "Why?"}),
    "v1 completions stream": ("/v1/completions", {"model": CHAT, "prompt": "Why?", "stream": True}),
    "v1 embeddings": ("/v1/embeddings", {"model": "nomic-embed-text", "input": ["a", "b"]}),
    "v1 embeddings, base64": (
        "/v1/embeddings",
        {"model": "nomic-embed-text", "input": "a", "encoding_format": "base64"},
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_the_answer_is_the_nodes(case):
    """Status, content type and every object are what the node itself answers."""
    path, body = CASES[case]
    async with address(sim("ant")) as one, one.client() as client:
        direct = await client.post(f"{one.nodes['ant'].base_url}{path}", json=body)
        through = await client.post(path, json=body)
        assert through.status_code == direct.status_code
        assert through.headers.get("content-type") == direct.headers.get("content-type")
        assert objects(through) == objects(direct)


BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b'{"model": 5}',
    b"\xff\xfe",
    b"{}",
]


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/embed", "/v1/chat/completions", "/v1/embeddings"])
@pytest.mark.parametrize("body", BODIES)
async def test_an_odd_body_is_refused_in_the_nodes_words(path, body):
    """What the gateway cannot read is the node's to judge."""
    async with address(sim("ant")) as one, one.client() as client:
        direct = await client.post(f"{one.nodes['ant'].base_url}{path}", content=body)
        through = await client.post(path, content=body)
        assert (through.status_code, through.content) == (direct.status_code, direct.content)
        assert through.headers.get("content-type") == direct.headers.get("content-type")


async def test_trailing_bytes_and_member_case_are_read_as_go_does():
    """Only the first JSON value counts, and names match in any case."""
    body = json.dumps({"Model": CHAT, "MESSAGES": MESSAGES, "Stream": False}).encode() + b"}} trailing"
    async with address(sim("ant")) as one, one.client() as client:
        answer = await client.post(
            "/api/chat", content=body, headers={"content-type": "application/x-www-form-urlencoded"}
        )
        assert answer.status_code == 200
        assert answer.json()["_sollol_routing"]["host"] == "ant"


async def test_each_object_is_a_chunk_of_its_own():
    """Objects are neither joined nor split on their way, for parsers that take one chunk for one object."""
    async with address(sim("ant", speed=5)) as one, one.client() as client:
        async with client.stream("POST", "/api/chat", json={"model": CHAT, "messages": MESSAGES}) as answer:
            chunks = [chunk async for chunk in answer.aiter_raw()]
        assert len(chunks) > 20
        assert all(json.loads(line) for chunk in chunks for line in chunk.splitlines())
        assert all(chunk.endswith(b"\n") for chunk in chunks)
