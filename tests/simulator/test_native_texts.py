"""The native routes, byte for byte."""

import asyncio
import json

import pytest

from tests.simulator.conftest import small

HELLO = [{"role": "user", "content": "hello"}]
JSON = "application/json; charset=utf-8"
TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust "
    "the context length in settings, or use a model with a longer context length"
)


@pytest.fixture
async def client(start):
    models = [
        small("ant:1b"),
        small("bee:1b", capabilities=("completion", "tools", "thinking", "insert")),
        small("cat:1b", capabilities=("embedding",), train_context=100),
    ]
    return (await start(models=models))[1]


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("chat", {}, 400, "model is required"),
        ("chat", {"model": "owl"}, 404, "model 'owl' not found"),
        ("chat", {"model": "cat:1b", "messages": HELLO}, 400, '"cat:1b" does not support chat'),
        (
            "chat",
            {"model": "ant:1b", "messages": HELLO, "tools": [{"function": {"name": "f"}}]},
            400,
            "registry.ollama.ai/library/ant:1b does not support tools",
        ),
        ("chat", {"model": "Ant:1B", "messages": HELLO, "think": True}, 400, '"Ant:1B" does not support thinking'),
        (
            "chat",
            {"model": "bee:1b", "messages": HELLO, "think": "hard"},
            400,
            'invalid think value: "hard" (must be "high", "medium", "low", "max", true, or false)',
        ),
        (
            "chat",
            {"model": "ant:1b", "messages": HELLO, "format": "xml"},
            500,
            'invalid format: "xml"; expected "json" or a valid JSON Schema object',
        ),
        ("chat", {"model": "ant:1b", "messages": [{"images": ["?"]}]}, 400, "illegal base64 data at input byte 0"),
        ("generate", {}, 404, "model '' not found"),
        ("generate", {"model": "owl"}, 404, "model 'owl' not found"),
        ("generate", {"model": "a b"}, 400, "invalid model name"),
        ("generate", {"model": "x:local:cloud"}, 400, 'use either :local or :cloud, not both: "x:local:cloud"'),
        (
            "generate",
            {"model": "owl", "raw": "x", "top_logprobs": 21},
            400,
            "json: cannot unmarshal string into Go struct field GenerateRequest.raw of type bool",
        ),
        ("generate", {"model": "owl", "top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20"),
        (
            "generate",
            {"model": "ant:1b", "prompt": "x", "keep_alive": "5d", "top_logprobs": 21},
            400,
            'time: unknown unit "d" in duration "5d"',
        ),
        (
            "generate",
            {"model": "cat:1b", "prompt": "x", "think": True},
            400,
            '"cat:1b" does not support thinking',
        ),
        (
            "generate",
            {"model": "ant:1b", "prompt": "x", "raw": True, "context": [1], "think": True},
            400,
            "raw mode does not support template, system, or context",
        ),
        ("chat", {"model": "a b"}, 400, "invalid model name"),
        ("chat", {"model": "x:cloud:local"}, 400, 'use either :local or :cloud, not both: "x:cloud:local"'),
        ("generate", {"model": "ant:1b", "top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20"),
        (
            "generate",
            {"model": "ant:1b", "prompt": "x", "raw": True, "system": "y"},
            400,
            "raw mode does not support template, system, or context",
        ),
        ("generate", {"model": "cat:1b", "prompt": "x"}, 400, '"cat:1b" does not support generate'),
        (
            "generate",
            {"model": "ant:1b", "prompt": "x", "suffix": "y"},
            400,
            "registry.ollama.ai/library/ant:1b does not support insert",
        ),
        (
            "generate",
            {"model": "ant:1b", "prompt": "x", "keep_alive": "300"},
            400,
            'time: missing unit in duration "300"',
        ),
        (
            "generate",
            {"model": "ant:1b", "prompt": "x" * 4000, "truncate": False, "options": {"num_ctx": 100}},
            400,
            TOO_LONG,
        ),
        ("embed", {"input": "x"}, 404, "model '' not found"),
        ("embed", {"model": "a b", "input": "x"}, 400, "invalid model name"),
        ("embed", {"model": "owl", "input": "x"}, 404, 'model "owl" not found, try pulling it first'),
        ("embed", {"model": "cat:1b", "input": 5}, 400, "invalid input type"),
        (
            "embed",
            {"model": "cat:1b", "input": "x" * 500, "truncate": False},
            400,
            "the input length exceeds the context length",
        ),
        ("embeddings", {"prompt": "x"}, 400, "model is required"),
        ("embeddings", {"model": "owl", "prompt": "x"}, 404, 'model "owl" not found, try pulling it first'),
        ("show", {}, 400, "model is required"),
        ("show", {"model": "a b"}, 400, "invalid model name"),
        ("show", {"model": "owl"}, 404, "model 'owl:latest' not found"),
        ("copy", {"source": "owl", "destination": "x"}, 404, 'model "owl" not found'),
        ("copy", {"source": "", "destination": "x"}, 400, 'source "" is invalid'),
        ("copy", {"source": "ant:1b", "destination": "a b"}, 400, 'destination "a b" is invalid'),
        ("show", {"model": "x:cloud:local"}, 400, 'use either :local or :cloud, not both: "x:cloud:local"'),
        ("pull", {"model": "a b"}, 400, "invalid model name"),
        ("pull", {"model": ""}, 400, "invalid model name"),
        ("push", {}, 400, "model is required"),
        ("create", {"model": "x"}, 400, "neither 'from' or 'files' was specified"),
    ],
)
async def test_refusals(client, path, body, status, text):
    """Each has its status and its exact text, with the charset of the handler and no newline."""
    got, headers, raw = await client.send("POST", f"/api/{path}", body)
    assert (got, json.loads(raw)) == (status, {"error": text})
    assert headers["Content-Type"] == JSON
    assert not raw.endswith(b"\n")


