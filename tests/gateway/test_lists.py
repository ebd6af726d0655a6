"""The light routes: many nodes' lists as one server's."""

import pytest

from tests.fakes.address import CHAT, address, sim


async def test_the_root_greets_as_ollama_does():
    """GET and HEAD / answer as an Ollama server."""
    async with address(sim("ant")) as one, one.client() as client:
        answer = await client.get("/")
        assert (answer.status_code, answer.text) == (200, "Ollama is running")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        head = await client.head("/")
        assert (head.headers["content-length"], head.content) == ("17", b"")


async def test_a_browser_is_sent_to_the_dashboard():
    """A client that wants HTML gets the dashboard's address."""
    async with address(sim("ant")) as one, one.client() as client:
        answer = await client.get("/", headers={"accept": "text/html,*/*"})
        assert (answer.status_code, answer.headers["location"]) == (302, "/dashboard/")


async def test_the_version_is_the_lowest():
    """A client may rely on what every node understands."""
    async with address(sim("ant", version="0.10.1"), sim("bee", version="0.9.12")) as one, one.client() as client:
        assert (await client.get("/api/version")).json() == {"version": "0.9.12"}


async def test_tags_are_the_union():
    """A model is listed once, whichever nodes have it."""
    ant, bee = sim("ant", models=[CHAT, "nomic-embed-text:latest"]), sim("bee", models=[CHAT, "llama3.1:8b"])
    async with address(ant, bee) as one, one.client() as client:
        names = [row["name"] for row in (await client.get("/api/tags")).json()["models"]]
        assert sorted(names) == sorted({CHAT, "nomic-embed-text:latest", "llama3.1:8b"})


async def test_tags_of_one_node_are_byte_for_byte_its_own():
    """With one node nobody can tell the gateway from it."""
    async with address(sim("ant")) as one, one.client() as client:
        direct = await client.get(f"{one.nodes['ant'].base_url}/api/tags")
        through = await client.get("/api/tags")
        assert through.content == direct.content
        assert through.headers["content-type"] == direct.headers["content-type"]


async def test_a_slow_node_drops_nothing_from_the_list():
    """What a node listed before stays listed while it is slow to answer."""
    ant, bee = sim("ant", models=[CHAT]), sim("bee", models=["llama3.1:8b"])
    async with address(ant, bee) as one, one.client() as client:
        bee.faults.slow_tags = 1000.0
        one.gateway.looks.listed[2].tags_at -= 5
        names = {row["name"] for row in (await client.get("/api/tags")).json()["models"]}
        assert names == {CHAT, "llama3.1:8b"}


async def test_ps_merges_copies_of_a_model():
    """A model loaded on two nodes is one row with their memory added up."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        for node in one.nodes.values():
            await client.post(f"{node.base_url}/api/generate", json={"model": CHAT})
        for listed in one.gateway.looks.listed.values():
            listed.ps_at -= 5
        [row] = (await client.get("/api/ps")).json()["models"]
        single = (await client.get(f"{one.nodes['ant'].base_url}/api/ps")).json()["models"][0]
        assert (row["name"], row["size"]) == (CHAT, 2 * single["size"])


async def test_show_is_a_holders_own_answer():
    """A node that has the model tells about it, byte for byte."""
    async with address(sim("ant", models=["llama3.1:8b"]), sim("bee")) as one, one.client() as client:
        direct = await client.post(f"{one.nodes['bee'].base_url}/api/show", json={"model": CHAT})
        through = await client.post("/api/show", json={"model": CHAT})
        assert (through.status_code, through.content) == (200, direct.content)


async def test_show_of_an_unknown_model_is_a_nodes_404():
    """What no node has is refused in a node's own words."""
    async with address(sim("ant")) as one, one.client() as client:
        answer = await client.post("/api/show", json={"model": "nobody"})
        assert (answer.status_code, answer.json()) == (404, {"error": "model 'nobody:latest' not found"})


async def test_the_openai_list_matches_a_nodes_own():
    """/v1/models of one node is its own list."""
    async with address(sim("ant")) as one, one.client() as client:
        direct = await client.get(f"{one.nodes['ant'].base_url}/v1/models")
        through = await client.get("/v1/models")
        assert through.content == direct.content
        assert through.headers["content-type"] == direct.headers["content-type"]


@pytest.mark.parametrize("name", [CHAT, "nomic-embed-text", "nobody"])
async def test_one_openai_model_matches_a_nodes_own(name):
    """/v1/models/{model}, known or not, is what a node says."""
    async with address(sim("ant")) as one, one.client() as client:
        direct = await client.get(f"{one.nodes['ant'].base_url}/v1/models/{name}")
        through = await client.get(f"/v1/models/{name}")
        assert (through.status_code, through.content) == (direct.status_code, direct.content)


@pytest.mark.parametrize("path", ["/api/tags", "/api/chat", "/api/version", "/v1/models", "/v1/chat/completions"])
async def test_a_wrong_method_is_refused_as_a_node_does(path):
    """405 with the methods that are allowed, as plain text."""
    async with address(sim("ant")) as one, one.client() as client:
        direct = await client.delete(f"{one.nodes['ant'].base_url}{path}")
        through = await client.delete(path)
        assert (through.status_code, through.content) == (direct.status_code, direct.content)
        for name in ("allow", "content-type"):
            assert through.headers[name] == direct.headers[name]


async def test_without_nodes_the_answer_says_what_to_do():
    """A gateway without nodes says how to add one."""
    async with address() as one, one.client() as client:
        answer = await client.get("/api/tags")
        assert answer.status_code == 503
        assert "SOLLOL_NODES" in answer.json()["error"]


async def test_with_all_nodes_down_the_answer_names_them():
    """When nobody answers, the error says which node fails how."""
    async with address(sim("ant")) as one, one.client() as client:
        one.nodes["ant"].kill()
        await one.until(lambda: one.gateway.dispatcher.nodes[1].reach == "down")
        answer = await client.get("/")
        assert answer.status_code == 503
        assert "ant: cannot connect" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/api/unheard-of", "/v1/moderations", "/v1/models/a/b"])
async def test_an_unknown_path_is_refused_as_a_node_does(path):
    """404 as plain text, not a page."""
    async with address(sim("ant")) as one, one.client() as client:
        direct = await client.get(f"{one.nodes['ant'].base_url}{path}")
        through = await client.get(path)
        assert (through.status_code, through.content) == (direct.status_code, direct.content)
        assert through.headers["content-type"] == direct.headers["content-type"]


@pytest.mark.parametrize(
    ("path", "claimed"),
    [
        ("/", True),
        ("/api/chat", True),
        ("/api/pull", True),
        ("/v1/x", True),
        ("/admin/", False),
        ("/api/fleet/nodes/", False),
        ("/metrics", False),
        ("/static/x.js", False),
        ("/api", True),
        ("/apix/chat", False),
        ("/v1x", False),
    ],
)
async def test_the_planes_are_told_apart_by_path(path, claimed):
    """The data plane has all of Ollama's and OpenAI's paths, the control plane its own."""
    async with address() as one:
        assert one.gateway.claims(path) is claimed
