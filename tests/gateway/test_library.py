"""Models on many nodes, as if there were one: pull, create, copy, delete, push, blobs, and which nodes are meant."""

import asyncio
import hashlib
import json

import pytest
from aiohttp import web

from routing.gateway.settings import GatewaySettings
from simulator.models import CATALOGUE
from tests.fakes.address import CHAT, MESSAGES, address, sim
from tests.fakes.echo import echo_node

BLOB = b"GGUF" + b"a model's weights" * 1000
DIGEST = "sha256:" + hashlib.sha256(BLOB).hexdigest()
TO_BEE = {"x-sollol-nodes": "bee"}


def lines_of(answer):
    return [json.loads(line) for line in answer.text.splitlines()]


def has(one, model=CHAT):
    """The names of the nodes that have a model on disk."""
    return [name for name, node in one.nodes.items() if node.library.find(model)]


def empty(*names, **more):
    """Nodes with one small model, to which others can be pulled quickly."""
    return [sim(name, models=["nomic-embed-text:latest"], speed=100, **more) for name in names]


async def test_a_pull_reaches_every_node_and_is_told_as_one():
    """One line for each step, bars that tell of the slowest, success when all have it; then it can be used at once."""
    async with address(*empty("ant", "bee", "cat")) as one, one.client() as client:
        one.nodes["cat"].faults.slow_pull = 3.0
        told = lines_of(await client.post("/api/pull", json={"model": CHAT}))
        assert has(one) == ["ant", "bee", "cat"]
        statuses = [line["status"] for line in told]
        assert statuses[0] == "pulling manifest"
        assert statuses[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
        weights = [line for line in told if line.get("total", 0) > 10**9]
        assert [w.get("completed", 0) for w in weights] == sorted(w.get("completed", 0) for w in weights)
        assert weights[-1]["completed"] == weights[-1]["total"]
        assert (await client.post("/api/chat", json={"model": CHAT, "messages": MESSAGES})).status_code == 200


async def test_a_pull_of_one_node_is_that_nodes_own_stream():
    """With one node there is nothing to merge."""
    async with address(*empty("ant")) as one, one.client() as client:
        unknown = {"model": "owl"}
        direct = await client.post(f"{one.nodes['ant'].base_url}/api/pull", json=unknown)
        through = await client.post("/api/pull", json=unknown)
        assert (through.status_code, through.content) == (direct.status_code, direct.content)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_pull_of_an_unknown_model_looks_as_on_one_node(stream):
    """The manifest, then the error; not streamed a 500."""
    async with address(*empty("ant", "bee")) as one, one.client() as client:
        unknown = {"model": "owl", "stream": stream}
        direct = await client.post(f"{one.nodes['ant'].base_url}/api/pull", json=unknown)
        through = await client.post("/api/pull", json=unknown)
        assert (through.status_code, through.content) == (direct.status_code, direct.content)
        assert through.headers["content-type"] == direct.headers["content-type"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_node_that_fails_is_told_and_the_others_finish(stream):
    """The error names the node that failed and those that succeeded."""
    async with address(*empty("ant", "bee")) as one, one.client() as client:
        one.nodes["bee"].faults.fail_pull = "no space left on device"
        answer = await client.post("/api/pull", json={"model": CHAT, "stream": stream})
        error = lines_of(answer)[-1]["error"]
        assert error == "bee: no space left on device; succeeded on ant"
        assert (answer.status_code, has(one)) == (200 if stream else 500, ["ant"])


async def test_a_pull_whose_connection_breaks_goes_on():
    """What a node has is kept there, so the pull is begun again where it was."""
    async with address(*empty("ant", "bee")) as one, one.client() as client:
        one.nodes["bee"].faults.cut_pull_after = 0.5
        one.nodes["bee"].faults.times = 1
        assert lines_of(await client.post("/api/pull", json={"model": CHAT}))[-1] == {"status": "success"}
        assert (one.asked("bee", "/api/pull"), has(one)) == (2, ["ant", "bee"])


async def test_a_client_that_leaves_a_pull_ends_it_on_all_nodes():
    """Nobody downloads for nobody."""
    nodes = empty("ant", "bee", download_bytes_per_second=1e6)
    async with address(*nodes) as one, one.client() as client:
        async with client.stream("POST", "/api/pull", json={"model": CHAT}) as answer:
            await anext(answer.aiter_lines())
        await one.until(lambda: all(node.record.aborted for node in nodes))


@pytest.mark.parametrize(
    ("asked", "nodes"),
    [
        ({}, ["ant", "cat"]),
        ({"headers": {"x-sollol-nodes": "all"}}, ["ant", "bee", "cat"]),
        ({"headers": {"x-sollol-nodes": "Bee, cat"}}, ["bee", "cat"]),
        ({"headers": {"x-sollol-nodes": "rack=a1"}}, ["ant", "bee"]),
        ({"headers": {"x-sollol-nodes": "rack=a1,cat"}}, ["ant", "bee", "cat"]),
        ({"field": ["cat"]}, ["cat"]),
        ({"field": "bee"}, ["bee"]),
    ],
)
async def test_the_nodes_can_be_named(asked, nodes):
    """By name, by label, all, or, without a word, those in whose memory the model fits."""
    async with address(*empty("ant"), *empty("bee", profile="gpu-8gb"), *empty("cat", profile="cpu-32")) as one:
        for name in ("ant", "bee"):
            one.operate(name, labels={"rack": "a1"})
        one.nodes["ant"].library.install(CATALOGUE["qwen2.5:14b"], 0.0)
        await one.gateway.targets.changed(one.gateway.targets.used)
        async with one.client() as client:
            body = {"model": "qwen2.5:14b"} | ({"sollol_nodes": asked["field"]} if "field" in asked else {})
            answer = await client.post("/api/pull", json=body, headers=asked.get("headers", {}))
            assert answer.headers["x-sollol-nodes"].split(",") == nodes
            assert set(has(one, "qwen2.5:14b")) == {"ant", *nodes}


@pytest.mark.parametrize("nodes", ["dog", "rack=b2", "ant,dog"])
async def test_a_node_that_does_not_exist_cannot_be_named(nodes):
    """A clear 400 that tells which there are; nothing is pulled."""
    async with address(*empty("ant", "bee")) as one, one.client() as client:
        answer = await client.post("/api/pull", json={"model": CHAT}, headers={"x-sollol-nodes": nodes})
        assert answer.status_code == 400
        assert "ant, bee" in answer.json()["error"]
        assert has(one) == []


async def test_a_setting_names_the_default():
    """Where new models go if a request does not say."""
    settings = GatewaySettings(poll=0.2, model_nodes="bee")
    async with address(*empty("ant", "bee"), settings=settings) as one, one.client() as client:
        await client.post("/api/pull", json={"model": CHAT})
        assert has(one) == ["bee"]


async def test_a_delete_reaches_every_holder():
    """Gone everywhere, from the lists too; who never had it is not asked."""
    async with address(sim("ant"), sim("bee"), *empty("cat")) as one, one.client() as client:
        answer = await client.request("DELETE", "/api/delete", json={"model": CHAT})
        assert (answer.status_code, answer.content, has(one)) == (200, b"", [])
        assert "content-type" not in answer.headers
        assert one.asked("cat", "/api/delete") == 0
        assert CHAT not in [model["name"] for model in (await client.get("/api/tags")).json()["models"]]


async def test_a_delete_that_fails_somewhere_has_failed():
    """The failing node's status and words, although another has deleted it."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        one.nodes["bee"].faults.fail_delete = "disk is read-only"
        answer = await client.request("DELETE", "/api/delete", json={"model": CHAT})
        assert (answer.status_code, answer.json(), has(one)) == (500, {"error": "disk is read-only"}, ["bee"])


async def test_a_delete_on_named_nodes_leaves_the_others():
    """Only where the request says."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        await client.request("DELETE", "/api/delete", json={"model": CHAT}, headers=TO_BEE)
        assert has(one) == ["ant"]


async def test_a_node_that_lost_a_model_is_no_failure_of_a_delete():
    """Its list was old, and what was to be gone is gone."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        bee = one.nodes["bee"]
        bee.library.remove(bee.library.find(CHAT))
        assert (await client.request("DELETE", "/api/delete", json={"model": CHAT})).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/api/delete", {"model": "owl"}),
        ("DELETE", "/api/delete", {}),
        ("DELETE", "/api/delete", {"model": "a b"}),
        ("DELETE", "/api/delete", [1]),
        ("POST", "/api/copy", {"source": "owl", "destination": "x"}),
        ("POST", "/api/copy", {"source": CHAT, "destination": "a b"}),
        ("POST", "/api/copy", {"destination": "x"}),
        ("POST", "/api/push", {"model": "owl"}),
        ("POST", "/api/push", {"model": ""}),
        ("POST", "/api/pull", {"model": "a b"}),
        ("POST", "/api/pull", {}),
        ("POST", "/api/create", {"model": "x"}),
        ("POST", "/api/create", {"model": "", "from": CHAT}),
        ("POST", "/api/create", {"model": "x", "files": {"a.gguf": "sha256:12"}}),
        ("POST", "/api/create", {"model": "x", "files": {"a.txt": DIGEST}}),
        ("POST", "/api/create", {"model": "x", "files": {"a.gguf": DIGEST}}),
        ("POST", "/api/show", {"model": "owl"}),
        ("POST", "/api/show", {}),
        ("POST", "/api/me", {}),
        ("POST", "/api/signout", {}),
        ("DELETE", "/api/user/keys/abc", {}),
        ("GET", "/api/status", None),
        ("GET", "/api/experimental/model-recommendations", None),
        ("POST", "/api/experimental/web_search", {"query": "ants"}),
        ("GET", "/api/newer/route", None),
    ],
)
async def test_what_is_wrong_is_told_in_a_nodes_words(method, path, body):
    """Status, type and body are those of one node, with one node behind the address and with two."""
    for nodes in ([sim("ant")], [sim("ant"), sim("bee")]):
        async with address(*nodes) as one, one.client() as client:
            direct = await client.request(method, f"{one.nodes['ant'].base_url}{path}", json=body)
            through = await client.request(method, path, json=body)
            assert (through.status_code, through.content) == (direct.status_code, direct.content)
            assert through.headers.get("content-type") == direct.headers.get("content-type")


async def test_a_copy_is_made_wherever_the_source_is():
    """And can be used at once under its new name."""
    async with address(sim("ant"), sim("bee"), *empty("cat")) as one, one.client() as client:
        answer = await client.post("/api/copy", json={"source": CHAT, "destination": "mine"})
        assert (answer.status_code, answer.content, has(one, "mine")) == (200, b"", ["ant", "bee"])
        body = {"model": "mine", "messages": MESSAGES, "stream": False}
        assert (await client.post("/api/chat", json=body)).status_code == 200


async def test_a_push_comes_from_one_node_that_has_the_model():
    """The stream is that node's."""
    async with address(*empty("ant"), sim("bee", speed=1000)) as one, one.client() as client:
        told = lines_of(await client.post("/api/push", json={"model": CHAT}))
        assert (told[0], told[-1]) == ({"status": "retrieving manifest"}, {"status": "success"})
        assert (one.asked("ant", "/api/push"), one.asked("bee", "/api/push")) == (0, 1)


async def test_a_create_from_a_model_is_made_on_all_its_holders():
    """The fleet stays uniform: same steps, same digest."""
    async with address(sim("ant"), sim("bee"), *empty("cat")) as one, one.client() as client:
        told = lines_of(await client.post("/api/create", json={"model": "mine", "from": CHAT, "system": "Be brief."}))
        assert told[-1] == {"status": "success"}
        assert len({line["status"] for line in told}) == len(told)
        assert has(one, "mine") == ["ant", "bee"]
        assert len({one.nodes[name].library.find("mine").digest for name in ("ant", "bee")}) == 1


async def test_a_create_from_files_gets_them_to_every_node():
    """One upload serves all; the copies to the nodes are part of the progress."""
    async with address(*empty("ant", "bee")) as one, one.client() as client:
        assert (await client.head(f"/api/blobs/{DIGEST}")).status_code == 404
        assert (await client.post(f"/api/blobs/{DIGEST}", content=BLOB)).status_code == 201
        assert (await client.head(f"/api/blobs/{DIGEST}")).status_code == 200
        told = lines_of(await client.post("/api/create", json={"model": "mine", "files": {"m.gguf": DIGEST}}))
        copies = [line for line in told if line["status"].startswith("copying")]
        assert copies[-1]["completed"] == copies[-1]["total"] == len(BLOB)
        assert (told[-1], has(one, "mine")) == ({"status": "success"}, ["ant", "bee"])
        body = {"model": "mine", "prompt": "x", "stream": False}
        assert (await client.post("/api/generate", json=body)).status_code == 200


async def test_a_node_that_lost_the_file_gets_it_again():
    """A restart of a node prunes what no model uses."""
    async with address(*empty("ant", "bee")) as one, one.client() as client:
        await client.post(f"/api/blobs/{DIGEST}", content=BLOB)
        await client.post("/api/create", json={"model": "mine", "files": {"m.gguf": DIGEST}})
        bee = one.nodes["bee"]
        bee.library.remove(bee.library.find("mine"))
        told = lines_of(await client.post("/api/create", json={"model": "yours", "files": {"m.gguf": DIGEST}}))
        assert (told[-1], has(one, "yours")) == ({"status": "success"}, ["ant", "bee"])


async def test_a_file_that_only_some_nodes_have_decides_where():
    """What was never uploaded here cannot be sent on."""
    async with address(*empty("ant", "bee")) as one, one.client() as client:
        await client.post(f"{one.nodes['bee'].base_url}/api/blobs/{DIGEST}", content=BLOB)
        answer = await client.post("/api/create", json={"model": "mine", "files": {"m.gguf": DIGEST}})
        assert (lines_of(answer)[-1], has(one, "mine")) == ({"status": "success"}, ["bee"])


async def test_a_create_that_fails_on_one_node_says_so():
    """As with a pull."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        one.nodes["bee"].faults.fail_create = "template error"
        told = lines_of(await client.post("/api/create", json={"model": "mine", "from": CHAT, "system": "x"}))
        assert told[-1] == {"error": "bee: template error; succeeded on ant"}


async def test_a_file_with_another_hash_is_refused():
    """In a node's own words, and nothing is kept."""
    async with address(sim("ant")) as one, one.client() as client:
        direct = await client.post(f"{one.nodes['ant'].base_url}/api/blobs/{DIGEST}", content=b"other")
        through = await client.post(f"/api/blobs/{DIGEST}", content=b"other")
        assert (through.status_code, through.content) == (direct.status_code, direct.content) == (400, direct.content)
        assert (await client.head(f"/api/blobs/{DIGEST}")).status_code == 404


async def test_a_file_above_the_limit_is_refused():
    """413 that names the setting, whether its length was announced or not."""
    settings = GatewaySettings(poll=0.2, max_blob=1000)

    async def pieces():
        yield BLOB

    async with address(sim("ant"), settings=settings) as one, one.client() as client:
        for content in (BLOB, pieces()):
            answer = await client.post(f"/api/blobs/{DIGEST}", content=content)
            assert answer.status_code == 413
            assert "SOLLOL_MAX_BLOB_GB" in answer.json()["error"]


async def test_a_node_that_dies_while_it_pulls_does_not_hold_the_others():
    """Its part has failed, theirs is done."""
    async with address(*empty("ant", "bee"), settings=GatewaySettings(poll=0.05)) as one, one.client() as client:
        one.nodes["bee"].faults.slow_pull = 1000.0
        task = asyncio.ensure_future(client.post("/api/pull", json={"model": CHAT}))
        await one.until(lambda: has(one) == ["ant"])
        one.nodes["bee"].kill()
        error = lines_of(await task)[-1]["error"]
        assert error.startswith("bee: ")
        assert error.endswith("succeeded on ant")


async def test_a_down_node_is_left_out_by_default_and_can_be_named():
    """Who is known to be down gets nothing unless asked for; then its failure is told."""
    async with address(*empty("ant", "bee")) as one, one.client() as client:
        one.nodes["bee"].kill()
        await one.until(lambda: one.gateway.dispatcher.nodes[2].reach == "down")
        assert (await client.post("/api/pull", json={"model": CHAT})).headers["x-sollol-nodes"] == "ant"
        named = await client.post("/api/pull", json={"model": CHAT}, headers={"x-sollol-nodes": "ant,bee"})
        error = lines_of(named)[-1]["error"]
        # Whichever is found out first: that nobody takes the connection, or that nobody answers looks.
        assert error.startswith(("bee: cannot connect", "bee: the node does not answer"))
        assert error.endswith("succeeded on ant")


async def test_show_tells_of_the_weights_that_count():
    """Where nodes differ, show, tags and answers agree."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        bee = one.nodes["bee"]
        bee.library.install(CATALOGUE[CHAT].with_revision("newer"), bee.clock.epoch() + 100)
        await one.gateway.targets.changed(one.gateway.targets.used)
        [row] = [row for row in (await client.get("/api/tags")).json()["models"] if row["name"] == CHAT]
        assert row["digest"] == bee.library.find(CHAT).digest
        shown = await client.post("/api/show", json={"model": CHAT})
        assert shown.content == (await client.post(f"{bee.base_url}/api/show", json={"model": CHAT})).content
        for _ in range(3):
            answer = await client.post("/api/chat", json={"model": CHAT, "messages": MESSAGES})
            assert answer.headers["x-sollol-node"] == "bee"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/api/delete", {"model": CHAT}),
        ("POST", "/api/copy", {"source": CHAT, "destination": "mine"}),
        ("POST", "/api/show", {"model": CHAT}),
    ],
)
async def test_a_named_node_without_the_model_says_so_itself(method, path, body):
    """Nothing is done on a node that was not named."""
    async with address(sim("ant"), *empty("bee")) as one, one.client() as client:
        answer = await client.request(method, path, json=body, headers=TO_BEE)
        assert (answer.status_code, has(one), has(one, "mine")) == (404, ["ant"], [])
        assert one.asked("ant", path) == 0


async def test_an_unload_can_name_the_nodes_too():
    """Only there the memory is freed."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        for node in one.nodes.values():
            await client.post(f"{node.base_url}/api/generate", json={"model": CHAT})
        await one.until(lambda: all(state.resident for state in one.gateway.dispatcher.nodes.values()))
        await client.post("/api/generate", json={"model": CHAT, "keep_alive": 0}, headers=TO_BEE)
        await one.until(lambda: not one.nodes["bee"].scheduler.runners)
        assert one.nodes["ant"].scheduler.runners


async def test_a_delete_finds_what_came_to_a_node_by_itself():
    """A model that somebody pulled on the node directly is gone as well."""
    async with address(sim("ant"), *empty("bee")) as one, one.client() as client:
        await client.post(f"{one.nodes['bee'].base_url}/api/pull", json={"model": CHAT})
        for listed in one.gateway.looks.listed.values():
            listed.asked_at -= 5
        await client.request("DELETE", "/api/delete", json={"model": CHAT})
        assert has(one) == []


def stepwise(steps):
    """A pull that goes on by one with each permit."""

    async def pull(request):
        stream = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await stream.prepare(request)
        for completed in range(1, 6):
            bar = {"status": "pulling x", "digest": DIGEST, "total": 9, "completed": completed}
            await stream.write(json.dumps(bar).encode() + b"\n")
            await steps.acquire()
        return stream

    return pull


async def test_a_pull_lives_on_while_its_node_misses_looks():
    """Bytes that come say more than a look that does not; who says nothing between two looks is given up."""
    steps = [asyncio.Semaphore(0), asyncio.Semaphore(0)]
    async with (
        echo_node(stepwise(steps[0]), "ant") as ant,
        echo_node(stepwise(steps[1]), "bee") as bee,
        address(ant, bee) as one,
        one.client() as client,
        client.stream("POST", "/api/pull", json={"model": "x"}) as answer,
    ):

        def found_dead():
            for call in [call for node in one.gateway.dispatcher.nodes.values() for call in node.calls]:
                call()

        lines = answer.aiter_lines()
        completed = 0
        while completed < 4:
            # A bar tells of the slowest, so both nodes have come this far since the look before.
            told = json.loads(await anext(lines)).get("completed", 0)
            if told > completed:
                completed = told
                found_dead()
                for step in steps if completed < 4 else ():
                    step.release()
        found_dead()
        rest = [json.loads(line) async for line in lines]
        assert rest[-1]["error"].endswith("the node does not answer any more")


@pytest.mark.parametrize("removed", [False, True])
async def test_a_transfers_node_is_watched_to_its_end(removed):
    """Also when the operator has disabled or removed the node meanwhile."""
    async with address(*empty("ant", "bee"), settings=GatewaySettings(poll=0.05)) as one, one.client() as client:
        one.nodes["bee"].faults.slow_pull = 1e6
        task = asyncio.ensure_future(client.post("/api/pull", json={"model": CHAT}))
        await one.until(lambda: has(one) == ["ant"])
        if removed:
            one.remove("bee")
        else:
            one.operate("bee", enabled=False)
        one.nodes["bee"].kill()
        assert lines_of(await task)[-1]["error"].startswith("bee: ")
        await one.until(lambda: not removed or len(one.gateway.dispatcher.nodes) == 1)


async def test_a_push_that_broke_is_not_done_twice():
    """What may have begun on one node is not begun on another."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        for node in one.nodes.values():
            node.faults.reset_after_chunks = 0
        answer = await client.post("/api/push", json={"model": CHAT})
        assert answer.status_code == 503
        assert sum(one.asked(name, "/api/push") for name in one.nodes) == 1
        assert "connection lost" in answer.json()["error"] or "no answer" in answer.json()["error"]


async def test_an_error_line_never_continues_a_broken_one():
    """What came of a line before the node broke is ended first."""

    async def answer(request):
        stream = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await stream.prepare(request)
        await stream.write(b'{"status":"pulling manifest"}\n{"status":"hal')
        request.transport.abort()
        return stream

    async with echo_node(answer) as node, address(node) as one, one.client() as client:
        text = (await client.post("/api/pull", json={"model": "x"})).text
        assert text.startswith('{"status":"pulling manifest"}\n{"status":"hal\n{"error":')


async def test_draining_is_no_missing_model():
    """A request that only draining nodes could serve is told so; it is neither served there nor a 404."""
    async with address(sim("ant"), *empty("bee")) as one, one.client() as client:
        one.operate("ant", draining=True)
        answer = await client.post("/api/chat", json={"model": CHAT, "messages": MESSAGES})
        assert (answer.status_code, answer.json()) == (503, {"error": "every node that has the model is being drained"})
        assert one.asked("ant") == one.asked("bee") == 0


async def test_lists_and_answers_agree_while_a_node_drains():
    """The weights that requests meet are those that are told."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        bee = one.nodes["bee"]
        bee.library.install(CATALOGUE[CHAT].with_revision("newer"), bee.clock.epoch() + 100)
        await one.gateway.targets.changed(one.gateway.targets.used)
        one.operate("bee", draining=True)
        [row] = [row for row in (await client.get("/api/tags")).json()["models"] if row["name"] == CHAT]
        assert row["digest"] == one.nodes["ant"].library.find(CHAT).digest
        answer = await client.post("/api/chat", json={"model": CHAT, "messages": MESSAGES})
        assert answer.headers["x-sollol-node"] == "ant"


async def test_a_default_that_names_nobody_says_which_setting_it_is():
    """The client has named no node, so the message must not blame its header."""
    settings = GatewaySettings(poll=0.2, model_nodes="dog")
    async with address(*empty("ant"), settings=settings) as one, one.client() as client:
        answer = await client.post("/api/pull", json={"model": CHAT})
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("SOLLOL_MODEL_NODES: no enabled node is called 'dog'")