async def test_a_chat_stream_byte_for_byte(client):
    """One object in each chunk, the fields in the order of the Go structs, metrics in the last."""
    chunks = await client.chunks("/api/chat", model="ant:1b", messages=HELLO, options={"num_predict": 2})
    assert len(chunks) == 3
    assert all(chunk.count(b"\n") == 1 and chunk.endswith(b"\n") for chunk in chunks)
    first, _, last = (json.loads(chunk) for chunk in chunks)
    assert list(first) == ["model", "created_at", "message", "done"]
    assert (
        chunks[-1]
        .split(b'"created_at"')[1]
        .split(b",", 1)[1]
        .startswith(b'"message":{"role":"assistant","content":""},"done":true,"done_reason":"length","total_duration":')
    )
    assert list(last)[5:] == [
        "total_duration",
        "load_duration",
        "prompt_eval_count",
        "prompt_eval_duration",
        "eval_count",
        "eval_duration",
    ]


async def test_a_generate_stream_ends_with_its_context(client):
    """`response` and `done` are always there, and `context` comes before the metrics unless raw."""
    lines = await client.lines("/api/generate", model="ant:1b", prompt="x")
    assert list(lines[0]) == ["model", "created_at", "response", "done"]
    assert list(lines[-1])[:7] == [
        "model", "created_at", "response", "done", "done_reason", "context", "total_duration",
    ]  # fmt: skip
    raw = await client.lines("/api/generate", model="ant:1b", prompt="x", raw=True)
    assert "context" not in raw[-1]


async def test_stream_headers(client):
    """NDJSON, chunked, no Server, no compression."""
    headers = {"Accept-Encoding": "gzip"}
    asked = {"model": "ant:1b", "messages": HELLO}
    _, got, _ = await client.send("POST", "/api/chat", asked, headers=headers)
    assert got["Content-Type"] == "application/x-ndjson"
    assert got["Transfer-Encoding"] == "chunked"
    assert not {"Server", "Content-Encoding", "ETag", "Content-Length"} & set(got)


