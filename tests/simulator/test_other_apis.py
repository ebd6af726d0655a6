"""/v1/messages and /v1/responses."""

import json

import openai
import pytest

from tests.simulator.conftest import small

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def client(start):
    thinker = small("bee:1b", capabilities=("completion", "thinking", "tools"))
    return (await start(models=[small("ant:1b"), thinker]))[1]


def events(raw):
    """Names and data of server-sent events."""
    parts = [part.split(b"\ndata: ") for part in raw.removesuffix(b"\n\n").split(b"\n\n")]
    return [(name.removeprefix(b"event: ").decode(), json.loads(data)) for name, data in parts]


async def test_messages_say_what_chat_says(client):
    """Content blocks, stop reason and usage around the same text."""
    answer = await client.post("/v1/messages", model="bee:1b", messages=HELLO, max_tokens=500)
    native = (await client.chat("bee:1b"))["message"]
    assert [block["type"] for block in answer["content"]] == ["thinking", "text"]
    assert answer["content"][1]["text"] == native["content"]
    assert answer["stop_reason"] == "end_turn"
    assert answer["id"].startswith("msg_")


async def test_a_stream_of_messages(client):
    """The events in their order, without [DONE]."""
    asked = {"model": "bee:1b", "messages": HELLO, "max_tokens": 500, "stream": True}
    _, headers, raw = await client.send("POST", "/v1/messages", asked)
    names = [name for name, _ in events(raw)]
    assert headers["Content-Type"] == "text/event-stream"
    assert names[:3] == ["message_start", "content_block_start", "content_block_delta"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    texts = [data["delta"].get("text", "") for name, data in events(raw) if name == "content_block_delta"]
    assert "".join(texts) == (await client.chat("bee:1b"))["message"]["content"]


async def test_messages_with_blocks_and_tools(client):
    """A tool that the user names is used, and its result is answered in words."""
    tools = [{"name": "now", "input_schema": {"type": "object", "properties": {"zone": {"type": "string"}}}}]
    asked = {"model": "bee:1b", "max_tokens": 500, "tools": tools}
    question = {"role": "user", "content": [{"type": "text", "text": "call now please"}]}
    answer = await client.post("/v1/messages", **asked, messages=[question])
    assert answer["stop_reason"] == "tool_use"
    use = answer["content"][-1]
    assert list(use["input"]) == ["zone"]
    result = {"type": "tool_result", "tool_use_id": use["id"], "content": "noon"}
    turns = [question, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    assert (await client.post("/v1/messages", **asked, messages=turns))["stop_reason"] == "end_turn"


@pytest.mark.parametrize(
    ("body", "status", "kind", "text"),
    [
        ({"max_tokens": 5, "messages": HELLO}, 400, "invalid_request_error", "model is required"),
        (
            {"model": "ant:1b", "messages": HELLO},
            400,
            "invalid_request_error",
            "max_tokens is required and must be positive",
        ),
        ({"model": "ant:1b", "max_tokens": 5}, 400, "invalid_request_error", "messages is required"),
        ({"model": "owl", "max_tokens": 5, "messages": HELLO}, 404, "not_found_error", "model 'owl' not found"),
    ],
)
async def test_refused_messages(client, body, status, kind, text):
    """The envelope of this API."""
    got, _, raw = await client.send("POST", "/v1/messages", body)
    answer = json.loads(raw)
    assert (got, answer["type"], answer["error"]) == (status, "error", {"type": kind, "message": text})
    assert len(answer["request_id"]) == 28


async def test_responses_through_the_sdk(client):
    """Whole and streamed responses are understood and say the same."""
    async with openai.AsyncOpenAI(base_url=client.node.base_url + "/v1", api_key="x") as sdk:
        whole = await sdk.responses.create(model="bee:1b", input="hello")
        stream = await sdk.responses.create(model="bee:1b", input="hello", stream=True)
        got = [event async for event in stream]
    assert whole.output_text == (await client.chat("bee:1b"))["message"]["content"]
    assert "".join(event.delta for event in got if event.type == "response.output_text.delta") == whole.output_text
    assert [got[0].type, got[1].type, got[-1].type] == [
        "response.created",
        "response.in_progress",
        "response.completed",
    ]
    assert [event.sequence_number for event in got] == list(range(len(got)))


async def test_a_response_that_calls_a_function(client):
    """Function calls are items of the output."""
    tools = [{"type": "function", "name": "now", "parameters": {"type": "object", "properties": {}}}]
    answer = await client.post("/v1/responses", model="bee:1b", input="now?", tools=tools)
    assert [item["type"] for item in answer["output"]] == ["reasoning", "function_call"]


async def test_headers_of_streamed_responses(client):
    """This API alone adds two."""
    asked = {"model": "ant:1b", "input": "hello", "messages": HELLO, "stream": True}
    for path, added in (("/v1/responses", "no-cache"), ("/v1/chat/completions", None)):
        _, headers, _ = await client.send("POST", path, asked)
        assert (headers["Content-Type"], headers.get("Cache-Control")) == ("text/event-stream", added)


@pytest.mark.parametrize(
    ("path", "body", "content_type", "end"),
    [
        ("messages", b"", "application/json; charset=utf-8", b"}"),
        ("messages", {"model": "owl", "max_tokens": 5, "messages": HELLO}, "application/json", b"}\n"),
        ("chat/completions", b"{", "application/json; charset=utf-8", b"}"),
        ("chat/completions", {"model": "a b", "messages": HELLO}, "application/json", b"}\n"),
        ("responses", {"model": "owl", "input": "x"}, "application/json", b"}\n"),
    ],
)
async def test_who_refuses_shows(client, path, body, content_type, end):
    """What is refused before the native handler has a charset and no newline, what that refuses the reverse."""
    _, headers, raw = await client.send("POST", f"/v1/{path}", body)
    assert headers["Content-Type"] == content_type
    assert raw.endswith(end)
