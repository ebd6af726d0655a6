"""The ways in which proxies in front of Ollama are known to break clients, one test each."""

import asyncio
import base64
import hashlib
import json
import time

import orjson
import pytest
from aiohttp import web
from backports import zstd

from routing.gateway.settings import GatewaySettings
from tests.fakes.address import CHAT, MESSAGES, address, sim
from tests.fakes.echo import FINAL, MODEL, echo_node
from tests.fakes.raw import raw_exchange

ASK = {"model": CHAT, "messages": MESSAGES}
WHOLE = {**ASK, "stream": False}
FORM = {"content-type": "application/x-www-form-urlencoded"}
BLOB = b"a model's weights" * 1000
DIGEST = hashlib.sha256(BLOB).hexdigest()


async def test_01_a_forms_content_type_is_no_matter():
    """`curl -d` sends a form's content type with JSON."""
    async with address(sim("ant")) as one, one.client() as client:
        answer = await client.post("/api/chat", content=json.dumps(WHOLE), headers=FORM)
        assert (answer.status_code, answer.json()["done"]) == (200, True)


async def test_02_a_delete_has_a_body():
    """The model to delete stands in the body of a DELETE."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        answer = await client.request("DELETE", "/api/delete", json={"model": CHAT})
        assert (answer.status_code, answer.content) == (200, b"")
        assert not any(node.library.find(CHAT) for node in one.nodes.values())


@pytest.mark.parametrize(("path", "length"), [("/", "17"), ("/api/tags", None), ("/api/version", None)])
async def test_03_head_is_answered(path, length):
    """The command line's heartbeat is HEAD /, with the length of the greeting."""
    async with address(sim("ant")) as one, one.client() as client:
        answer = await client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert length is None or answer.headers["content-length"] == length


async def test_04_a_known_blob_is_answered_before_its_body_is_read():
    """A second upload of the same file ends with its head."""
    async with address(sim("ant")) as one, one.client() as client:
        first = await client.post(f"/api/blobs/sha256:{DIGEST}", content=BLOB)
        head = f"POST /api/blobs/sha256:{DIGEST} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {1 << 30}\r\n\r\n"
        again = await raw_exchange(one.url, head.encode(), until=b"\r\n\r\n")
        assert (first.status_code, again.split(b"\r\n")[0]) == (201, b"HTTP/1.1 200 OK")


async def test_06_a_first_byte_after_minutes_is_waited_for():
    """Nothing but the connection has a time limit, whatever a load or a long prompt takes."""
    async with address(sim("ant", speed=200)) as one, one.client() as client:
        timeout = one.gateway.upstream._session.timeout
        assert (timeout.total, timeout.sock_read, timeout.connect) == (None, None, None)
        one.nodes["ant"].faults.slow_first_byte = 300.0
        began = time.monotonic()
        answer = await client.post("/api/chat", json=ASK)
        assert answer.status_code == 200
        assert time.monotonic() - began > 300 / 200


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/responses", "/v1/messages"])
async def test_07_a_client_that_leaves_ends_the_nodes_work(path):
    """Soon, before the first byte and in the middle of a stream."""
    body = {**ASK, "stream": True, "max_tokens": 500, "input": "Why?"}
    async with address(sim("ant", speed=2)) as one, one.client() as client:
        one.nodes["ant"].faults.slow_first_byte = 5.0
        task = asyncio.ensure_future(client.post(path, json=body))
        await one.until(lambda: one.asked("ant", path) == 1)
        task.cancel()
        await one.until(lambda: len(one.nodes["ant"].record.aborted) == 1, seconds=3.0)
        one.nodes["ant"].faults.slow_first_byte = 0.0
        async with client.stream("POST", path, json=body) as answer:
            await anext(answer.aiter_raw())
        await one.until(lambda: len(one.nodes["ant"].record.aborted) == 2, seconds=3.0)


async def test_08_each_object_is_passed_on_at_once():
    """What the node has said is with the client before the node says the next."""
    taken = asyncio.Event()

    async def answer(request):
        stream = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await stream.prepare(request)
        await stream.write(b'{"response":"a","done":false}\n')
        await taken.wait()
        await stream.write(json.dumps(FINAL).encode() + b"\n")
        return stream

    body = {"model": MODEL, "prompt": "x"}
    async with (
        echo_node(answer) as node,
        address(node) as one,
        one.client() as client,
        client.stream("POST", "/api/generate", json=body) as got,
    ):
        lines = got.aiter_lines()
        assert json.loads(await anext(lines))["response"] == "a"
        taken.set()
        assert json.loads(await anext(lines))["done"] is True


async def test_09_an_error_line_after_200_is_relayed():
    """An engine that fails in the middle says so in a last line."""
    async with address(sim("ant")) as one, one.client() as client:
        one.nodes["ant"].faults.error_after_chunks = 3
        answer = await client.post("/api/chat", json=ASK)
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert (answer.status_code, len(lines)) == (200, 4)
        assert list(lines[-1]) == ["error"]


