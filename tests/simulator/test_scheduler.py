"""What is loaded, when, and what has to go for it."""

import asyncio

import pytest

from tests.simulator.conftest import small


async def resident(client):
    return [model["name"] for model in (await client.get("/api/ps"))["models"]]


def evicted(node):
    return [(eviction.model, eviction.reason) for eviction in node.record.evictions]


async def test_a_model_shows_in_ps_only_after_its_load(start):
    """While a model loads nothing is resident, and version still answers."""
    node, client = await start(models=[small("ant:1b")])
    node.faults.stall_load = True
    waiting = asyncio.create_task(client.chat("ant:1b"))
    await node.until(lambda: node.scheduler.loading == "ant:1b")
    assert await resident(client) == []
    assert (await client.get("/api/version")) == {"version": "0.33.0"}
    node.faults.stall_load = False
    await waiting
    assert await resident(client) == ["ant:1b"]


async def test_a_loaded_model_is_never_busy(start):
    """Requests for a resident model wait for slots without limit, and none gets a 503."""
    node, client = await start(models=[small("ant:1b")], parallel=1, max_queue=1)
    await client.chat("ant:1b")
    answers = await asyncio.gather(*(client.chat("ant:1b", f"hello {i}") for i in range(12)))
    assert all(answer["done"] for answer in answers)
    assert node.record.busy_refusals == 0


async def test_the_load_queue_is_bounded(start):
    """One request is loading and max_queue wait; the next gets a 503 with the exact text."""
    node, client = await start(models=[small("ant:1b")], max_queue=2)
    node.faults.stall_load = True
    waiting = [asyncio.create_task(client.chat("ant:1b"))]
    await node.until(lambda: node.scheduler.loading)
    waiting += [asyncio.create_task(client.chat("ant:1b")) for _ in range(2)]
    await node.until(lambda: node.scheduler.queued == 2)
    status, _, body = await client.send("POST", "/api/generate", {"model": "ant:1b", "prompt": "x"})
    assert status == 503
    assert body == b'{"error":"server busy, please try again.  maximum pending requests exceeded"}'
    node.faults.stall_load = False
    assert all(answer["done"] for answer in await asyncio.gather(*waiting))


async def test_a_resident_model_is_served_during_a_load(start):
    """A load blocks the loop, and not those who need nothing from it."""
    node, client = await start(models=[small("ant:1b"), small("bee:1b")])
    await client.chat("ant:1b")
    node.faults.stall_load = True
    loading = asyncio.create_task(client.chat("bee:1b"))
    await node.until(lambda: node.scheduler.loading == "bee:1b")
    assert (await client.chat("ant:1b"))["done"]
    assert node.scheduler.loading == "bee:1b"
    loading.cancel()


async def test_the_shortest_keep_alive_goes_first(start):
    """The victim is the idle runner with the shortest session, not the one used longest ago."""
    node, client = await start(models=[small(f"{name}:1b") for name in ("ant", "bee", "cat")], max_loaded=2)
    await client.chat("ant:1b", keep_alive="2h")
    await client.chat("bee:1b", keep_alive="1h")
    await client.chat("cat:1b")
    assert evicted(node) == [("bee:1b", "room")]
    assert set(await resident(client)) == {"ant:1b", "cat:1b"}


async def test_a_busy_runner_is_spared_when_another_is_idle(start):
    """The first idle one in the order goes, also when a busy one stands before it."""
    node, client = await start(models=[small(f"{name}:1b") for name in ("ant", "bee", "cat")], max_loaded=2)
    await client.chat("bee:1b", keep_alive="2h")
    await client.chat("ant:1b", keep_alive="1h")
    node.faults.stall_after_chunks = 1
    busy = asyncio.create_task(client.lines("/api/chat", model="ant:1b", messages=[{"role": "user", "content": "x"}]))
    await node.until(lambda: node.record.tokens and node.record.running["ant:1b"])
    node.faults.stall_after_chunks = 10_000
    cat = asyncio.create_task(client.chat("cat:1b"))
    await node.until(lambda: evicted(node))
    assert evicted(node) == [("bee:1b", "room")]
    node.faults.clear()
    await asyncio.gather(busy, cat)


async def test_a_busy_victim_is_drained(start):
    """When all are busy the first in the order is marked, finishes its request, and then goes."""
    node, client = await start(models=[small("ant:1b"), small("bee:1b")], max_loaded=1)
    node.faults.stall_after_chunks = 1
    busy = asyncio.create_task(client.lines("/api/chat", model="ant:1b", messages=[{"role": "user", "content": "x"}]))
    await node.until(lambda: node.record.tokens)
    bee = asyncio.create_task(client.chat("bee:1b"))
    await node.until(lambda: node.record.in_flight["bee:1b"])
    assert evicted(node) == []
    node.faults.clear()
    assert (await busy)[-1]["done"]
    assert (await bee)["done"]
    assert evicted(node) == [("ant:1b", "room")]


async def test_models_share_memory_up_to_four_fifths_of_what_is_free(start):
    """A model that needs more than 80% of the free memory evicts; the first one may spill over."""
    models = [small("ant:1b", 10), small("bee:1b", 9), small("cat:1b", 30)]
    node, client = await start(models=models, ram_bytes=64 * 10**9)
    await client.chat("ant:1b")
    await client.chat("bee:1b")
    assert len(await resident(client)) == 2
    await client.chat("cat:1b")
    [row] = (await client.get("/api/ps"))["models"]
    assert row["name"] == "cat:1b"
    assert row["size_vram"] == node.profile.vram_bytes < row["size"]


