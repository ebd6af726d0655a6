"""The WebSockets take what the HTTP routes take, and stream each object as one message."""

import asyncio
import contextlib
import hashlib
import json

import pytest
from aiohttp import web
from channels.routing import ProtocolTypeRouter, URLRouter
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from fleet import live
from fleet.consumers.routing import websocket_urlpatterns
from routing.core.snapshot import Key, TeamPolicy
from routing.gateway.settings import GatewaySettings
from tests.fakes.address import CHAT, MESSAGES, address, sim
from tests.fakes.echo import FINAL, MODEL, echo_node

#: Channels looks after the database's connections with every message, whether or not one is used.
pytestmark = pytest.mark.django_db

ASK = {"model": CHAT, "messages": MESSAGES}
SECRET = "sollol_abcdefgh_secret"
KEYS = {
    "keys": {
        digest: Key(digest, "abcdefgh", 1, frozenset({"inference"}))
        for digest in [hashlib.sha256(SECRET.encode()).hexdigest()]
    },
    "teams": {1: TeamPolicy(1, "bees")},
    "settings": GatewaySettings(poll=0.2, anonymous="deny"),
}


def served(gateway):
    """The gateway with the WebSockets beside it, as the site serves them."""
    return ProtocolTypeRouter({"http": gateway, "websocket": URLRouter(websocket_urlpatterns)})


@contextlib.asynccontextmanager
async def sockets(*nodes, **more):
    """An address that serves WebSockets too."""
    async with address(*nodes, around=served, **more) as one:
        live.serve(one.gateway)
        try:
            yield one
        finally:
            live.serve(None)


def socket(one, path="/ws/chat", **more):
    return connect(one.url.replace("http", "ws") + path, compression=None, **more)


async def ask(ws, **message):
    await ws.send(json.dumps(message))


async def said(ws, until=lambda message: message.get("done")):
    """Messages up to the one that ends a request."""
    messages = []
    async with asyncio.timeout(20):
        while not messages or not until(messages[-1]):
            messages.append(json.loads(await ws.recv()))
    return messages


@pytest.mark.parametrize(
    ("path", "route", "body"),
    [("/ws/chat", "/api/chat", ASK), ("/ws/generate", "/api/generate", {"model": CHAT, "prompt": "Why?"})],
)
async def test_each_object_is_one_message(path, route, body):
    """The messages are the lines of the HTTP route, object by object."""
    async with sockets(sim("ant")) as one, one.client() as client, socket(one, path) as ws:
        await ask(ws, **body)
        messages = await said(ws)
        lines = [json.loads(line) for line in (await client.post(route, json=body)).text.splitlines()]
        text = [message.get("message", {}).get("content", message.get("response")) for message in messages]
        assert text == [line.get("message", {}).get("content", line.get("response")) for line in lines]
        assert messages[-1]["_sollol_routing"]["host"] == "ant"
        assert "id" not in messages[0]


async def test_several_requests_share_a_socket():
    """Each message carries the id of its request, and the answers come side by side."""
    async with sockets(sim("ant", speed=10)) as one, socket(one) as ws:
        for name in ("a", "b", 3):
            await ask(ws, **ASK, id=name)
        ended = []
        messages = await said(ws, until=lambda m: m.get("done") and (ended.append(m["id"]) or len(ended) == 3))
        assert set(ended) == {"a", "b", 3}
        order = [message["id"] for message in messages if "done" in message]
        assert order != sorted(order, key=str)


async def test_a_request_that_waits_is_told_its_place():
    """Position and expected start, before the first object."""
    async with sockets(sim("ant", speed=2, parallel=1)) as one, socket(one) as ws:
        for name in (1, 2, 3):
            await ask(ws, **ASK, id=name)
        messages = await said(ws, until=lambda m: m.get("type") == "queued" and m["id"] == 3)
        queued = {m["id"]: m for m in messages if m.get("type") == "queued"}
        assert [queued[name]["position"] for name in (2, 3)] == [1, 2]
        assert 0 <= queued[2]["predicted_start_s"] < queued[3]["predicted_start_s"] < queued[3]["predicted_finish_s"]
        assert one.gateway.told(queued[3]["request_id"])["state"] == "waiting"


