"""Mixed fleets: routes that only some nodes have, models at ollama.com, lists of many nodes, newer routes."""

import json
import logging
from dataclasses import replace

import pytest
from aiohttp import web

from routing.core.snapshot import FleetSnapshot, NodeSpec
from routing.gateway.settings import GatewaySettings
from simulator.models import CATALOGUE
from tests.fakes.address import CHAT, MESSAGES, address, sim
from tests.fakes.echo import MODEL, echo_node

MESSAGE = {"model": CHAT, "messages": MESSAGES, "max_tokens": 20}
CLOUD = "gpt-oss:120b-cloud"
STUB = replace(
    CATALOGUE[CHAT], name="far:1b", weights_bytes=400, remote_host="https://ollama.com:443", remote_model="far:1b"
)


async def test_a_route_goes_to_nodes_that_have_it():
    """Older nodes are passed over, without an attempt."""
    async with address(sim("ant", version="0.6.0"), sim("bee")) as one, one.client() as client:
        for _ in range(3):
            answer = await client.post("/v1/messages", json=MESSAGE)
            assert (answer.status_code, answer.headers["x-sollol-node"]) == (200, "bee")
        assert one.asked("ant", "/v1/messages") == 0


async def test_a_route_that_no_node_has_is_a_nodes_404():
    """In its own words, at once."""
    async with address(sim("ant", version="0.6.0"), sim("bee", version="0.9.0")) as one, one.client() as client:
        direct = await client.post(f"{one.nodes['ant'].base_url}/v1/messages", json=MESSAGE)
        through = await client.post("/v1/messages", json=MESSAGE)
        assert (through.status_code, through.content) == (404, direct.content)
        assert through.headers["content-type"] == direct.headers["content-type"]


async def test_a_node_that_lacks_a_route_unexpectedly_is_asked_once():
    """A plain 404 is remembered until the node tells another version."""
    async with address(sim("ant", version="0.6.0"), sim("bee")) as one, one.client() as client:
        one.nodes["ant"].faults.version = "0.33.0"
        one.gateway.dispatcher.nodes[1].set_version("0.33.0")
        one.operate("ant", weight=100.0)
        one.nodes["ant"].faults.version = None
        one.gateway.dispatcher.nodes[1].version = "0.6.0"
        answers = [await client.post("/v1/messages", json=MESSAGE) for _ in range(4)]
        assert {answer.headers["x-sollol-node"] for answer in answers} == {"bee"}
        assert one.asked("ant", "/v1/messages") == 1


async def test_an_unknown_route_is_found_on_the_node_that_has_it():
    """What a newer Ollama brings works as soon as one node has it; who lacks it is asked once."""

    async def answer(request):
        return web.json_response({"new": True})

    async with echo_node(answer) as newer, address(sim("ant"), newer) as one, one.client() as client:
        for _ in range(3):
            got = await client.post("/api/brand-new?x=1", json={"a": 1})
            assert (got.status_code, got.json()) == (200, {"new": True})
        assert newer.last.target == "/api/brand-new?x=1"
        assert one.asked("ant", "/api/brand-new") <= 1


async def test_cloud_names_go_to_the_node_that_is_signed_in():
    """Whatever runs there, and no memory is counted for them."""
    async with address(sim("ant"), sim("bee", account="ada")) as one, one.client() as client:
        one.operate("bee", cloud=True)
        answer = await client.post("/api/chat", json={"model": CLOUD, "messages": MESSAGES})
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert (answer.status_code, answer.headers["x-sollol-node"]) == (200, "bee")
        assert (lines[0]["remote_host"], lines[-1]["done"]) == ("https://ollama.com:443", True)
        assert answer.headers["x-sollol-decision"] == "cloud"
        assert not one.gateway.dispatcher.nodes[2].resident