async def test_10_a_stream_without_done_ends_as_it_is():
    """Nothing is added to a stream that the node ends properly without a last object."""
    async with address(sim("ant")) as one, one.client() as client:
        one.nodes["ant"].faults.eof_after_chunks = 3
        answer = await client.post("/api/chat", json=ASK)
        assert [json.loads(line)["done"] for line in answer.text.splitlines()] == [False] * 3


@pytest.mark.parametrize(
    ("keep_alive", "status"), [("0s", 200), (0, 200), (-1, 200), ("1h30m", 200), (0.5, 200), ("-1m", 200), ("300", 400)]
)
async def test_11_every_spelling_of_keep_alive_is_read(keep_alive, status):
    """Numbers and durations reach the node as they are; those that mean "now" unload on all nodes."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        for node in one.nodes.values():
            await client.post(f"{node.base_url}/api/generate", json={"model": CHAT})
        await one.until(lambda: all(len(state.resident) == 1 for state in one.gateway.dispatcher.nodes.values()))
        answer = await client.post("/api/generate", json={"model": CHAT, "keep_alive": keep_alive})
        assert answer.status_code == status
        if keep_alive in {"0s", 0}:
            assert answer.json()["done_reason"] == "unload"
            await one.until(lambda: not any(node.scheduler.runners for node in one.nodes.values()))


@pytest.mark.parametrize("body", [{"model": "", "name": CHAT}, {"model": CHAT, "name": ""}, {"name": CHAT}])
async def test_12_model_and_name_are_both_understood(body):
    """Go clients send both members, one of them empty."""
    async with address(sim("ant", models=[]), sim("bee")) as one, one.client() as client:
        assert (await client.post("/api/show", json=body)).json()["details"]
        assert (await client.request("DELETE", "/api/delete", json=body)).status_code == 200
        assert (await client.post("/api/pull", json={**body, "stream": False})).json() == {"status": "success"}
        assert all(node.library.find(CHAT) for node in one.nodes.values())


async def test_13_origins_are_judged_here_and_not_passed_on():
    """A page of this machine may ask, any other is refused; nodes never see an Origin."""
    async with echo_node() as node, address(node) as one, one.client() as client:
        asked = {"json": {"model": MODEL, "prompt": "x"}}
        good = await client.post("/api/generate", headers={"origin": "http://localhost:3000"}, **asked)
        bad = await client.post("/api/generate", headers={"origin": "https://example.org"}, **asked)
        assert (good.status_code, good.headers["access-control-allow-origin"]) == (200, "http://localhost:3000")
        assert good.headers["vary"] == "Origin"
        assert (bad.status_code, bad.content) == (403, b"")
        assert len(node.seen) == 1
        assert "origin" not in node.last.headers


async def test_13_a_preflight_is_answered():
    """A browser asks before it sends JSON; only the headers that this gateway reads are added to Ollama's own list."""
    asked = {"origin": "http://localhost:3000", "access-control-request-method": "POST"}
    async with address(sim("ant")) as one, one.client() as client:
        direct = await client.options(f"{one.nodes['ant'].base_url}/api/chat", headers=asked)
        through = await client.options("/api/chat", headers=asked)
        assert through.status_code == direct.status_code == 204
        for name in ("methods", "max-age", "origin"):
            assert (
                through.headers[f"access-control-{'' if name == 'max-age' else 'allow-'}{name}"]
                == (direct.headers[f"access-control-{'' if name == 'max-age' else 'allow-'}{name}"])
            )
        listed = "access-control-allow-headers"
        assert through.headers[listed].startswith(direct.headers[listed])
        assert through.headers.get_list("vary") == direct.headers.get_list("vary")


async def test_14_a_node_sees_its_own_host():
    """The Host that the client asked for stays here."""
    async with echo_node() as node, address(node) as one, one.client() as client:
        await client.post(
            "/api/generate", json={"model": MODEL, "prompt": "x"}, headers={"host": "localhost", "cookie": "a=b"}
        )
        assert node.last.headers["host"] == f"127.0.0.1:{node.port}"
        assert "cookie" not in node.last.headers


@pytest.mark.parametrize("name", ["Llama3.2:3B", CHAT, "library/llama3.2:3b", "registry.ollama.ai/library/LLAMA3.2:3b"])
async def test_15_the_answer_echoes_the_clients_spelling(name):
    """The model in the answer is spelled as in the request."""
    async with address(sim("ant")) as one, one.client() as client:
        answer = await client.post("/api/chat", json={**WHOLE, "model": name})
        assert answer.json()["model"] == name