async def test_an_answer_whose_node_breaks_off_goes_on():
    """The messages are those of an unbroken answer, and the last one tells."""
    async with sockets(sim("ant"), sim("bee"), continuing=True) as one, socket(one) as ws:
        await ask(ws, **ASK)
        expected = [message["message"]["content"] for message in await said(ws)]
        one.nodes["ant"].faults.set(reset_after_chunks=4)
        one.operate("bee", weight=0.01)
        await ask(ws, **ASK)
        messages = await said(ws)
        assert [message["message"]["content"] for message in messages] == expected
        assert messages[-1]["_sollol_routing"]["resumed"] is True


async def test_a_request_is_cancelled_by_its_id():
    """The node stops, the others go on."""
    async with sockets(sim("ant", speed=2)) as one, socket(one) as ws:
        await ask(ws, **ASK, id="a")
        await ask(ws, **ASK, id="b")
        await said(ws, until=lambda m: m.get("id") == "a" and "message" in m)
        await ask(ws, type="cancel", id="a")
        messages = await said(ws, until=lambda m: m.get("type") == "cancelled")
        assert messages[-1] == {"type": "cancelled", "id": "a"}
        await one.until(lambda: len(one.nodes["ant"].record.aborted) == 1)
        await said(ws, until=lambda m: m.get("done") and m["id"] == "b")


async def test_a_waiting_request_is_cancelled_too():
    """Out of the queue before any node hears of it."""
    async with sockets(sim("ant", speed=2, parallel=1)) as one, socket(one) as ws:
        await ask(ws, **ASK, id="a")
        await one.until(lambda: one.asked("ant") == 1)
        await ask(ws, **ASK, id="b")
        await one.until(lambda: one.gateway.dispatcher.waiting == 1)
        await ask(ws, type="cancel", id="b")
        await said(ws, until=lambda m: m.get("type") == "cancelled")
        assert one.asked("ant") == 1


async def test_a_socket_that_closes_ends_its_requests():
    """Nothing goes on for nobody."""
    async with sockets(sim("ant", speed=2, parallel=1)) as one:
        async with socket(one) as ws:
            await ask(ws, **ASK, id="a")
            await ask(ws, **ASK, id="b")
            await said(ws, until=lambda m: "message" in m)
        await one.until(lambda: not one.gateway.dispatcher.waiting and not one.gateway.dispatcher.in_flight())
        await one.until(lambda: one.nodes["ant"].record.aborted)


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("no json", 400),
        ("[1]", 400),
        (json.dumps({"model": "nobody", "messages": MESSAGES, "id": 1}), 404),
        (json.dumps({"messages": 7}), 400),
        (json.dumps({"type": "cancel", "id": "x"}), 404),
        (json.dumps({"type": "cancel", "id": [1]}), 404),
    ],
)
async def test_an_error_is_a_message_and_the_socket_stays(message, status):
    """What is wrong with one request harms no other."""
    async with sockets(sim("ant")) as one, socket(one) as ws:
        await ws.send(message)
        [error] = await said(ws, until=lambda m: "error" in m)
        assert error["status"] == status
        await ask(ws, **ASK)
        assert (await said(ws))[-1]["done"]


async def test_an_id_serves_one_request_at_a_time():
    """A second request of the same id is refused, the first goes on."""
    async with sockets(sim("ant", speed=5)) as one, socket(one) as ws:
        await ask(ws, **ASK, id=1)
        await ask(ws, **ASK, id=1)
        messages = await said(ws)
        assert [m["status"] for m in messages if "error" in m] == [429]


async def test_a_key_comes_as_a_subprotocol():
    """As browsers must send it; what is chosen is never the key."""
    async with sockets(sim("ant"), **KEYS) as one, socket(one, subprotocols=["sollol", SECRET]) as ws:
        assert ws.subprotocol == "sollol"
        await ask(ws, **ASK)
        await said(ws)
        await one.until(lambda: one.recorder.requests)
        assert one.last.key_prefix == "abcdefgh"


