"""Who may use the address, and in which words others are refused."""

import hashlib
import time

import httpx
import pytest

from routing.core.snapshot import Key, TeamPolicy
from routing.gateway.access import is_local
from routing.gateway.settings import GatewaySettings
from tests.fakes.address import CHAT, MESSAGES, address, sim

PLAIN = "sollol_bees0001_" + "x" * 43
BODY = {"model": CHAT, "messages": MESSAGES, "stream": False}
BEES = {7: TeamPolicy(7, "Bees", default_priority=6, highest_priority=8)}


def keys(plain=PLAIN, scopes=("inference",), expires_at=None):
    digest = hashlib.sha256(plain.encode()).hexdigest()
    return {digest: Key(digest, "bees0001", 7, frozenset(scopes), expires_at)}


def bearer(plain=PLAIN):
    return {"authorization": f"Bearer {plain}"}


async def test_a_key_names_the_team():
    """A request with a key is the team's, at the team's default priority."""
    async with address(sim("ant"), teams=BEES, keys=keys()) as one, one.client() as client:
        assert (await client.post("/api/chat", json=BODY, headers=bearer())).status_code == 200
        assert (one.last.team_id, one.last.key_prefix, one.last.priority) == (7, "bees0001", 6)


@pytest.mark.parametrize(
    ("headers", "body", "priority"),
    [
        ({}, {}, 6),
        ({}, {"priority": 3}, 3),
        ({}, {"priority": 10}, 6),
        ({}, {"priority": "high"}, 6),
        ({"x-sollol-priority": "2"}, {"priority": 7}, 2),
        ({"x-sollol-priority": "10"}, {}, 6),
    ],
)
async def test_the_priority_is_asked_for_and_capped(headers, body, priority):
    """Header before body before the team's default, never above what the team may ask for."""
    async with address(sim("ant"), teams=BEES, keys=keys()) as one, one.client() as client:
        await client.post("/api/chat", json=BODY | body, headers=bearer() | headers)
        assert one.last.priority == priority


@pytest.mark.parametrize("value", ["0", "11", "high", "-1", "1.5", ""])
async def test_a_priority_that_is_none_is_refused(value):
    """A header that only the gateway reads is checked by the gateway."""
    async with address(sim("ant")) as one, one.client() as client:
        answer = await client.post("/api/chat", json=BODY, headers={"x-sollol-priority": value})
        assert answer.status_code == 400
        assert "from 1 (batch) to 10 (critical)" in answer.json()["error"]


async def test_our_keys_never_travel_to_a_node():
    """A node sees neither our key nor the client's Host, Origin or cookies."""
    async with address(sim("ant"), teams=BEES, keys=keys()) as one, one.client() as client:
        seen = []
        opened = one.gateway.upstream.open

        async def listening(node, method, target, headers=(), body=None):
            seen.append({name.lower() for name, _ in headers})
            return await opened(node, method, target, headers, body)

        one.gateway.inference.upstream = type("Spy", (), {"open": staticmethod(listening)})()
        sent = bearer() | {
            "origin": "http://localhost",
            "cookie": "sessionid=1",
            "user-agent": "test",
            "x-sollol-priority": "5",
        }
        await client.post("/api/chat", json=BODY, headers=sent)
        assert seen[0] & {"authorization", "host", "origin", "cookie", "x-sollol-priority"} == set()
        assert "user-agent" in seen[0]


async def test_any_other_bearer_counts_as_none():
    """SDKs insist on some key: one that does not look like ours is no key."""
    async with address(sim("ant")) as one, one.client() as client:
        answer = await client.post("/v1/chat/completions", json=BODY, headers=bearer("sk-anything"))
        assert (answer.status_code, one.last.team_id) == (200, None)


@pytest.mark.parametrize("expires", [None, 1.0])
async def test_a_wrong_or_expired_key_is_refused(expires):
    """A key that looks like ours must be one of ours, and valid."""
    known = keys(expires_at=expires) if expires else {}
    async with address(sim("ant"), teams=BEES, keys=known) as one, one.client() as client:
        native = await client.post("/api/chat", json=BODY, headers=bearer())
        compatible = await client.post("/v1/chat/completions", json=BODY, headers=bearer())
        assert (native.status_code, compatible.status_code) == (401, 401)
        assert native.headers["www-authenticate"] == "Bearer"
        assert native.json() == {"error": "this key is not known, expired or revoked"}
        assert compatible.json()["error"]["type"] == "api_error"
        assert not one.recorder.requests


async def test_a_key_without_the_scope_is_refused():
    """A key of no use for inference is told which scope is missing."""
    async with address(sim("ant"), teams=BEES, keys=keys(scopes=())) as one, one.client() as client:
        answer = await client.post("/api/chat", json=BODY, headers=bearer())
        assert (answer.status_code, answer.json()) == (403, {"error": "this key lacks the scope inference"})


async def test_deny_lets_nobody_in_without_a_key():
    """With anonymous use denied even this machine needs a key."""
    settings = GatewaySettings(anonymous="deny")
    async with address(sim("ant"), settings=settings, teams=BEES, keys=keys()) as one, one.client() as client:
        assert (await client.post("/api/chat", json=BODY)).status_code == 401
        assert (await client.get("/api/tags")).status_code == 401
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/api/tags", headers=bearer())).status_code == 200


