"""OLLAMA_ORIGINS."""

import pytest

from simulator.origins import Origins

VARY = ["Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"]


@pytest.mark.parametrize(
    ("setting", "origin", "allowed"),
    [
        ("", "http://localhost", True),
        ("", "http://localhost:3000", True),
        ("", "https://0.0.0.0:1", True),
        ("", "app://obsidian.md", True),
        ("", "vscode-webview://abc", True),
        ("", "http://localhost.evil.example", False),
        ("", "http://bees.example", False),
        ("http://bees.example", "http://bees.example", True),
        ("http://bees.example", "https://bees.example", False),
        ("https://*.bees.example, HTTP://Cats.example:*", "https://a.b.bees.example", True),
        ("https://*.bees.example, HTTP://Cats.example:*", "http://cats.example:81", True),
        ("https://a*a.example", "https://a.example", False),
        ('"http://bees.example"', "http://bees.example", True),
        ("*", "null", True),
    ],
)
def test_which_origins_are_allowed(setting, origin, allowed):
    """One star stands for any text; local pages may always ask."""
    assert Origins.of(setting).allow(origin) is allowed


@pytest.mark.parametrize("setting", ["http://*.*.example", "bees.example"])
def test_settings_that_ollama_does_not_start_with(setting):
    """Two stars, and an origin without its scheme."""
    with pytest.raises(ValueError, match=r"bad origin|only one"):
        Origins.of(setting)


async def test_an_origin_of_the_operator(start):
    """It is echoed, and the others are still refused."""
    _, client = await start(origins="https://*.bees.example")
    status, headers, _ = await client.send("GET", "/api/version", headers={"Origin": "https://a.bees.example"})
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, "https://a.bees.example")
    assert (await client.send("GET", "/api/version", headers={"Origin": "https://cats.example"}))[0] == 403


async def test_everybody_may_ask(start):
    """A star alone is what the answers say, without Vary."""
    _, client = await start(origins="*")
    for method in ("GET", "OPTIONS"):
        _, headers, _ = await client.send(method, "/api/version", headers={"Origin": "http://anybody.example"})
        assert (headers["Access-Control-Allow-Origin"], "Vary" in headers) == ("*", False)


@pytest.mark.parametrize("path", ["/api/chat", "/nowhere", "/"])
async def test_options_without_an_origin(start, path):
    """On a loopback listener 204 for any path, elsewhere the rules of methods."""
    _, client = await start()
    status, headers, body = await client.send("OPTIONS", path)
    assert (status, body, "Vary" in headers) == (204, b"", False)
    _, client = await start(host="0.0.0.0")  # noqa: S104 - a listener that is not loopback
    assert (await client.send("OPTIONS", path))[0] == (404 if path == "/nowhere" else 405)


async def test_a_page_of_the_node_itself(start):
    """Its Origin is the Host that it asks, and the answer has no header for it."""
    node, client = await start()
    for scheme in ("http", "https"):
        origin = {"Origin": f"{scheme}://127.0.0.1:{node.port}"}
        _, headers, _ = await client.send("GET", "/api/version", headers=origin)
        assert not {"Vary", "Access-Control-Allow-Origin"} & set(headers)
    assert (await client.send("OPTIONS", "/api/version", headers=origin))[0] == 204


async def test_a_preflight_varies(start):
    """Three headers say on what."""
    _, client = await start()
    _, headers, _ = await client.send("OPTIONS", "/x", headers={"Origin": "http://localhost"})
    assert headers.getall("Vary") == VARY
    assert headers["Access-Control-Allow-Origin"] == "http://localhost"
