"""Paths as clients write them: slashes too many, dots, escapes."""

import asyncio
import json
from hashlib import sha256

import pytest
from yarl import URL

from tests.simulator.conftest import small


@pytest.fixture
async def client(start):
    return (await start(models=[small("ant:1b")]))[1]


async def ask(client, method, path, **kwargs):
    """One request with the path as it stands."""
    url = URL(client.node.base_url + path, encoded=True)
    return await client.session.request(method, url, allow_redirects=False, **kwargs)


@pytest.mark.parametrize(
    ("method", "path", "status", "location"),
    [
        ("GET", "/api/tags/", 301, "/api/tags"),
        ("HEAD", "/api/tags/", 307, "/api/tags"),
        ("POST", "/api/chat/?a=1", 307, "/api/chat?a=1"),
        ("DELETE", "/api/delete/", 307, "/api/delete"),
        ("GET", "/v1/models/ant/", 301, "/v1/models/ant"),
        ("GET", "/v1/models/", 301, "/v1/models"),
        ("POST", "/api/tags/", 404, None),
        ("GET", "/nowhere/", 404, None),
        ("GET", "//api/tags", 307, "/api/tags"),
        ("GET", "//api/tags/", 307, "/api/tags/"),
        ("POST", "//api/chat?a=1", 307, "/api/chat?a=1"),
        ("POST", "/api//chat", 307, "/api/chat"),
        ("POST", "/api/./chat", 307, "/api/chat"),
        ("POST", "/x/../api/chat", 307, "/api/chat"),
        ("GET", "//nowhere", 307, "/nowhere"),
        ("GET", "/..", 307, "/"),
    ],
)
async def test_redirects(client, method, path, status, location):
    """Unclean paths are cleaned whatever they mean; a slash at the end is dropped where that makes a route."""
    async with await ask(client, method, path) as answer:
        assert (answer.status, answer.headers.get("Location")) == (status, location)


@pytest.mark.parametrize("path", ["/v1/models/ns/name", "/v1/models/ns%2Fname", "/api/blobs/a/b", "/api/user/keys/"])
async def test_a_parameter_has_no_slash(client, path):
    """Also when it is escaped."""
    async with await ask(client, "GET", path) as answer:
        assert (answer.status, await answer.read()) == (404, b"404 page not found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/api/blobs/sha256:x", "HEAD, POST"),
        ("POST", "/v1/models/ant", "GET"),
        ("HEAD", "/v1/models", "GET"),
        ("HEAD", "/api/status", "GET"),
        ("POST", "/", "HEAD, GET"),
        ("PATCH", "/api/user/keys/a", "DELETE"),
    ],
)
async def test_wrong_methods(client, method, path, allow):
    """405 with the methods that the path has."""
    async with await ask(client, method, path) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, allow)


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags"])
async def test_head_has_the_headers_of_get(client, path):
    """And no body."""
    async with await ask(client, "GET", path) as get, await ask(client, "HEAD", path) as head:
        names = ("Content-Type", "Content-Length")
        assert [head.headers.get(name) for name in names] == [get.headers.get(name) for name in names]
        assert await head.read() == b""


@pytest.mark.parametrize("spelling", ["sha256:", "sha256-", "sha256%3A", "sha256%3a"])
async def test_every_spelling_of_a_blob(client, spelling):
    """They all mean the same file."""
    data = spelling.encode()
    path = f"/api/blobs/{spelling}{sha256(data).hexdigest()}"
    for method, status in (("HEAD", 404), ("POST", 201), ("POST", 200), ("HEAD", 200)):
        async with await ask(client, method, path, data=data) as answer:
            assert (answer.status, await answer.read()) == (status, b"")


@pytest.mark.parametrize("length", [b"Content-Length: 99999999", b"Transfer-Encoding: chunked"])
async def test_a_known_blob_is_answered_before_its_body_comes(client, length):
    """And Go gives up the connection rather than read it all."""
    [digest] = client.node.library.blobs
    reader, writer = await asyncio.open_connection("127.0.0.1", client.node.port)
    writer.write(b"POST /api/blobs/%b HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n" % (digest.encode(), length))
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Connection: close" in head
    assert await reader.read() == b""
    writer.close()


async def test_a_short_body_that_was_left_alone_does_not_cost_the_connection(client):
    """The next request comes over the same one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.node.port)
    for _ in range(2):
        writer.write(b"POST /api/tags HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 405 ")
        await reader.readexactly(len(b"405 method not allowed"))
    writer.close()


async def test_the_query_is_of_no_concern(client):
    """Routes do not look at it."""
    async with await ask(client, "POST", "/api/show?ts=1", data=json.dumps({"model": "ant:1b"})) as answer:
        assert answer.status == 200
