"""What each client makes of a stream that a dying node leaves unfinished: an error, never a whole answer."""

import asyncio
import json
from collections.abc import Callable

import anthropic
import httpx2
import ollama
import openai
import pytest
from langchain_ollama import ChatOllama

from tests.fakes.address import CHAT, MESSAGES, address, sim

pytestmark = pytest.mark.timeout(120)


def ollama_python(url: str) -> None:
    list(ollama.Client(host=url).chat(model=CHAT, messages=MESSAGES, stream=True))


def langchain(url: str) -> None:
    ChatOllama(model=CHAT, base_url=url).invoke("Why is the sky blue?")


def openai_chat(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any") as sdk:
        list(sdk.chat.completions.create(model=CHAT, messages=MESSAGES, stream=True))


def openai_responses(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any") as sdk:
        list(sdk.responses.create(model=CHAT, input="Why is the sky blue?", stream=True))


def anthropic_messages(url: str) -> None:
    with (
        anthropic.Anthropic(base_url=url, api_key="any") as sdk,
        sdk.messages.stream(model=CHAT, max_tokens=500, messages=MESSAGES) as stream,
    ):
        stream.get_final_message()


async def ends(client: Callable[[str], None], **faults: int) -> None:
    """Let a client talk to an address whose only node has these faults."""
    async with address(sim("ant")) as one:
        one.nodes["ant"].faults.set(**faults)
        await asyncio.to_thread(client, one.url)


@pytest.mark.parametrize("fault", ["reset_after_chunks", "cut_after_chunks", "error_after_chunks"])
@pytest.mark.parametrize("client", [ollama_python, langchain])
async def test_ollamas_own_clients_get_the_error_line(client, fault):
    """The last line says what happened, and the client raises it."""
    with pytest.raises(ollama.ResponseError):
        await ends(client, **{fault: 3})


@pytest.mark.parametrize("fault", ["reset_after_chunks", "cut_after_chunks"])
@pytest.mark.parametrize("client", [openai_chat, openai_responses, anthropic_messages])
async def test_the_sdks_see_the_connection_break(client, fault):
    """There is no orderly end, so that the SDK cannot take a part for the whole."""
    with pytest.raises((httpx2.TransportError, openai.APIError, anthropic.APIError)) as caught:
        await ends(client, **{fault: 3})
    assert getattr(caught.value, "status_code", 200) == 200


async def test_ollama_js_throws(ollama_js):
    """As with a single Ollama."""

    def javascript(url: str) -> None:
        asked = json.dumps({"model": CHAT, "messages": MESSAGES, "stream": True})
        assert ollama_js.run(url, "call.mjs", "chat", asked)["error"]["name"] == "Error"

    await ends(javascript, reset_after_chunks=3)