async def test_streamed_and_whole_answers_say_the_same(client):
    """Not streamed, the texts are joined."""
    lines = await client.lines("/api/chat", model="bee:1b", messages=HELLO)
    whole = await client.chat("bee:1b")
    assert whole["message"]["content"] == "".join(line["message"]["content"] for line in lines)
    assert whole["message"]["thinking"] == "".join(line["message"].get("thinking", "") for line in lines)
    assert whole["eval_count"] == len(lines) - 1


async def test_the_model_is_echoed_as_it_was_written(client):
    """Names match whatever their case, and the answer repeats the request's spelling."""
    assert (await client.chat("ANT:1b"))["model"] == "ANT:1b"


async def test_form_bodies_and_field_case(client):
    """The Content-Type of a request is ignored, and so is the case of its fields."""
    body = b'{"MODEL":"ant:1b","Messages":[{"Role":"user","CONTENT":"hello"}],"stream":false} and more'
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    _, _, raw = await client.send("POST", "/api/chat", body, headers=headers)
    assert json.loads(raw)["message"] == (await client.chat("ant:1b"))["message"]


async def test_a_body_of_fifty_megabytes(client):
    """There is no limit on the size of a request."""
    image = "A" * 50_000_000
    messages = [{"role": "user", "content": "x", "images": [image]}]
    assert (await client.post("/api/chat", model="ant:1b", messages=messages))["done"]


