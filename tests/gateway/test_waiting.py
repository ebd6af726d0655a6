"""Requests that wait: their place by id, and signs of life on their connection."""

import asyncio
import hashlib
import json

import httpx
import pytest
from aiohttp import web

from routing.core.snapshot import Key, TeamPolicy
from routing.gateway.settings import GatewaySettings
from tests.fakes.address import CHAT, MESSAGES, address, sim
from tests.fakes.echo import MODEL, echo_node

STREAM = {"model": CHAT, "messages": MESSAGES, "stream": True}
ALIVE = GatewaySettings(poll=0.2, keepalive=0.05, native_keepalive=0.05)


def key_of(team, *scopes):
    """A key and its entry in a snapshot."""
    secret = f"sollol_{team}{'-'.join(scopes)}"
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return {"authorization": f"Bearer {secret}"}, {digest: Key(digest, f"team{team}", team, frozenset(scopes))}


async def ask(one, client, name, **more):
    """A request under way with an id of the client's own."""
    task = asyncio.ensure_future(client.post("/api/chat", json=STREAM, headers={"x-request-id": name, **more}))
    await one.until(lambda: name in one.gateway.inference.live)
    return task


async def test_a_requests_way_can_be_followed_by_its_id():
    """Waiting with its place and its start, then running with its node, then ended with its record."""
    async with address(sim("ant", speed=3, parallel=1)) as one, one.client() as client:
        tasks = [await ask(one, client, name) for name in ("a", "b", "c")]
        waiting = (await client.get("/api/requests/c")).json()
        assert (waiting["state"], waiting["position"], waiting["model"]) == ("waiting", 2, CHAT)
        assert 0 < waiting["predicted_start_s"] < waiting["predicted_finish_s"]
        running = (await client.get("/api/requests/a")).json()
        assert (running["state"], running["node"], running["decision"]["node"]) == ("running", "ant", "ant")
        for task in tasks:
            assert (await task).headers["x-sollol-request-id"] in {"a", "b", "c"}
        ended = (await client.get("/api/requests/c")).json()
        assert (ended["state"], ended["outcome"], ended["node"], ended["status"]) == ("ended", "served", "ant", 200)
        assert ended["output_tokens"] > 0


async def test_an_unknown_request_is_a_404():
    """With a body that says so."""
    async with address(sim("ant")) as one, one.client() as client:
        answer = await client.get("/api/requests/nobody")
        assert (answer.status_code, answer.json()) == (404, {"error": "request 'nobody' is not known"})


@pytest.mark.parametrize("odd", ["", "a b", "x" * 65, "ä", "-a", "a/b"])
async def test_an_odd_id_is_not_taken(odd):
    """It may be meant for somebody else on the way; the request gets one of ours."""
    async with address(sim("ant")) as one, one.client() as client:
        answer = await client.post("/api/chat", json=STREAM, headers={"x-request-id": odd.encode()})
        assert answer.status_code == 200
        assert len(answer.headers["x-sollol-request-id"]) == 24


async def test_an_id_that_is_in_use_is_not_taken_twice():
    """Two requests never share a record."""
    async with address(sim("ant", speed=5)) as one, one.client() as client:
        first = await ask(one, client, "a")
        second = await client.post("/api/chat", json=STREAM, headers={"x-request-id": "a"})
        assert second.headers["x-sollol-request-id"] != "a"
        assert (await first).headers["x-sollol-request-id"] == "a"


@pytest.mark.parametrize(
    ("who", "status"), [("mine", 200), ("colleague", 200), ("other team", 404), ("manager", 200), ("nobody", 404)]
)
async def test_a_team_sees_its_own_requests(who, status):
    """Others learn nothing, not even that it exists; who manages the fleet sees all."""
    mine, my_key = key_of(1, "inference")
    colleague, second = key_of(1, "inference", "models")
    other, third = key_of(2, "inference")
    manager, fourth = key_of(2, "manage")
    headers = {"mine": mine, "colleague": colleague, "other team": other, "manager": manager, "nobody": {}}[who]
    teams = {1: TeamPolicy(1, "bees"), 2: TeamPolicy(2, "cats")}
    keys = my_key | second | third | fourth
    async with address(sim("ant", speed=5), teams=teams, keys=keys) as one, one.client() as client:
        task = await ask(one, client, "a", **mine)
        live = await client.get("/api/requests/a", headers=headers)
        await task
        ended = await client.get("/api/requests/a", headers=headers)
        assert (live.status_code, ended.status_code) == (status, status)
        assert status == 404 or (live.json()["team"] == "bees" and "team_id" not in live.json())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
