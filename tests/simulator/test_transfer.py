"""Pull, push, create and blobs."""

import asyncio
import json
from hashlib import sha256

import aiohttp
import pytest

from tests.simulator.conftest import small


@pytest.fixture
async def ant(start):
    return await start(models=[small("ant:1b")], speed=20, download_bytes_per_second=1e9)


async def test_a_pull_reports_its_progress(ant):
    """Manifest, each layer with growing counts, verification, manifest, success; then the model is there."""
    _, client = ant
    lines = await client.lines("/api/pull", model="llama3.2:3b")
    statuses = [line["status"] for line in lines]
    assert statuses[0] == "pulling manifest"
    assert statuses[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    weights = [line for line in lines if line.get("total", 0) > 10**9]
    counts = [line.get("completed", 0) for line in weights]
    assert counts == sorted(counts)
    assert counts[-1] == weights[0]["total"]
    assert len(weights) > 10
    assert (await client.chat("llama3.2:3b"))["done"]


async def test_an_unknown_model_fails_in_the_stream(ant):
    """A 200 whose second line is the error; not streamed it is a 500."""
    _, client = ant
    lines = await client.lines("/api/pull", model="owl")
    assert lines == [{"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}]
    status, headers, body = await client.send("POST", "/api/pull", {"model": "owl", "stream": False})
    assert (status, headers["Content-Type"]) == (500, "application/json")
    assert json.loads(body) == lines[1]


async def test_a_pull_that_is_not_streamed(ant):
    """It ends with success and nothing else."""
    _, client = ant
    asked = {"model": "ant:1b", "stream": False}
    status, headers, body = await client.send("POST", "/api/pull", asked)
    assert (status, headers["Content-Type"], body) == (200, "application/json", b'{"status":"success"}')


async def test_a_pull_goes_on_where_it_was_left(ant):
    """What the last watcher leaves behind is kept for the next pull."""
    node, client = ant
    async with client.session.post(node.base_url + "/api/pull", json={"model": "llama3.2:3b"}) as answer:
        async for line in answer.content:
            if json.loads(line).get("completed", 0) > 10**9:
                break
    lines = await client.lines("/api/pull", model="llama3.2:3b")
    assert lines[1]["completed"] > 10**9


async def test_two_pulls_share_one_download(ant):
    """Together they take as long as one, and one that leaves does not stop the other."""
    node, client = ant
    first = asyncio.create_task(client.lines("/api/pull", model="llama3.2:3b"))
    second = asyncio.create_task(client.lines("/api/pull", model="llama3.2:3b"))
    await node.until(lambda: node.record.requests["/api/pull"] == 2)
    first.cancel()
    assert (await second)[-1] == {"status": "success"}


async def test_a_pull_can_break_like_any_stream(ant):
    """The faults for chunks count its lines too."""
    node, client = ant
    node.faults.set(error_after_chunks=2, error_text="disk full")
    assert (await client.lines("/api/pull", model="llama3.2:3b"))[2] == {"error": "disk full"}
    node.faults.clear()
    node.faults.fail_pull = "no space left on device"
    assert (await client.lines("/api/pull", model="llama3.2:3b"))[1] == {"error": "no space left on device"}


async def test_a_push_reports_its_progress(ant):
    """A model that is not there cannot be pushed."""
    _, client = ant
    assert [line.get("status") for line in await client.lines("/api/push", model="ant:1b")][-2:] == [
        "pushing manifest",
        "success",
    ]
    lines = await client.lines("/api/push", model="owl")
    assert lines[:2] == [{"status": "retrieving manifest"}, {"status": "couldn't retrieve manifest"}]
    assert "error" in lines[2]


async def test_a_model_made_from_another(ant):
    """It has its own digest, the same weights, and the options of its Modelfile."""
    node, client = ant
    lines = await client.lines("/api/create", model="wise", **{"from": "ant:1b"}, parameters={"num_ctx": 2048})
    assert lines[0]["status"].startswith("using existing layer sha256:")
    assert [line["status"] for line in lines[-2:]] == ["writing manifest", "success"]
    await client.chat("wise")
    assert node.record.loads[-1].num_ctx == 2048
    digests = {model["name"]: model["digest"] for model in (await client.get("/api/tags"))["models"]}
    assert digests["wise:latest"] != digests["ant:1b"]


async def test_blobs(ant):
    """Stored once, known then, and checked against their digest."""
    _, client = ant
    data = b"GGUF" + b"x" * 100_000
    digest = f"sha256:{sha256(data).hexdigest()}"
    path = f"/api/blobs/{digest}"
    assert (await client.send("HEAD", path))[0] == 404
    status, headers, _ = await client.send("POST", path.replace(":", "%3A"), data)
    assert (status, "Content-Type" in headers) == (201, False)
    assert (await client.send("POST", path.replace(":", "-"), data))[0] == 200
    assert (await client.send("HEAD", path))[0] == 200
    wrong = "sha256:" + "0" * 64
    status, _, body = await client.send("POST", f"/api/blobs/{wrong}", data)
    assert (status, json.loads(body)["error"]) == (400, f'digest mismatch, expected "{wrong}", got "{digest}"')
    assert (await client.send("POST", "/api/blobs/x", data))[2] == b'{"error":"invalid digest format"}'


async def test_a_model_made_from_a_file(ant):
    """Its blob must be on this node."""
    _, client = ant
    data = b"GGUF" + b"y" * 1000
    digest = f"sha256:{sha256(data).hexdigest()}"
    lines = await client.lines("/api/create", model="new", files={"new.gguf": digest})
    assert lines[0] == {"status": "parsing GGUF"}
    assert "no such file or directory" in lines[1]["error"]
    await client.send("POST", f"/api/blobs/{digest}", data)
    assert (await client.lines("/api/create", model="new", files={"new.gguf": digest}))[-1] == {"status": "success"}
    assert (await client.chat("new"))["done"]


async def test_a_pull_is_cut_in_the_middle_of_the_weights(ant):
    """The connection ends without the last chunk, at the part asked for, and the next pull goes on from there."""
    node, client = ant
    node.faults.set(cut_pull_after=0.4, times=1)
    lines = []
    with pytest.raises(aiohttp.ClientPayloadError):
        async with client.session.post(node.base_url + "/api/pull", json={"model": "llama3.2:3b"}) as answer:
            lines += [json.loads(line) async for line in answer.content]
    rest = await client.lines("/api/pull", model="llama3.2:3b")
    assert rest[1]["completed"] == pytest.approx(rest[1]["total"] * 0.4, rel=0.01)
    assert rest[-1] == {"status": "success"}


@pytest.mark.parametrize("part", [0.0, 1.0])
async def test_a_pull_that_is_not_streamed_is_cut_without_an_answer(ant, part):
    """Every time, until the switch is cleared or the weights are all there."""
    node, client = ant
    node.faults.cut_pull_after = part
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await client.post("/api/pull", model="llama3.2:3b")
    node.faults.clear()
    assert (await client.post("/api/pull", model="llama3.2:3b")) == {"status": "success"}


async def test_pulls_can_be_slow(start):
    """Three times the time for the same bytes."""
    seconds = []
    for slow in (1.0, 3.0):
        node, client = await start(models=[], speed=20, download_bytes_per_second=1e9)
        node.faults.slow_pull = slow
        began = node.clock.now()
        await client.post("/api/pull", model="llama3.2:3b")
        seconds.append(node.clock.now() - began)
    assert seconds[1] > 2 * seconds[0]


async def test_create_and_delete_can_fail(ant):
    """500 with the text, and nothing is changed."""
    node, client = ant
    node.faults.set(fail_create="disk full", fail_delete="read-only file system")
    status, headers, body = await client.send("POST", "/api/create", {"model": "x", "from": "ant:1b"})
    assert (status, headers["Content-Type"], body) == (500, "application/json", b'{"error":"disk full"}')
    status, _, body = await client.send("DELETE", "/api/delete", {"model": "ant:1b"})
    assert (status, body) == (500, b'{"error":"read-only file system"}')
    assert [model["name"] for model in (await client.get("/api/tags"))["models"]] == ["ant:1b"]
