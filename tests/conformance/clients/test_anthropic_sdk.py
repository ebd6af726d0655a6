"""The Anthropic SDK against the running address."""

import asyncio

import anthropic
import pytest

from tests.conformance.clients.cast import ABOUT, CHAT, MESSAGES, NODES, PLACE, PNG_BASE64, SEER, THINKER, WEATHER

pytestmark = pytest.mark.timeout(240)
TOOL = {"name": "weather", "description": ABOUT, "input_schema": PLACE}
ASKED = {"model": CHAT, "max_tokens": 500, "messages": MESSAGES}


@pytest.fixture
def sdk(running_stack):
    with anthropic.Anthropic(base_url=running_stack.url, api_key="any") as one:
        yield one


def test_messages(sdk):
    """A whole answer, with usage."""
    answer = sdk.messages.create(**ASKED)
    assert answer.content[0].text
    assert answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens > 0


def test_system_and_limit(sdk):
    """A system text counts, and so does the most tokens."""
    short = sdk.messages.create(**{**ASKED, "max_tokens": 3}, system="You are Bo.")
    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 3)
    assert not sdk.messages.create(**ASKED).content[0].text.startswith(short.content[0].text)


def test_the_stream_helper(sdk):
    """The pieces are the text of the whole answer, and the SDK builds the message from the events."""
    with sdk.messages.stream(**ASKED) as stream:
        text = "".join(stream.text_stream)
        whole = stream.get_final_message()
    assert text == whole.content[0].text == sdk.messages.create(**ASKED).content[0].text
    assert whole.stop_reason == "end_turn"


def test_raw_events(sdk):
    """Events come in their order."""
    kinds = [event.type for event in sdk.messages.create(**ASKED, stream=True)]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


@pytest.mark.parametrize("streamed", [True, False])
def test_tools(sdk, streamed):
    """A tool is used, and the conversation goes on with its result."""
    asked = {**ASKED, "messages": WEATHER, "tools": [TOOL]}
    if streamed:
        with sdk.messages.stream(**asked) as stream:
            answer = stream.get_final_message()
    else:
        answer = sdk.messages.create(**asked)
    use = answer.content[-1]
    assert (answer.stop_reason, use.name, list(use.input)) == ("tool_use", "weather", ["place"])
    said = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "rain"}]}
    turn = {"role": "assistant", "content": answer.content}
    assert sdk.messages.create(**{**asked, "messages": [*WEATHER, turn, said]}).content[0].text


def test_thinking(sdk):
    """What a model thinks is a block of its own."""
    thinking = {"type": "enabled", "budget_tokens": 1024}
    answer = sdk.messages.create(**{**ASKED, "model": THINKER, "max_tokens": 2000}, thinking=thinking)
    assert [block.type for block in answer.content] == ["thinking", "text"]


def test_images(sdk):
    """A picture is seen."""
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG_BASE64}}
    asked = [{"role": "user", "content": [picture, {"type": "text", "text": "What is it?"}]}]
    assert sdk.messages.create(**{**ASKED, "model": SEER, "messages": asked}).usage.input_tokens > 256


def test_errors(sdk):
    """Each error is of the SDK's class for it and has the node's words."""
    with pytest.raises(anthropic.NotFoundError, match="model 'nobody' not found") as caught:
        sdk.messages.create(**{**ASKED, "model": "nobody"})
    assert caught.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.NotFoundError), sdk.messages.stream(**{**ASKED, "model": "nobody"}) as stream:
        stream.get_final_message()
    with pytest.raises(anthropic.BadRequestError, match="messages is required"):
        sdk.messages.create(**{**ASKED, "messages": []})
    with pytest.raises(anthropic.BadRequestError, match="max_tokens is required and must be positive"):
        sdk.messages.create(**{**ASKED, "max_tokens": 0})


def test_what_is_not_there(sdk):
    """Ollama does not count tokens in advance."""
    with pytest.raises(anthropic.NotFoundError):
        sdk.messages.count_tokens(model=CHAT, messages=MESSAGES)


def test_headers(sdk):
    """Raw answers show which node it was."""
    raw = sdk.messages.with_raw_response.create(**ASKED)
    assert raw.headers["x-sollol-node"] in NODES
    assert raw.parse().content[0].text


def test_leaving_a_stream(sdk, stalled):
    """Leaving a stream early frees the node."""
    with sdk.messages.stream(**ASKED) as stream:
        assert next(iter(stream.text_stream))
    stalled.noticed()


async def test_many_at_once(running_stack):
    """The asynchronous SDK, six whole answers and a stream."""
    async with anthropic.AsyncAnthropic(base_url=running_stack.url, api_key="any") as sdk:

        async def streamed():
            async with sdk.messages.stream(**ASKED) as stream:
                return await stream.get_final_text()

        text, *whole = await asyncio.gather(streamed(), *(sdk.messages.create(**ASKED) for _ in range(6)))
    assert {answer.content[0].text for answer in whole} == {text}
