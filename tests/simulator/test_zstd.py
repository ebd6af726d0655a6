"""Bodies that are packed with zstd."""

import json

import pytest
from backports import zstd

from simulator.passthrough import MOST_UNPACKED_BYTES
from tests.simulator.conftest import small

PACKED = {"Content-Encoding": "zstd"}
HELLO = [{"role": "user", "content": "hello"}]
CHAT = {"model": "ant:1b", "messages": HELLO}


@pytest.fixture
async def client(start):
    return (await start(models=[small("ant:1b", capabilities=("completion", "embedding"))]))[1]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", CHAT),
        ("completions", {"model": "ant:1b", "prompt": "hello"}),
        ("embeddings", {"model": "ant:1b", "input": "hello"}),
        ("responses", {"model": "ant:1b", "input": "hello"}),
        ("messages", {**CHAT, "max_tokens": 5}),
    ],
)
async def test_the_compatible_routes_unpack_zstd(client, path, body):
    """The record then has the size that came over the wire."""
    raw = zstd.compress(json.dumps(body).encode())
    assert (await client.send("POST", f"/v1/{path}", raw, headers=PACKED))[0] == 200
    assert client.node.record.models_for(f"/v1/{path}") == ["ant:1b"]
    assert client.node.record.body_bytes[f"/v1/{path}"] == len(raw)


async def test_several_frames_are_one_body(client):
    """As the format has it."""
    raw = json.dumps(CHAT).encode()
    packed = zstd.compress(raw[:10]) + zstd.compress(raw[10:])
    assert (await client.send("POST", "/v1/chat/completions", packed, headers=PACKED))[0] == 200


@pytest.mark.parametrize(
    ("path", "coding", "body"),
    [
        ("/api/chat", "zstd", zstd.compress(json.dumps(CHAT).encode())),
        ("/v1/chat/completions", "gzip", b"\x1f\x8b\x08"),
    ],
)
async def test_nothing_else_is_unpacked(client, path, coding, body):
    """The JSON parser sees what came, and says so."""
    status, _, raw = await client.send("POST", path, body, headers={"Content-Encoding": coding})
    assert status == 400
    assert b"looking for beginning of value" in raw


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (zstd.compress(b" " * (MOST_UNPACKED_BYTES + 1)), "http: request body too large"),
        (b"{}", "invalid input: magic number mismatch"),
        (zstd.compress(json.dumps(CHAT).encode())[:-3], "unexpected EOF"),
        (zstd.compress(b""), "EOF"),
    ],
)
async def test_what_cannot_be_unpacked(client, body, text):
    """It is a 400 in the envelope of the route."""
    status, _, raw = await client.send("POST", "/v1/chat/completions", body, headers=PACKED)
    assert (status, json.loads(raw)["error"]["message"]) == (400, text)


async def test_the_limit_is_twenty_mebibytes(client):
    """As much is still read."""
    raw = json.dumps(CHAT).encode()
    packed = zstd.compress(raw + b" " * (MOST_UNPACKED_BYTES - len(raw)))
    assert (await client.send("POST", "/v1/chat/completions", packed, headers=PACKED))[0] == 200