async def test_a_client_that_expects_to_be_asked_for_its_body(client):
    """100 Continue comes before the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.node.port)
    body = b'{"model":"ant:1b"}'
    head = b"POST /api/show HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % len(body))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
    writer.close()


async def test_long_answers_are_chunked(client):
    """Go knows the length of what fits its buffer of 2 KiB; an older client gets anything without chunks."""
    for number in range(10):
        await client.send("POST", "/api/copy", {"source": "ant:1b", "destination": f"copy{number}"})
    _, headers, _ = await client.send("GET", "/api/tags")
    assert headers["Transfer-Encoding"] == "chunked"
    reader, writer = await asyncio.open_connection("127.0.0.1", client.node.port)
    body = b'{"model":"ant:1b","prompt":"x"}'
    writer.write(b"POST /api/generate HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    raw = await reader.read(-1)
    assert b"Transfer-Encoding" not in raw
    assert raw.endswith(b"}\n")
    writer.close()


@pytest.mark.parametrize(
    ("method", "path", "status", "body", "extra"),
    [
        ("GET", "/", 200, b"Ollama is running", {"Content-Type": "text/plain; charset=utf-8"}),
        ("HEAD", "/", 200, b"", {"Content-Length": "17"}),
        ("HEAD", "/api/tags", 200, b"", {"Content-Type": JSON}),
        ("GET", "/api/version", 200, b'{"version":"0.33.0"}', {"Content-Type": JSON, "Content-Length": "20"}),
        ("GET", "/api/status", 200, b'{"cloud":{"disabled":false,"source":"none"}}', {}),
        ("GET", "/api/ps", 200, b'{"models":[]}', {}),
        ("GET", "/nowhere", 404, b"404 page not found", {"Content-Type": "text/plain"}),
        ("GET", "/v1/models/ns/name", 404, b"404 page not found", {}),
        ("POST", "/api/tags", 405, b"405 method not allowed", {"Allow": "HEAD, GET", "Content-Type": "text/plain"}),
        ("HEAD", "/api/ps", 405, b"", {"Allow": "GET"}),
        ("GET", "/api/delete", 405, b"405 method not allowed", {"Allow": "DELETE"}),
        ("GET", "/api/tags/", 301, b"", {"Location": "/api/tags"}),
        ("POST", "/api/chat/?a=1", 307, b"", {"Location": "/api/chat?a=1"}),
        ("POST", "//api/chat", 307, b"", {"Location": "/api/chat"}),
        ("POST", "/api/chat", 400, b'{"error":"missing request body"}', {"Content-Type": JSON}),
        ("POST", "/api/signout", 200, b"null", {}),
    ],
)
async def test_small_answers(client, method, path, status, body, extra):
    """Status, body and headers of what needs no model."""
    from yarl import URL  # noqa: PLC0415 - keeps the double slash as it is

    url = URL(client.node.base_url + path, encoded=True)
    async with client.session.request(method, url, allow_redirects=False) as answer:
        assert (answer.status, await answer.read()) == (status, body)
        assert {name: answer.headers.get(name) for name in extra} == extra


async def test_tags(client):
    """Newest first, digests of 64 hex digits, details and capabilities."""
    models = (await client.get("/api/tags"))["models"]
    assert [model["name"] for model in models] == ["ant:1b", "bee:1b", "cat:1b"]
    assert list(models[0]) == ["name", "model", "modified_at", "size", "digest", "details", "capabilities"]
    assert all(len(model["digest"]) == 64 for model in models)


async def test_show(client):
    """The old field `name` is taken when `model` is empty."""
    shown = await client.post("/api/show", model="", name="Bee:1b")
    assert shown["capabilities"] == ["completion", "tools", "thinking", "insert"]
    assert shown["model_info"]["llama.context_length"] == 131_072
    assert shown["details"]["parameter_size"] == "1B"


async def test_copy_and_delete(client):
    """A copy has the same digest; deleting takes its JSON in the body and answers nothing."""
    status, headers, body = await client.send("POST", "/api/copy", {"source": "ant:1b", "destination": "dog"})
    assert (status, body, "Content-Type" in headers) == (200, b"", False)
    models = {model["name"]: model["digest"] for model in (await client.get("/api/tags"))["models"]}
    assert models["dog:latest"] == models["ant:1b"]
    status, headers, body = await client.send("DELETE", "/api/delete", {"model": "", "name": "dog"})
    assert (status, body, "Content-Type" in headers) == (200, b"", False)
    status, _, body = await client.send("DELETE", "/api/delete", {"name": "dog"})
    assert (status, body) == (404, b'{"error":"model \'dog\' not found"}')


async def test_stop_sequences_end_an_answer(client):
    """The text ends before the first one, and the reason is stop."""
    whole = (await client.chat("ant:1b"))["message"]["content"]
    stop = whole[30:40]
    cut = await client.chat("ant:1b", options={"stop": [stop]})
    assert cut["message"]["content"] == whole[: whole.index(stop)]
    assert cut["done_reason"] == "stop"


async def test_long_conversations_lose_their_oldest_messages(client):
    """System and last message stay, and the prompt fits the context."""
    old = [{"role": "user", "content": f"{i} " * 100} for i in range(20)]
    messages = [{"role": "system", "content": "s"}, *old, *HELLO]
    answer = await client.post("/api/chat", model="ant:1b", messages=messages, options={"num_ctx": 256})
    assert answer["prompt_eval_count"] <= 256


async def test_log_probabilities(client):
    """Each chunk has its token's entry with as many alternatives as were asked for."""
    lines = await client.lines("/api/chat", model="ant:1b", messages=HELLO, logprobs=True, top_logprobs=3)
    [entry] = lines[0]["logprobs"]
    assert entry["token"] == lines[0]["message"]["content"]
    assert entry["bytes"] == list(entry["token"].encode())
    assert len(entry["top_logprobs"]) == 3


@pytest.mark.parametrize(
    ("path", "member", "kind"),
    [("chat", {"tools": 5}, "api.Tools"), ("generate", {"images": True}, "[]api.ImageData")],
)
async def test_what_must_be_a_list_is_refused_otherwise(client, path, member, kind):
    """In the words of Go's decoder."""
    status, _, body = await client.send("POST", f"/api/{path}", {"model": "bee:1b", "messages": HELLO, **member})
    assert status == 400
    assert json.loads(body)["error"].startswith("json: cannot unmarshal ")
    assert json.loads(body)["error"].endswith(kind)