@pytest.mark.parametrize(
    ("peer", "headers", "local"),
    [
        ("127.0.0.1", {b"host": b"127.0.0.1:8000"}, True),
        ("127.0.0.1", {b"host": b"localhost:8000"}, True),
        ("::1", {b"host": b"[::1]:8000"}, True),
        ("::ffff:127.0.0.1", {b"host": b"localhost"}, True),
        ("192.168.1.5", {b"host": b"localhost"}, False),
        ("127.0.0.1", {b"host": b"evil.example"}, False),
        ("127.0.0.1", {b"host": b"localhost.evil.example"}, False),
        ("127.0.0.1", {b"host": b"localhost", b"x-forwarded-for": b"1.2.3.4"}, False),
        ("127.0.0.1", {b"host": b"localhost", b"forwarded": b"for=1.2.3.4"}, False),
        ("127.0.0.1", {b"host": b"localhost", b"origin": b"http://localhost:3000"}, True),
    ],
)
def test_local_means_this_machine_itself(peer, headers, local):
    """Loopback peer and Host, nothing forwarded: else a proxy could let others use the fleet unseen."""
    assert is_local({"client": (peer, 1)}, headers) is local


async def test_too_large_a_body_is_refused():
    """A body above the limit is 413, declared or streamed."""
    settings = GatewaySettings(max_body=1 << 20)
    async with address(sim("ant"), settings=settings) as one, one.client() as client:
        declared = await client.post("/api/chat", content=b"x" * (1 << 21))
        assert (declared.status_code, "1 MiB" in declared.json()["error"]) == (413, True)

        async def pieces():
            for _ in range(4):
                yield b"x" * (1 << 19)

        with_chunks = await client.post("/api/chat", content=pieces())
        assert with_chunks.status_code == 413


@pytest.mark.parametrize(
    ("metadata", "headers", "member"), [("body", True, True), ("headers", True, False), ("off", False, False)]
)
async def test_routing_metadata_is_a_setting(metadata, headers, member):
    """Where an answer tells how it was routed is the operator's choice."""
    async with address(sim("ant"), settings=GatewaySettings(metadata=metadata)) as one, one.client() as client:
        answer: httpx.Response = await client.post("/api/chat", json=BODY)
        assert ("x-sollol-node" in answer.headers) is headers
        assert ("_sollol_routing" in answer.json()) is member


async def test_the_record_tells_what_happened():
    """One record per request: who, what, where, how long, how many tokens, and why there."""
    before = time.time()
    async with address(sim("ant")) as one, one.client() as client:
        answer = await client.post("/api/chat", json=BODY)
        record = one.last
        assert record.request_id == answer.headers["x-sollol-request-id"]
        assert (record.route, record.model, record.task_type, record.outcome, record.status) == (
            "/api/chat",
            CHAT,
            "chat",
            "served",
            200,
        )
        assert record.output_tokens == answer.json()["eval_count"]
        assert before <= record.started_at <= time.time()
        assert record.decision.as_dict()["node"] == "ant"


@pytest.mark.parametrize(
    ("host", "local", "status"),
    [
        ("127.0.0.1:8000", True, 200),
        ("192.168.1.5", True, 200),
        ("gpu.local", True, 200),
        ("llm.example.org", True, 200),
        ("evil.example.com", True, 403),
        ("8.8.8.8", True, 403),
        ("evil.example.com", False, 200),
    ],
)
async def test_a_loopback_gateway_for_all_judges_the_host(host, local, status):
    """A foreign page cannot reach it by a name that it makes lead here; who listens for all is reached by any name."""
    settings = GatewaySettings(poll=0.2, anonymous="allow", listens_locally=local, hosts=("llm.example.org",))
    async with address(sim("ant"), settings=settings) as one, one.client() as client:
        assert (await client.get("/api/tags", headers={"host": host})).status_code == status


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/api/pull", "models"),
        ("POST", "/api/push", "models"),
        ("POST", "/api/create", "models"),
        ("POST", "/api/copy", "models"),
        ("DELETE", "/api/delete", "models"),
        ("HEAD", "/api/blobs/sha256:00", "models"),
        ("POST", "/api/blobs/sha256:00", "models"),
        ("POST", "/api/me", "models"),
        ("POST", "/api/brand-new", "models"),
        ("POST", "/api/show", "inference"),
        ("GET", "/api/requests/x", "inference"),
        ("POST", "/v1/messages", "inference"),
    ],
)
async def test_a_key_may_do_what_its_scope_says(method, path, scope):
    """Using models is one thing, changing them another; without a key neither."""
    settings = GatewaySettings(poll=0.2, anonymous="deny")
    more, less = keys("sollol_bees0001_more", (scope,)), keys("sollol_bees0001_less")
    async with address(sim("ant"), teams=BEES, keys=more | less, settings=settings) as one, one.client() as client:
        assert (await client.request(method, path)).status_code == 401
        answers = [await client.request(method, path, headers=bearer(f"sollol_bees0001_{k}")) for k in ("more", "less")]
        assert [answer.status_code == 403 for answer in answers] == [False, scope == "models"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://0.0.0.0:3000", 200),
        ("app://obsidian.md", 200),
        ("vscode-webview://abc", 200),
        ("https://chat.example", 200),
        ("https://evil.example", 403),
        ("null", 403),
    ],
)
async def test_a_page_that_may_ask_needs_no_key_on_this_machine(origin, status):
    """What the preflight allows, the request may do."""
    settings = GatewaySettings(poll=0.2, origins=("https://chat.example",))
    async with address(sim("ant"), settings=settings) as one, one.client() as client:
        assert (await client.post("/api/chat", json=BODY, headers={"origin": origin})).status_code == status
