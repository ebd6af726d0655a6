"""Clients that send nonsense, too much, too little or too slowly: refused in order, and nobody else notices."""

import asyncio
import hashlib
import json
import logging
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from routing.core.requests import Route
from routing.gateway.settings import GatewaySettings
from tests.fakes.address import CHAT, MESSAGES, address, sim
from tests.fakes.echo import echo_node
from tests.fakes.raw import raw_exchange

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHOLE = {"model": CHAT, "messages": MESSAGES, "stream": False}
BODY = json.dumps(WHOLE).encode()
OURS = b"the gateway failed"
BLOB = "/api/blobs/sha256:" + hashlib.sha256(BODY).hexdigest()
FORM = "Content-Type: multipart/form-data; boundary=xyz"
FORM_START = b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
#: Every route that takes a body, with the beginning of one.
UPLOADS = [
    *((route.value, BODY[:20]) for route in Route if route is not Route.V1_TRANSCRIPTIONS),
    (Route.V1_TRANSCRIPTIONS.value, FORM_START + b"RIFF"),
    (BLOB, BODY[:20]),
    ("/api/show", b'{"model'),
    ("/api/pull", b'{"model'),
    ("/api/create", b'{"model'),
]
#: Whether a node has the file already is asked before it is taken.
ASKED_BEFORE = {BLOB: 1}
NESTED = [b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000, b'{"messages":' + b"[" * 100_000]


@pytest.fixture(autouse=True)
def quiet(caplog):
    """Whatever a client does, the gateway has nothing to log an error about."""
    yield
    told = [record for record in caplog.records if record.name.startswith("sollol") and record.levelno >= logging.ERROR]
    assert not told


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running():
    """One address for all tests of this file, so that each leaves its successors a working one."""
    async with address(sim("ant", speed=1000), settings=GatewaySettings(poll=0.5)) as one:
        yield one


@pytest_asyncio.fixture(loop_scope="module")
async def one(running):
    """The address, with nothing counted yet; it must be idle and still serve when the test is over."""
    running.nodes["ant"].record.requests.clear()
    yield running
    dispatcher = running.gateway.dispatcher
    await running.until(lambda: not dispatcher.in_flight() and not dispatcher.waiting)
    async with running.client() as client:
        assert (await client.post("/api/chat", json=WHOLE)).status_code == 200


