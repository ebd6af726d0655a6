"""LiteLLM as a client of the running address, in Ollama's words and in OpenAI's."""

import asyncio
import importlib
import json

import pytest

from tests.conformance.clients.cast import CHAT, EMBED, MESSAGES, TOOL, WEATHER

pytestmark = pytest.mark.timeout(240)
#: No price list from the net, no reading of .env into this process.
OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_TELEMETRY": "False"}


@pytest.fixture(scope="module")
def litellm():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in OFFLINE.items():
            patch.setenv(name, value)
        module = importlib.import_module("litellm")
        patch.setattr(module, "telemetry", False)
        patch.setattr(module, "suppress_debug_info", True)
        yield module


@pytest.fixture(params=["ollama_chat", "openai"])
def way(request, running_stack):
    """How LiteLLM is told to speak: the model and the address."""
    if request.param == "ollama_chat":
        return {"model": f"ollama_chat/{CHAT}", "api_base": running_stack.url}
    return {"model": f"openai/{CHAT}", "api_base": f"{running_stack.url}/v1", "api_key": "any"}


def test_completion(litellm, way):
    """A whole answer, with usage."""
    answer = litellm.completion(**way, messages=MESSAGES)
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens > 0


def test_stream(litellm, way):
    """The pieces are the text of the whole answer."""
    chunks = list(litellm.completion(**way, messages=MESSAGES, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == litellm.completion(**way, messages=MESSAGES).choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_tools(litellm, way):
    """A call has its arguments as text."""
    answer = litellm.completion(**way, messages=WEATHER, tools=[TOOL])
    call = answer.choices[0].message.tool_calls[0].function
    assert (call.name, list(json.loads(call.arguments))) == ("weather", ["place"])


async def test_many_at_once(litellm, way):
    """Six at once."""
    answers = await asyncio.gather(*(litellm.acompletion(**way, messages=MESSAGES) for _ in range(6)))
    assert len({answer.choices[0].message.content for answer in answers}) == 1


def test_an_unknown_model(litellm, way):
    """The error has the node's words."""
    with pytest.raises(Exception, match="model 'nobody' not found"):
        litellm.completion(**{**way, "model": way["model"].replace(CHAT, "nobody")}, messages=MESSAGES)


def test_leaving_a_stream(litellm, running_stack, stalled):
    """Who leaves a stream frees the node."""
    stream = litellm.completion(
        model=f"openai/{CHAT}", api_base=f"{running_stack.url}/v1", api_key="any", messages=MESSAGES, stream=True
    )
    assert next(stream).choices[0].delta.content
    stream.completion_stream.close()
    stalled.noticed()


def test_generate(litellm, running_stack):
    """The provider `ollama` goes by generate."""
    answer = litellm.completion(model=f"ollama/{CHAT}", api_base=running_stack.url, messages=MESSAGES)
    assert answer.choices[0].message.content


def test_vectors(litellm, running_stack):
    """Both ways give the same vectors."""
    native = litellm.embedding(model=f"ollama/{EMBED}", input=["ant", "bee"], api_base=running_stack.url)
    others = litellm.embedding(
        model=f"openai/{EMBED}", input=["ant", "bee"], api_base=f"{running_stack.url}/v1", api_key="any"
    )
    for one, other in zip(native.data, others.data, strict=True):
        assert one["embedding"] == pytest.approx(other["embedding"], abs=1e-6)