async def test_16_a_line_of_eight_megabytes_passes():
    """No line is too long."""
    line = json.dumps({**FINAL, "response": "x" * (8 << 20)}).encode() + b"\n"

    async def answer(request):
        return web.Response(body=line, headers={"Content-Type": "application/x-ndjson"})

    async with echo_node(answer) as node, address(node) as one, one.client() as client:
        got = await client.post("/api/generate", json={"model": MODEL, "prompt": "x"})
        assert len(got.json()["response"]) == 8 << 20


async def test_17_an_image_of_fifty_megabytes_passes():
    """A large picture reaches the node whole."""
    picture = base64.b64encode(bytes(37 << 20)).decode()
    body = json.dumps({"model": MODEL, "prompt": "What is this?", "images": [picture], "stream": False}).encode()
    assert len(body) > 49 << 20
    async with echo_node() as node, address(node) as one, one.client() as client:
        answer = await client.post("/api/generate", content=body)
        assert answer.status_code == 200
        assert node.last.body == body


@pytest.mark.parametrize("spelling", [f"sha256:{DIGEST}", f"sha256-{DIGEST}", f"sha256%3A{DIGEST}"])
async def test_18_a_blob_is_found_under_every_spelling(spelling):
    """Colon, dash and an escaped colon are one."""
    async with address(sim("ant")) as one, one.client() as client:
        assert (await client.head(f"/api/blobs/{spelling}")).status_code == 404
        assert (await client.post(f"/api/blobs/{spelling}", content=BLOB)).status_code == 201
        assert (await client.head(f"/api/blobs/sha256:{DIGEST}")).status_code == 200


@pytest.mark.parametrize("name", ["ns/name", "ns%2Fname", "a/b/c"])
async def test_18_a_slash_in_a_models_name_matches_no_route(name):
    """/v1/models/{model} takes one segment, as Ollama's does."""
    async with address(sim("ant")) as one, one.client() as client:
        direct = await client.get(f"{one.nodes['ant'].base_url}/v1/models/{name}")
        through = await client.get(f"/v1/models/{name}")
        assert (through.status_code, through.content) == (direct.status_code, direct.content) == (404, direct.content)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "HEAD"])
@pytest.mark.parametrize(
    "path", ["/api/tags/", "//api/chat", "/api/./chat", "/api/x/../show", "/v1/models/", "/api/chat/?a=b"]
)
async def test_19_an_untidy_path_is_redirected(path, method):
    """A trailing slash, a doubled one and dot segments lead to the clean path, with the query."""
    async with address(sim("ant")) as one:
        port = one.nodes["ant"].port
        told = []
        for url in (f"http://127.0.0.1:{port}", one.url):
            head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            lines = (await raw_exchange(url, head.encode())).split(b"\r\n")
            location = next((line for line in lines if line.lower().startswith(b"location")), b"")
            told.append((lines[0].split()[1], location.partition(b":")[2].strip()))
        assert told[0] == told[1]


async def test_20_nothing_is_compressed():
    """Whatever the client accepts, bytes come as they are."""
    async with address(sim("ant")) as one, one.client() as client:
        for answer in (
            await client.post("/api/chat", json=ASK, headers={"accept-encoding": "gzip, br, zstd"}),
            await client.get("/api/tags", headers={"accept-encoding": "gzip, br, zstd"}),
        ):
            assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"model": CHAT, "input": "Why?"}),
        ("/v1/chat/completions", ASK),
        ("/v1/messages", {**ASK, "max_tokens": 20}),
        ("/v1/embeddings", {"model": "nomic-embed-text", "input": "a"}),
    ],
)
async def test_21_a_compressed_body_is_routed_by_what_it_holds(path, body):
    """Compressed bodies are understood on the /v1 routes; the node gets the bytes as they came."""
    packed = zstd.compress(json.dumps(body).encode())
    async with address(sim("bee", models=["llama3.1:8b"]), sim("ant")) as one, one.client() as client:
        answer = await client.post(path, content=packed, headers={"content-encoding": "zstd"})
        assert (answer.status_code, answer.headers["x-sollol-node"]) == (200, "ant")
        assert one.last.model == body["model"]


async def test_22_a_transcription_is_routed_by_its_form():
    """The model stands in a field behind the file."""

    async def answer(request):
        return web.Response(body=b'{"text":"hello"}\n', headers={"Content-Type": "application/json"})

    form = {"files": {"file": ("a.wav", bytes(3 << 20))}, "data": {"model": MODEL}}
    async with echo_node(answer) as node, address(sim("ant"), node) as one, one.client() as client:
        got = await client.post("/v1/audio/transcriptions", **form)
        assert (got.status_code, got.json(), got.headers["x-sollol-node"]) == (200, {"text": "hello"}, "echo")
        assert node.last.headers["content-type"].startswith("multipart/form-data; boundary=")
        assert len(node.last.body) == int(node.last.headers["content-length"]) > 3 << 20
        assert one.last.task_type == "transcription"


