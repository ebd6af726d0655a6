"""The OpenAI SDK against the running address."""

import asyncio
import json

import openai
import pytest
from pydantic import BaseModel

from tests.conformance.clients.cast import CHAT, EMBED, MESSAGES, NODES, PNG_BASE64, SEER, THINKER, TOOL, WEATHER

pytestmark = pytest.mark.timeout(240)


class Sky(BaseModel):
    colour: str
    height: int


@pytest.fixture
def sdk(running_stack):
    with openai.OpenAI(base_url=f"{running_stack.url}/v1", api_key="any") as one:
        yield one


def test_chat(sdk):
    """A whole answer, with usage."""
    answer = sdk.chat.completions.create(model=CHAT, messages=MESSAGES)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens > 0


def test_chat_streams(sdk):
    """A stream with usage at its end, said in the same words."""
    chunks = list(
        sdk.chat.completions.create(model=CHAT, messages=MESSAGES, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == sdk.chat.completions.create(model=CHAT, messages=MESSAGES).choices[0].message.content
    assert chunks[-1].usage.completion_tokens > 0


def test_the_stream_helper(sdk):
    """The SDK's own collector of events builds the whole answer."""
    with sdk.chat.completions.stream(model=CHAT, messages=MESSAGES) as stream:
        whole = stream.get_final_completion()
    assert whole.choices[0].message.content
    assert whole.choices[0].finish_reason == "stop"


def test_tools(sdk):
    """A call has its arguments as text, and the conversation goes on with what the tool has said."""
    message = sdk.chat.completions.create(model=CHAT, messages=WEATHER, tools=[TOOL]).choices[0].message
    call = message.tool_calls[0]
    assert (call.function.name, list(json.loads(call.function.arguments))) == ("weather", ["place"])
    said = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    again = sdk.chat.completions.create(model=CHAT, messages=[*WEATHER, message, said], tools=[TOOL])
    assert again.choices[0].message.content


def test_structured_output(sdk):
    """An answer of a schema becomes an object of its class."""
    parsed = sdk.chat.completions.parse(model=CHAT, messages=MESSAGES, response_format=Sky)
    assert isinstance(parsed.choices[0].message.parsed, Sky)


def test_images(sdk):
    """A picture as a data address is seen."""
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG_BASE64}"}}
    parts = [{"type": "text", "text": "What is it?"}, picture]
    answer = sdk.chat.completions.create(model=SEER, messages=[{"role": "user", "content": parts}])
    assert answer.usage.prompt_tokens > 256


def test_reasoning(sdk):
    """What a thinking model thinks is in a field of its own, unless no effort is asked for."""
    asked = {"model": THINKER, "messages": MESSAGES, "max_tokens": 80}
    assert sdk.chat.completions.create(**asked).choices[0].message.reasoning
    without = sdk.chat.completions.create(**asked, reasoning_effort="none")
    assert not getattr(without.choices[0].message, "reasoning", None)


def test_completions(sdk):
    """The older completions route, streamed and not."""
    chunks = list(sdk.completions.create(model=CHAT, prompt="Once", stream=True))
    text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    assert text == sdk.completions.create(model=CHAT, prompt="Once").choices[0].text


def test_embeddings(sdk):
    """The SDK asks for base64 and gets the floats that the native route gives."""
    answer = sdk.embeddings.create(model=EMBED, input=["ant", "bee"])
    floats = sdk.embeddings.create(model=EMBED, input=["ant", "bee"], encoding_format="float")
    for one, other in zip(answer.data, floats.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)


def test_models(sdk):
    """Models by the SDK, all and one."""
    assert CHAT in [model.id for model in sdk.models.list()]
    assert sdk.models.retrieve(CHAT).id == CHAT
    with pytest.raises(openai.NotFoundError, match="model 'nobody:latest' not found"):
        sdk.models.retrieve("nobody")


def test_responses(sdk):
    """The newer route says the same as chat."""
    answer = sdk.responses.create(model=CHAT, input=MESSAGES[0]["content"])
    assert answer.status == "completed"
    assert answer.output_text == sdk.chat.completions.create(model=CHAT, messages=MESSAGES).choices[0].message.content
    assert answer.usage.output_tokens > 0


def test_responses_stream(sdk):
    """Its events come in their order and hold the whole answer."""
    events = list(sdk.responses.create(model=CHAT, input="Why is the sky blue?", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text


def test_responses_call_tools(sdk):
    """A flat function is called, and what it says is taken."""
    tool = {"type": "function", **TOOL["function"]}
    call = sdk.responses.create(model=CHAT, input=WEATHER, tools=[tool]).output[-1]
    assert (call.type, call.name) == ("function_call", "weather")
    said = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    asked = {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments}
    assert sdk.responses.create(model=CHAT, input=[*WEATHER, asked, said], tools=[tool]).output_text


def test_errors(sdk):
    """Each error is of the SDK's class for it and has the node's words."""
    with pytest.raises(openai.NotFoundError, match="model 'nobody' not found"):
        sdk.chat.completions.create(model="nobody", messages=MESSAGES)
    with pytest.raises(openai.NotFoundError, match="model 'nobody' not found"):
        sdk.chat.completions.create(model="nobody", messages=MESSAGES, stream=True)
    with pytest.raises(openai.NotFoundError, match="try pulling it first"):
        sdk.embeddings.create(model="nobody", input="ant")
    with pytest.raises(openai.NotFoundError, match="model 'nobody' not found"):
        sdk.responses.create(model="nobody", input="ant")
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model=CHAT, messages=[])
    assert caught.value.type == "invalid_request_error"


def test_a_route_that_is_not_there(sdk):
    """Images and moderations are not of Ollama."""
    with pytest.raises(openai.NotFoundError):
        sdk.moderations.create(input="ant")


def test_headers(sdk):
    """The SDK's raw answers show which node it was and how often it was tried."""
    raw = sdk.chat.completions.with_raw_response.create(model=CHAT, messages=MESSAGES)
    assert raw.headers["x-sollol-node"] in NODES
    assert raw.headers["x-sollol-attempts"] == "1"
    assert raw.parse().choices[0].message.content
    with sdk.chat.completions.with_streaming_response.create(model=CHAT, messages=MESSAGES, stream=True) as streamed:
        assert streamed.headers["x-sollol-node"] in NODES
        assert list(streamed.iter_lines())[-2:] == ["data: [DONE]", ""]


def test_priority_by_header_and_body(sdk):
    """What is SOLLOL's own goes by the SDK's extra headers and its extra body."""
    by_header = sdk.chat.completions.create(model=CHAT, messages=MESSAGES, extra_headers={"x-sollol-priority": "8"})
    by_body = sdk.chat.completions.create(model=CHAT, messages=MESSAGES, extra_body={"priority": 8})
    assert by_header.choices[0].message.content == by_body.choices[0].message.content


def test_leaving_a_stream(sdk, stalled):
    """Closing a stream early frees the node."""
    with sdk.chat.completions.create(model=CHAT, messages=MESSAGES, stream=True) as stream:
        assert next(iter(stream)).choices[0].delta.content
    stalled.noticed()


async def test_many_at_once(running_stack):
    """The asynchronous SDK chats, streams and embeds beside each other."""
    async with openai.AsyncOpenAI(base_url=f"{running_stack.url}/v1", api_key="any") as sdk:

        async def streamed():
            stream = await sdk.chat.completions.create(model=CHAT, messages=MESSAGES, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        chats = [sdk.chat.completions.create(model=CHAT, messages=MESSAGES) for _ in range(6)]
        vector = sdk.embeddings.create(model=EMBED, input="ant")
        text, vectors, *whole = await asyncio.gather(streamed(), vector, *chats)
    assert {answer.choices[0].message.content for answer in whole} == {text}
    assert len(vectors.data[0].embedding) == 768