async def test_another_num_ctx_reloads(start):
    """An explicit context length that differs makes the runner load again; the same one does not."""
    node, client = await start(models=[small("ant:1b")])
    for num_ctx in (8192, 8192, 2048):
        await client.chat("ant:1b", options={"num_ctx": num_ctx})
    assert [load.num_ctx for load in node.record.loads] == [8192, 2048]
    assert evicted(node) == [("ant:1b", "reload")]


async def test_the_automatic_num_ctx_spelled_out_does_not_reload(start):
    """What counts is the length that was loaded; it is clamped to what the model was trained on."""
    node, client = await start(models=[small("ant:1b", train_context=4096)])
    await client.chat("ant:1b")
    await client.chat("ant:1b", options={"num_ctx": 4096})
    await client.chat("ant:1b", options={"num_ctx": 100_000})
    assert len(node.record.loads) == 1


async def test_idle_models_expire(start):
    """A keep_alive of ten simulated seconds is over in a fraction of a real one."""
    node, client = await start(models=[small("ant:1b")])
    await client.chat("ant:1b", keep_alive="10s")
    await node.until(lambda: not node.scheduler.runners)
    assert evicted(node) == [("ant:1b", "expired")]


async def test_keep_alive_zero_unloads_at_once(start):
    """With a prompt, keep_alive 0 means: go when idle."""
    _, client = await start(models=[small("ant:1b")])
    await client.chat("ant:1b", keep_alive=0)
    assert await resident(client) == []


async def test_keep_alive_forever_shows_the_far_future(start):
    """A negative keep_alive lies some 292 years ahead."""
    _, client = await start(models=[small("ant:1b")])
    await client.chat("ant:1b", keep_alive=-1)
    [row] = (await client.get("/api/ps"))["models"]
    assert int(row["expires_at"][:4]) > 2300


async def test_two_names_of_one_file_share_a_runner(start):
    """A copy has the same weights, and so the same runner under the name that loaded it."""
    node, client = await start(models=[small("ant:1b")])
    await client.send("POST", "/api/copy", {"source": "ant:1b", "destination": "bee"})
    await client.chat("ant:1b")
    await client.chat("bee")
    assert await resident(client) == ["ant:1b"]
    assert len(node.record.loads) == 1


async def test_load_and_unload_requests(start):
    """An empty prompt loads; with keep_alive 0 it unloads, and both answer one JSON object."""
    _, client = await start(models=[small("ant:1b")])
    status, headers, body = await client.send("POST", "/api/generate", {"model": "ant:1b"})
    assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert body.endswith(b'"response":"","done":true,"done_reason":"load"}')
    assert await resident(client) == ["ant:1b"]
    gone = await client.post("/api/chat", model="ant:1b", messages=[], keep_alive="0s")
    assert gone["done_reason"] == "unload"
    assert gone["message"] == {"role": "assistant", "content": ""}
    assert await resident(client) == []


async def test_a_client_that_leaves_aborts_its_own_load_only(start):
    """The load that nobody waits for ends, and the next one in the queue starts its own."""
    node, client = await start(models=[small("ant:1b")])
    node.faults.stall_load = True
    first = asyncio.create_task(client.chat("ant:1b"))
    await node.until(lambda: node.scheduler.loading)
    second = asyncio.create_task(client.chat("ant:1b"))
    await node.until(lambda: node.scheduler.queued == 1)
    first.cancel()
    await node.until(lambda: not node.scheduler.queued)
    node.faults.stall_load = False
    assert (await second)["done"]
    assert [load.failed for load in node.record.loads] == [False]


async def test_a_failed_load_is_a_500(start):
    """The text of the failure is the answer, and the next try may succeed."""
    node, client = await start(models=[small("ant:1b")])
    node.faults.set(fail_load="llama-server process has terminated: signal: killed", times=1)
    status, _, body = await client.send("POST", "/api/generate", {"model": "ant:1b", "prompt": "x"})
    assert (status, body) == (500, b'{"error":"llama-server process has terminated: signal: killed"}')
    assert (await client.chat("ant:1b"))["done"]


async def test_a_load_out_of_memory_is_tried_once_more(start):
    """The second attempt has a smaller automatic context; a second failure is a 500."""
    node, client = await start(models=[small("ant:1b")], context_length=32_768)
    node.faults.load_memory_errors = 1
    await client.chat("ant:1b")
    assert node.record.loads[-1].num_ctx == 4096
    await client.chat("ant:1b", keep_alive=0)
    node.faults.load_memory_errors = 2
    assert "out of memory" in (await client.chat("ant:1b"))["error"]


@pytest.mark.parametrize(("options", "text"), [({"num_ctx": "big"}, "integer"), ({"temperature": "hot"}, "float32")])
async def test_options_of_the_wrong_type_are_a_500(start, options, text):
    """Ollama answers 500, not 400."""
    _, client = await start(models=[small("ant:1b")])
    status, _, body = await client.send("POST", "/api/chat", {"model": "ant:1b", "messages": [{}], "options": options})
    [name] = options
    assert (status, body.decode()) == (500, f'{{"error":"option \\"{name}\\" must be of type {text}"}}')