async def test_23_the_query_is_kept():
    """A signed request carries its time in the query."""
    async with echo_node() as node, address(node) as one, one.client() as client:
        await client.post("/api/generate?ts=1%2F2&x", json={"model": MODEL, "prompt": "x"})
        assert node.last.target == "/api/generate?ts=1%2F2&x"
        await client.post("/api/push?ts=5", json={"model": MODEL})
        assert node.last.target == "/api/push?ts=5"


async def test_24_members_are_read_as_go_reads_them():
    """Names in any case, and the last of equal ones, decide where a request goes."""
    body = f'{{"Model": "nobody", "MODEL": "{CHAT}", "messages": {json.dumps(MESSAGES)}, "stream": false}}'
    async with address(sim("bee", models=["llama3.1:8b"]), sim("ant")) as one, one.client() as client:
        answer = await client.post("/api/chat", content=body)
        assert answer.json()["_sollol_routing"]["host"] == "ant"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/tags"),
        ("GET", "/api/chat"),
        ("HEAD", "/api/ps"),
        ("PUT", "/api/delete"),
        ("GET", "/api/blobs/sha256:00"),
        ("POST", "/v1/models/x"),
        ("GET", "/v1/messages"),
        ("POST", "/"),
        ("GET", "/api/me"),
    ],
)
async def test_25_a_wrong_method_names_the_right_ones(method, path):
    """405 as text, with Allow in Ollama's order."""
    async with address(sim("ant")) as one, one.client() as client:
        direct = await client.request(method, f"{one.nodes['ant'].base_url}{path}")
        through = await client.request(method, path)
        assert (through.status_code, through.content) == (direct.status_code, direct.content)
        assert through.status_code == 405
        for name in ("allow", "content-type"):
            assert through.headers[name] == direct.headers[name]


async def test_a_body_above_the_limit_is_refused_clearly():
    """413 in the API's own envelope, naming the setting, whether the length is announced or not."""
    settings = GatewaySettings(poll=0.2, max_body=1 << 20)

    async def endless():
        for _ in range(40):
            yield bytes(1 << 16)

    async with address(sim("ant"), settings=settings) as one, one.client() as client:
        for content in (bytes(2 << 20), endless()):
            answer = await client.post("/v1/chat/completions", content=content)
            assert answer.status_code == 413
            assert "SOLLOL_MAX_BODY_MB" in answer.json()["error"]["message"]


async def test_headers_of_one_hop_stay_on_it():
    """What a Connection header names is not passed on, and neither are our own headers."""
    async with echo_node() as node, address(node) as one, one.client() as client:
        hop = {"connection": "keep-alive, x-private", "x-private": "1", "x-sollol-priority": "5", "te": "trailers"}
        await client.post("/api/generate", json={"model": MODEL, "prompt": "x"}, headers={**hop, "x-other": "2"})
        sent = node.last.headers
        assert sent["x-other"] == "2"
        assert not {"x-private", "x-sollol-priority", "te"} & sent.keys()


async def test_an_expectation_of_100_is_met():
    """A client that waits for the word to go on gets it, and the node never hears of it."""
    body = json.dumps({"model": MODEL, "prompt": "x"}).encode()
    head = (
        b"POST /api/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    async with echo_node() as node, address(node) as one:
        got = await raw_exchange(one.url, head, after=(b"100 Continue", body))
        assert b"HTTP/1.1 200" in got
        assert "expect" not in node.last.headers


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", WHOLE),
        ("/api/generate", {"model": CHAT, "prompt": "x", "stream": False}),
        ("/v1/chat/completions", ASK),
        ("/v1/responses", {"model": CHAT, "input": "x"}),
        ("/v1/messages", {**ASK, "max_tokens": 5}),
    ],
)
async def test_a_long_prompt_is_decoded_once(path, body, monkeypatch):
    """200 KB of text are read as JSON one time, whatever becomes of them."""
    long, decoded = "word " * 40_000, []
    loads = orjson.loads

    def counted(data):
        decoded.append(len(data))
        return loads(data)

    messages = [{"role": "user", "content": long}]
    body = {name: long if name in {"prompt", "input"} else value for name, value in body.items()}
    body = json.dumps(body | ({"messages": messages} if "messages" in body else {})).encode()
    nodes = [sim("ant"), sim("bee")]
    async with address(*nodes) as one, one.client() as client:
        monkeypatch.setattr("routing.gateway.bodies.orjson.loads", counted)
        await client.post(path, content=body)
        here = [size for size in decoded if size >= 200_000]
        # The nodes run in the same process, and each that is asked decodes the body once for itself.
        assert len(here) - sum(one.asked(name, path) for name in one.nodes) == 1
        assert one.last.prompt_tokens is None or one.last.prompt_tokens > 1000