async def test_cloud_requests_take_no_slot():
    """Many at a time, beside a local model that fills the node."""
    body = {"model": CLOUD, "messages": MESSAGES, "stream": False}
    async with (
        address(sim("ant", account="ada", parallel=1, speed=3)) as one,
        one.client() as client,
        client.stream("POST", "/api/chat", json={"model": CHAT, "messages": MESSAGES}) as local,
    ):
        await anext(local.aiter_lines())
        for _ in range(3):
            assert (await client.post("/api/chat", json=body)).status_code == 200
        assert not one.gateway.dispatcher.waiting


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
async def test_what_ollama_com_refuses_is_relayed(path):
    """Not signed in: the node's words, and nothing held against the node."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        body = {**MESSAGE, "model": CLOUD}
        direct = await client.post(f"{one.nodes['ant'].base_url}{path}", json=body)
        for _ in range(5):
            through = await client.post(path, json=body)
            assert (
                (through.status_code, through.content) == (direct.status_code, direct.content) == (401, direct.content)
            )
        assert one.gateway.dispatcher.nodes[1].breaker.state == "closed"
        assert one.asked("bee", path) == 0


async def test_an_installed_stub_of_a_remote_model_takes_no_room():
    """It is listed as any other, runs at ollama.com, and evicts nothing."""
    nodes = [sim("ant", account="ada", models=[CHAT, STUB])]
    async with address(*nodes) as one, one.client() as client:
        row = (await client.get("/api/tags")).json()["models"][1]
        assert row["remote_host"] == "https://ollama.com:443"
        answer = await client.post("/api/generate", json={"model": "far:1b", "prompt": "x", "stream": False})
        assert (answer.status_code, answer.headers["x-sollol-decision"]) == (200, "cloud")
        assert not one.gateway.dispatcher.nodes[1].resident


async def test_the_account_is_one_nodes():
    """me, signout and the web tools always go to the same node."""
    async with address(sim("ant"), sim("bee", account="ada")) as one, one.client() as client:
        one.operate("bee", cloud=True)
        assert (await client.post("/api/me")).json()["name"] == "ada"
        assert (await client.post("/api/experimental/web_search", json={"query": "ants"})).status_code == 200
        assert (await client.post("/api/signout")).status_code == 200
        assert one.nodes["bee"].account == ""
        assert not any(one.asked("ant", path) for path in ("/api/me", "/api/signout"))


async def test_status_says_off_only_if_all_nodes_are():
    """One node with cloud models is enough."""

    async def off(request):
        return web.json_response({"cloud": {"disabled": True, "source": "env"}})

    async with echo_node(off) as node, address(node, sim("ant")) as one, one.client() as client:
        assert (await client.get("/api/status")).json() == {"cloud": {"disabled": False, "source": "none"}}
        one.operate("ant", enabled=False)
        assert (await client.get("/api/status")).json() == {"cloud": {"disabled": True, "source": "env"}}


async def test_ps_can_name_the_nodes():
    """A setting: one row for each model and node instead of one for each model."""
    settings = GatewaySettings(poll=0.2, ps="nodes")
    async with address(sim("ant"), sim("bee"), settings=settings) as one, one.client() as client:
        for node in one.nodes.values():
            await client.post(f"{node.base_url}/api/generate", json={"model": CHAT})
        await one.until(lambda: all(state.resident for state in one.gateway.dispatcher.nodes.values()))
        rows = (await client.get("/api/ps")).json()["models"]
        assert sorted((row["name"], row["node"]) for row in rows) == [(CHAT, "ant"), (CHAT, "bee")]


async def test_a_silent_nodes_list_counts_for_a_while():
    """Its models are listed from what it told last, until that is too old."""
    settings = GatewaySettings(poll=0.05, list_ttl=600.0)
    async with (
        address(sim("ant"), sim("bee", models=["qwen3:8b"]), settings=settings) as one,
        one.client() as client,
    ):
        one.nodes["bee"].kill()
        await one.until(lambda: one.gateway.dispatcher.nodes[2].reach == "down")
        names = [row["name"] for row in (await client.get("/api/tags")).json()["models"]]
        assert "qwen3:8b" in names
        one.gateway.looks.listed[2].tags_at -= 601.0
        names = [row["name"] for row in (await client.get("/api/tags")).json()["models"]]
        assert "qwen3:8b" not in names


async def test_different_weights_under_one_name_are_logged(caplog):
    """Once, with the name and the digest that counts."""
    bee = sim("bee", models=[CATALOGUE[CHAT].with_revision("other")])
    with caplog.at_level(logging.WARNING, "sollol.nodes"):
        async with address(sim("ant"), bee) as one, one.client() as client:
            await client.get("/api/tags")
    told = [record.message for record in caplog.records if "different weights" in record.message]
    assert len(told) == 1
    assert CHAT in told[0]


async def test_our_key_stays_here_and_a_foreign_one_travels():
    """Cloud models need the client's own bearer; ours are nobody else's business."""
    async with echo_node() as node, address(node) as one, one.client() as client:
        body = {"model": MODEL, "prompt": "x"}
        await client.post("/api/generate", json=body, headers={"authorization": "Bearer theirs", "x-api-key": "k"})
        assert node.last.headers["authorization"] == "Bearer theirs"
        assert "x-api-key" not in node.last.headers


async def test_without_a_mark_the_account_is_a_nodes_that_knows_of_accounts():
    """The oldest node may be too old."""
    async with address(sim("ant", version="0.6.0"), sim("bee", account="ada")) as one, one.client() as client:
        assert (await client.post("/api/me")).json()["name"] == "ada"


async def test_a_marked_node_that_is_down_is_not_stood_in_for():
    """Another account is not the same account."""
    async with address(sim("ant"), sim("bee", account="ada")) as one, one.client() as client:
        one.operate("bee", cloud=True)
        one.nodes["bee"].kill()
        await one.until(lambda: one.gateway.dispatcher.nodes[2].reach == "down")
        answer = await client.post("/api/chat", json={"model": CLOUD, "messages": MESSAGES})
        assert answer.status_code == 503
        assert "bee: cannot connect" in answer.json()["error"]
        assert one.asked("ant") == 0


async def test_gateways_that_name_each_other_notice():
    """A request that comes back is refused, by whatever way it came."""
    async with address() as one, address() as two, one.client() as client:
        for gateway, other, number in ((one, two, 1), (two, one, 2)):
            gateway.gateway.apply(FleetSnapshot(2, (NodeSpec(number, "other", other.url),)))
        answer = await client.post("/api/brand-new", json={})
        assert answer.status_code in {503, 508}
        assert "one" in answer.json()["error"]


async def test_a_nodes_own_cors_headers_stay_with_it():
    """Two of them would make a browser refuse the answer."""

    async def answer(request):
        return web.json_response({}, headers={"Access-Control-Allow-Origin": "*"})

    async with echo_node(answer) as node, address(node) as one, one.client() as client:
        got = await client.post("/api/brand-new", json={}, headers={"origin": "http://localhost:1"})
        assert got.headers.get_list("access-control-allow-origin") == ["http://localhost:1"]