def request(path: str, body: bytes = b"", *headers: str, method: str = "POST", length: int | None = None) -> bytes:
    """A request as it goes on the wire; its connection ends with it."""
    told = len(body) if length is None else length
    lines = (f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", f"Content-Length: {told}", *headers)
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


def chunked(path: str, *pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    head = request(path).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@asynccontextmanager
async def connected(one):
    parts = urlsplit(one.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield reader, writer
    finally:
        writer.close()


def form_headers(path: str) -> tuple[str, ...]:
    return (FORM,) if path == Route.V1_TRANSCRIPTIONS.value else ()


# Bodies that end early, come slowly, or in odd pieces


@pytest.mark.parametrize(("path", "start"), UPLOADS)
async def test_a_body_that_ends_early_leaves_nothing_behind(one, path, start):
    """More is announced than comes before the client closes its side; no node hears of it."""
    async with connected(one) as (reader, writer):
        writer.write(request(path, start, *form_headers(path), length=1000))
        writer.write_eof()
        assert OURS not in await reader.read()
    assert one.asked("ant", path) <= ASKED_BEFORE.get(path, 0)


@pytest.mark.parametrize(("path", "start"), UPLOADS)
async def test_a_client_that_vanishes_in_its_body_leaves_nothing_behind(one, path, start):
    """The connection is reset in the middle of a chunked upload."""
    async with connected(one) as (_, writer):
        writer.write(chunked(path, start, end=b"40\r\nhalf of i"))
        await writer.drain()
        writer.transport.abort()
    assert status(await raw_exchange(one.url, request("/api/version", method="GET"))) == 200
    assert one.asked("ant", path) <= ASKED_BEFORE.get(path, 0)


@pytest.mark.parametrize(("path", "start"), UPLOADS)
async def test_a_slow_body_holds_up_nobody(one, path, start):
    """While a body comes byte by byte it has no slot and no place in the queue, and others are served."""
    async with one.client() as client, connected(one) as (_, writer):
        writer.write(request(path, b"", *form_headers(path), length=len(start) + 1))
        for byte in start:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        dispatcher = one.gateway.dispatcher
        assert (dispatcher.in_flight(), dispatcher.waiting, len(one.gateway.inference.live)) == (0, 0, 0)
        assert (await client.post("/api/chat", json=WHOLE)).status_code == 200


async def test_a_body_that_came_slowly_is_served_like_any_other(one):
    """The last byte makes it a request."""
    async with connected(one) as (reader, writer):
        writer.write(request("/api/chat", length=len(BODY)))
        for byte in BODY:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert status(await reader.read()) == 200


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_chunks_of_any_size_are_one_body(one, size):
    """However a body is cut, with extensions and trailers."""
    pieces = [BODY[at : at + size] for at in range(0, len(BODY), size)]
    sent = chunked("/api/chat", *pieces, end=b"000;a=b\r\nX-Trailer: 1\r\n\r\n")
    assert status(await raw_exchange(one.url, sent)) == 200


@pytest.mark.parametrize("end", [b"zz\r\n", b"-1\r\n", b"\r\n", b"5\r\nab\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n"])
async def test_broken_chunks_are_no_body(one, end):
    """What is no chunk ends the connection with a 400."""
    assert status(await raw_exchange(one.url, chunked("/api/chat", BODY, end=end))) == 400
    assert one.asked("ant") == 0


# Heads


@pytest.mark.parametrize(
    "header",
    [
        "Content-Length: 5",
        "Content-Length: -5",
        "Content-Length: 99999999999999999999999",
        "Transfer-Encoding: chunked",
        "X-A: a\x00b",
        "X-A: a\rb",
        ": nameless",
        "no colon",
    ],
)
async def test_an_ambiguous_or_broken_head_is_refused(one, header):
    """Two lengths, a length beside chunks, control characters: nothing that two servers could read in two ways."""
    assert status(await raw_exchange(one.url, request("/api/chat", BODY, header))) == 400
    assert one.asked("ant") == 0


@pytest.mark.parametrize("priority", ["abc", "", "0", "11", "-1", "5.0", "5,5", "\xb2", "9" * 5000])
async def test_a_priority_that_is_none_is_refused(one, priority):
    """The header is the gateway's own, so that it says what is wrong."""
    got = await raw_exchange(one.url, request("/api/chat", BODY, f"X-Sollol-Priority: {priority}"))
    assert status(got) == 400
    assert b"X-Sollol-Priority must be" in got


@pytest.mark.parametrize("name", ["", " ", "a b", "../x", "\xff", "x" * 65, "-x", "{id}"])
async def test_an_odd_request_id_is_replaced(one, name):
    """An id that cannot serve as one is ignored, and the request gets one."""
    got = await raw_exchange(one.url, request("/api/chat", BODY, f"X-Request-Id: {name}"))
    assert status(got) == 200
    assert len(one.last.request_id) == 24


@pytest.mark.parametrize("path", ["/api/pull", "/api/delete", "/api/show", "/api/copy"])
@pytest.mark.parametrize("nodes", ["nobody", ",", "=", "a=b", "\xff", "ant,nobody"])
async def test_nodes_that_do_not_exist_are_refused(one, path, nodes):
    """A name or label that no node has is a mistake, not an empty choice."""
    body = json.dumps({"model": CHAT, "source": CHAT, "destination": "x"}).encode()
    method = "DELETE" if path == "/api/delete" else "POST"
    got = await raw_exchange(one.url, request(path, body, f"X-Sollol-Nodes: {nodes}", method=method))
    assert status(got) == 400
    assert b"X-Sollol-Nodes" in got


@pytest.mark.parametrize(
    "header",
    [
        f"X-A: {'x' * 70_000}",
        "\r\n".join(f"X-{i}: x" for i in range(1000)),
        f"Authorization: Bearer {'x' * 5000}",
        "Authorization: Basic \xff",
        "Connection: X-A, ,\xff",
        "Content-Encoding: zstd",
        "Content-Type: multipart/form-data; boundary=",
        "Accept: \xff",
        "Expect: 200-ok",
        "X-Forwarded-For: ,,\xff",
        "Origin: \xff://",
        "Cookie: \xff=;",
        "Range: bytes=5-1",
        "X-Sollol-Gateway: x",
    ],
)
@pytest.mark.parametrize("path", ["/api/chat", "/api/tags", "/v1/messages"])
async def test_absurd_headers_are_answered(one, path, header):
    """They are passed on, refused by a node or ignored, and never bring the gateway down."""
    assert status(await raw_exchange(one.url, request(path, BODY, header))) < 500
    assert not any(node.breaker.failures for node in one.gateway.dispatcher.nodes.values())


@pytest.mark.parametrize(
    "target",
    [
        "/api/chat?" + "x=y&" * 1900,
        '/api/chat?x=%zz&[]{}|\\^`"<>',
        "/api/chat?%00%0d%0a",
        "/api/chat?#fragment",
        "/api/chat??",
        "http://127.0.0.1/api/chat",
    ],
)
async def test_an_odd_query_is_no_matter(one, target):
    """A query goes to the node as it is."""
    assert status(await raw_exchange(one.url, request(target, BODY))) == 200


@pytest.mark.parametrize(
    "target",
    ["*", "api/chat", "/api/%ff", "/api/x%0d%0aX:1", "/api/chat%00", "/v1/models/%00%ff", "/%2e%2e/", "/é", "/?"],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE", "TRACE"])
async def test_an_odd_target_is_answered(one, method, target):
    """Whatever stands in the first line."""
    assert 200 <= status(await raw_exchange(one.url, request(target, method=method))) < 500


async def test_a_target_that_is_no_path_leads_to_no_other_host(one):
    """Put behind a node's address it would make another host of it, which then got the node's credentials."""
    async with echo_node() as other:
        got = await raw_exchange(one.url, request(f"*@127.0.0.1:{other.port}/x", method="GET"))
        assert status(got) == 307
        assert not other.seen


async def test_requests_one_behind_the_other_are_answered_in_order(one):
    """Who does not wait for an answer before the next request gets them all, in its order."""
    names = [CHAT, "nobody", CHAT.upper()]
    bodies = [json.dumps({**WHOLE, "model": name}).encode() for name in names]
    sent = b"".join(request("/api/chat", body).replace(b"Connection: close\r\n", b"") for body in bodies)
    got = await raw_exchange(one.url, sent + request("/api/version", method="GET"))
    told = [int(piece[:3]) for piece in got.split(b"HTTP/1.1 ")[1:]]
    assert told == [200, 404, 200, 200]
    assert f'"model":"{CHAT.upper()}"'.encode() in got


async def test_a_client_of_http_1_0_is_answered_and_the_connection_closed(one):
    """Who does not know about kept connections reads to the end."""
    sent = b"POST /api/chat HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
    got = await raw_exchange(one.url, sent)
    assert status(got) == 200
    assert json.loads(got.partition(b"\r\n\r\n")[2])["done"] is True


# Bodies that are large, deep or strange


@pytest.mark.parametrize("path", [route.value for route in Route])
@pytest.mark.parametrize("body", NESTED, ids=["open", "closed", "objects", "member"])
async def test_deep_nesting_is_refused_by_the_node(one, path, body):
    """A hundred thousand brackets are a 400 like any other bad body."""
    async with one.client() as client:
        answer = await client.post(path, content=body)
        assert (answer.status_code, OURS in answer.content) == (400, False)


@pytest.mark.parametrize(
    "name",
    ["x" * 100_000, "\x00", "a\x00b", "/" * 1000, ":" * 1000, "\ud800", " ", "é" * 90],
    ids=["long", "null", "null within", "slashes", "colons", "surrogate", "blank", "accents"],
)
@pytest.mark.parametrize("path", [route.value for route in Route if route is not Route.V1_TRANSCRIPTIONS])
async def test_an_absurd_models_name_is_refused_by_the_node(one, path, name):
    """Long names, null bytes and lone surrogates are names of nothing."""
    body = {"model": name, "messages": MESSAGES, "prompt": "x", "input": "x", "max_tokens": 5}
    async with one.client() as client:
        answer = await client.post(path, content=json.dumps(body))
        assert answer.status_code in {400, 404}
        assert OURS not in answer.content


async def test_ten_thousand_messages_are_a_conversation(one):
    """Long conversations are cut by the node, not by the gateway."""
    body = {"model": CHAT, "messages": MESSAGES * 10_000, "stream": False}
    async with one.client() as client:
        assert (await client.post("/api/chat", json=body)).status_code == 200


@pytest.mark.parametrize("system", [[{"type": [None], "text": "x"}], [{"type": {}}], [5, None], {"type": []}])
async def test_parts_of_no_known_type_are_the_nodes_to_judge(one, system):
    """A part's type that is no text is read past."""
    body = {"model": CHAT, "max_tokens": 5, "messages": MESSAGES, "system": system}
    async with one.client() as client:
        assert (await client.post("/v1/messages", json=body)).status_code == 200


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/api/embed", {"input": "x"}),
        ("/api/embeddings", {"prompt": "x"}),
        ("/v1/embeddings", {"input": "x"}),
        ("/v1/completions", {"prompt": "x", "stop": [1]}),
        ("/api/generate", {"prompt": "x", "options": {"num_ctx": "x"}}),
        ("/api/generate", {"prompt": "x", "format": 5}),
    ],
)
async def test_a_wrong_request_is_not_held_against_the_node(one, path, asked):
    """However often it is sent: nobody else waits because a node has answered one client's mistakes with 5xx."""
    async with one.client() as client:
        answers = [await client.post(path, json={"model": CHAT, **asked}) for _ in range(4)]
        assert all(answer.status_code >= 500 for answer in answers)
        assert not any(node.breaker.failures for node in one.gateway.dispatcher.nodes.values())