async def test_a_key_comes_in_the_first_message():
    """For clients that can neither set headers nor subprotocols."""
    async with sockets(sim("ant"), **KEYS) as one, socket(one) as ws:
        await ask(ws, type="auth", key=SECRET)
        assert (await said(ws, until=lambda message: "type" in message)) == [{"type": "authenticated"}]
        await ask(ws, **ASK)
        assert (await said(ws))[-1]["done"]


async def test_a_key_comes_in_a_header():
    """As on the HTTP routes."""
    sent = {"authorization": f"Bearer {SECRET}"}
    async with sockets(sim("ant"), **KEYS) as one, socket(one, additional_headers=sent) as ws:
        await ask(ws, **ASK)
        assert (await said(ws))[-1]["done"]


@pytest.mark.parametrize("way", ["none", "message", "subprotocol"])
async def test_a_wrong_or_missing_key_closes_with_4401(way):
    """The close code tells a bad key from all else."""
    protocols = ["sollol", "sollol_wrong"] if way == "subprotocol" else None
    async with sockets(sim("ant"), **KEYS) as one, socket(one, subprotocols=protocols) as ws:
        with contextlib.suppress(ConnectionClosed):
            await ask(ws, **({"type": "auth", "key": "sollol_wrong"} if way == "message" else ASK))
        with pytest.raises(ConnectionClosed) as closed:
            await said(ws, until=lambda message: "done" in message)
        assert closed.value.rcvd.code == 4401


@pytest.mark.parametrize(("origin", "welcome"), [("http://localhost:5173", True), ("https://example.org", False)])
async def test_a_pages_origin_is_judged(origin, welcome):
    """A foreign page does not even get a connection."""
    async with sockets(sim("ant")) as one:
        if welcome:
            async with socket(one, origin=origin) as ws:
                await ask(ws, **ASK)
                assert (await said(ws))[-1]["done"]
        else:
            with pytest.raises(InvalidStatus) as refused:
                await socket(one, origin=origin)
            assert refused.value.response.status_code == 403


async def test_without_a_gateway_the_socket_says_so():
    """A process that runs none closes with 1013."""
    async with address(around=served) as one, socket(one) as ws:
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()
        assert closed.value.rcvd.code == 1013


async def test_a_slow_reader_slows_the_node_down():
    """Nothing piles up here: the node is read no faster than the client reads."""
    line = json.dumps({"response": "x" * 50_000, "done": False}).encode() + b"\n"
    written = []

    async def answer(request):
        stream = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await stream.prepare(request)
        for _ in range(4000):
            await stream.write(line)
            written.append(len(line))
        await stream.write(json.dumps(FINAL).encode() + b"\n")
        return stream

    async with echo_node(answer) as node, sockets(node) as one, socket(one, "/ws/generate", max_queue=1) as ws:
        await ask(ws, model=MODEL, prompt="x")
        await ws.recv()
        before = -1
        while before != len(written):
            before = len(written)
            await asyncio.sleep(0.5)
        assert sum(written) < 40 << 20
        assert len(await said(ws)) == 4000


async def test_a_request_has_the_id_that_the_client_chose():
    """Under `request_id` the request is found while it runs and afterwards; the same at the same time is refused."""
    async with sockets(sim("ant", speed=5)) as one, socket(one) as ws, one.client() as client:
        await ask(ws, **ASK, id=1, request_id="bo-1")
        await one.until(lambda: one.gateway.told("bo-1") is not None)
        await ask(ws, **ASK, id=2, request_id="bo-1")
        fault = json.loads(await ws.recv())
        while fault.get("id") != 2:
            fault = json.loads(await ws.recv())
        assert (fault["status"], "runs already" in fault["error"]) == (400, True)
        await said(ws)
        assert (await client.get("/api/requests/bo-1")).json()["outcome"] == "served"


@pytest.mark.parametrize("odd", ["", "a b", 7, "x" * 65])
async def test_an_odd_request_id_is_refused(odd):
    """An id that could not be a header's is an error of that request, and the socket goes on."""
    async with sockets(sim("ant")) as one, socket(one) as ws:
        await ask(ws, **ASK, request_id=odd)
        assert json.loads(await ws.recv())["status"] == 400
        await ask(ws, **ASK)
        await said(ws)
