"""Older nodes have fewer routes."""

import pytest

from simulator.versions import has
from tests.simulator.conftest import small

LATER = [
    ("POST", "/api/me", "0.12.0"),
    ("POST", "/api/signout", "0.13.0"),
    ("DELETE", "/api/user/keys/abc", "0.13.0"),
    ("POST", "/v1/responses", "0.14.0"),
    ("POST", "/v1/messages", "0.14.1"),
    ("GET", "/api/status", "0.18.0"),
    ("POST", "/api/experimental/web_search", "0.18.0"),
    ("POST", "/api/experimental/web_fetch", "0.18.0"),
    ("POST", "/v1/audio/transcriptions", "0.20.0"),
    ("GET", "/api/experimental/model-recommendations", "0.24.0"),
]


@pytest.mark.parametrize(
    ("version", "since", "there"),
    [
        ("0.6.0", (0, 12), False),
        ("0.11.11", (0, 12), False),
        ("0.12.0-rc1", (0, 12), True),
        ("0.33.0-rc2", (0, 30), True),
        ("1.0.0", (0, 30), True),
        ("0.0.0", (0, 30), True),
        ("unknown", (0, 30), True),
    ],
)
def test_what_a_version_has(version, since, there):
    """Suffixes are ignored, and a developer's build has everything."""
    assert has(version, since) is there


@pytest.mark.parametrize(("method", "path", "since"), LATER)
async def test_a_route_is_there_since_its_release(start, method, path, since):
    """Before that it is an unknown path for every method, also after the version has changed meanwhile."""
    node, client = await start(version="0.6.0")
    for verb in (method, "PUT", "GET"):
        status, headers, body = await client.send(verb, path)
        assert (status, headers["Content-Type"], body) == (404, "text/plain", b"404 page not found")
    node.faults.version = since
    assert (await client.send(method, path))[0] not in {404, 405}
    assert (await client.send("PUT", path))[1]["Allow"] == method


@pytest.mark.parametrize("path", ["chat/completions", "completions", "embeddings"])
async def test_the_oldest_routes_are_everywhere(start, path):
    """A node of 0.6 answers them itself."""
    _, client = await start(version="0.6.0")
    assert (await client.send("POST", f"/v1/{path}"))[0] == 400


async def test_an_absent_route_is_no_target_of_redirects(start):
    """A trailing slash is dropped only where the rest is a path."""
    _, client = await start(version="0.6.0")
    assert (await client.send("GET", "/api/status/"))[0] == 404
    assert (await client.send("GET", "/api/version/"))[0] == 200


async def test_tags_show_capabilities_since_0_30(start):
    """Older rows end with the details."""
    node, client = await start(models=[small("ant:1b")], version="0.29.9")
    assert list((await client.get("/api/tags"))["models"][0])[-1] == "details"
    node.faults.version = "0.30.0"
    assert list((await client.get("/api/tags"))["models"][0])[-1] == "capabilities"


async def test_the_record_has_the_headers_and_the_size_of_the_last_request(start):
    """Header names are in lower case."""
    node, client = await start()
    await client.send("POST", "/api/show", b'{"model":"owl"}', headers={"X-Team": "Bees"})
    assert node.record.headers["/api/show"]["x-team"] == "Bees"
    assert node.record.body_bytes["/api/show"] == 15
