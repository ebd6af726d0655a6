"""Host check, CORS, and the control routes."""

import pytest

from simulator.access import host_allowed


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:11434", True),
        ("localhost", True),
        ("bee.local:80", True),
        ("10.0.0.5", True),
        ("[::1]:11434", True),
        ("", True),
        ("example.com", False),
        ("8.8.8.8", False),
    ],
)
def test_hosts(host, allowed):
    """A loopback listener answers to local names and private addresses only."""
    assert host_allowed(host) is allowed


async def test_a_foreign_host_is_refused(start):
    """403 with an empty body."""
    _, client = await start()
    status, _, body = await client.send("GET", "/api/version", headers={"Host": "example.com"})
    assert (status, body) == (403, b"")


async def test_a_foreign_origin_is_refused_everywhere(start):
    """Whatever the path; a local one is let in and echoed."""
    _, client = await start()
    status, _, body = await client.send("GET", "/nowhere", headers={"Origin": "http://evil.example"})
    assert (status, body) == (403, b"")
    _, headers, _ = await client.send("GET", "/api/version", headers={"Origin": "http://localhost:3000"})
    assert headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert headers["Vary"] == "Origin"


async def test_a_preflight_is_answered(start):
    """204 with what may be asked."""
    _, client = await start()
    status, headers, _ = await client.send("OPTIONS", "/api/chat", headers={"Origin": "http://127.0.0.1:5000"})
    assert status == 204
    assert headers["Access-Control-Allow-Methods"] == "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
    assert headers["Access-Control-Max-Age"] == "43200"
    assert headers.getall("Vary") == ["Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"]
    assert headers["Access-Control-Allow-Headers"].endswith("X-Stainless-Runtime-Version,X-Stainless-Timeout")


async def test_faults_are_flipped_over_http(start):
    """A wrong switch is a 400 and changes nothing."""
    node, client = await start()
    await client.send("POST", "/_sim/faults", {"version": "0.1.0"})
    assert await client.get("/api/version") == {"version": "0.1.0"}
    assert (await client.send("POST", "/_sim/faults", {"version": "0.2.0", "nonsense": 1}))[0] == 400
    assert node.faults.version == "0.1.0"
    await client.send("POST", "/_sim/clear", {})
    assert await client.get("/api/version") == {"version": "0.33.0"}


async def test_the_state_is_read_over_http(start):
    """What runs, what was seen, and no trace of the control routes themselves."""
    _, client = await start(models=["llama3.2:3b"])
    await client.chat("llama3.2:3b")
    state = await client.get("/_sim/state")
    assert state["requests"] == {"/api/chat": 1}
    assert [runner["model"] for runner in state["runners"]] == ["llama3.2:3b"]
    assert state["faults"]["refuse"] is False


async def test_a_node_is_killed_over_http_and_comes_back(start):
    """With everything that was in memory lost."""
    node, client = await start(models=["llama3.2:3b"])
    await client.chat("llama3.2:3b")
    await client.send("POST", "/_sim/kill", {"seconds": 0.05})
    await node.until(lambda: not node.alive)
    await node.until(lambda: node.alive)
    assert await client.get("/api/ps") == {"models": []}