async def test_a_waiting_stream_gets_comments(path):
    """Lines that readers of events skip; the events themselves are as without them."""
    body = {**STREAM, "max_tokens": 10, "input": "Why?"}
    async with address(sim("ant"), settings=ALIVE) as one, one.client() as client:
        one.nodes["ant"].faults.slow_first_byte = 15.0
        answer = await client.post(path, json=body)
        parts = answer.text.split("\n\n")
        assert answer.headers["content-type"] == "text/event-stream"
        assert parts[0] == parts[1] == ": waiting"
        assert all(part.startswith(("data:", "event:")) for part in parts if part and not part.startswith(":"))
        assert one.last.outcome == "served"


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_a_waiting_native_stream_gets_objects_without_text(path):
    """No blank lines, which break clients; the whole text is the same."""
    body = {**STREAM, "prompt": "Why?"}
    async with address(sim("ant"), settings=ALIVE) as one, one.client() as client:
        quick = [json.loads(line) for line in (await client.post(path, json=body)).text.splitlines()]
        one.nodes["ant"].faults.slow_first_byte = 15.0
        slow = [json.loads(line) for line in (await client.post(path, json=body)).text.splitlines()]
        assert slow[0].keys() <= quick[0].keys()
        assert not text_of(slow[:1])
        assert text_of(slow) == text_of(quick)


def text_of(lines):
    return "".join(line.get("response", "") or line.get("message", {}).get("content", "") for line in lines)


async def test_quick_streams_and_whole_answers_get_no_sign():
    """Only who waits for a stream."""
    async with address(sim("ant"), settings=ALIVE) as one, one.client() as client:
        one.nodes["ant"].faults.slow_first_byte = 15.0
        answer = await client.post("/v1/chat/completions", json={**STREAM, "stream": False})
        assert answer.json()["object"] == "chat.completion"
        one.nodes["ant"].faults.slow_first_byte = 0.0
        assert ": waiting" not in (await client.post("/v1/chat/completions", json=STREAM)).text


@pytest.mark.parametrize(
    ("path", "words"),
    [("/v1/chat/completions", "data: {"), ("/v1/messages", "event: error\ndata: {"), ("/api/chat", '{"error"')],
)
async def test_an_error_after_signs_of_life_is_told_inside(path, words):
    """The status is gone, so the stream says it, and a /v1 stream does not look complete."""
    heard = asyncio.Event()

    async def fail(request):
        await heard.wait()
        return web.Response(status=500, body=b'{"error":"no room"}', headers={"Content-Type": "application/json"})

    async with echo_node(fail) as node, address(node, settings=ALIVE) as one, one.client() as client:
        body = {"model": MODEL, "messages": MESSAGES, "stream": True}
        text, whole = await read(client, path, body, heard)
        assert words in text
        assert "no room" in text
        assert whole is (path == "/api/chat")
        assert one.last.outcome == "failed"


async def read(client, path, body, heard):
    """What comes of a stream, and whether it ended properly; `heard` is set by its first piece."""
    text = ""
    async with client.stream("POST", path, json=body) as answer:
        try:
            async for piece in answer.aiter_text():
                text += piece
                heard.set()
        except httpx.RemoteProtocolError:
            return text, False
    return text, True


async def test_a_client_that_leaves_between_signs_is_noticed():
    """The node's work ends as without them."""
    async with address(sim("ant"), settings=ALIVE) as one, one.client() as client:
        one.nodes["ant"].faults.slow_first_byte = 5000.0
        async with client.stream("POST", "/v1/chat/completions", json=STREAM) as answer:
            await anext(answer.aiter_raw())
        await one.until(lambda: one.nodes["ant"].record.aborted)
