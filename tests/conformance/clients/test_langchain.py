"""langchain-ollama against the running address: ollama-python underneath, and always streams."""

import asyncio
import base64

import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from pydantic import BaseModel

from tests.conformance.clients.cast import CHAT, EMBED, MESSAGES, PNG, SEER, THINKER, WEATHER

pytestmark = pytest.mark.timeout(240)
WHY = MESSAGES[0]["content"]


class Sky(BaseModel):
    """What the sky is like."""

    colour: str
    height: int


@tool
def weather(place: str) -> str:
    """Tell the weather."""
    return f"rain in {place}"


@pytest.fixture
def chat(running_stack):
    return ChatOllama(model=CHAT, base_url=running_stack.url)


@pytest.fixture
def embedder(running_stack):
    return OllamaEmbeddings(model=EMBED, base_url=running_stack.url)


def test_invoke(chat):
    """A whole answer, with its counts and how it ended."""
    answer = chat.invoke(WHY)
    assert answer.content
    assert answer.usage_metadata["output_tokens"] > 0
    assert answer.response_metadata["done_reason"] == "stop"


def test_stream(chat):
    """The pieces are the text of the whole answer."""
    assert "".join(piece.content for piece in chat.stream(WHY)) == chat.invoke(WHY).content


def test_batch(chat):
    """Several at once, in the order of the questions."""
    questions = [f"Question {number}" for number in range(4)]
    assert [answer.content for answer in chat.batch(questions)] == [chat.invoke(one).content for one in questions]


async def test_async(chat, embedder):
    """ainvoke, astream and vectors beside each other."""

    async def streamed():
        return "".join([piece.content async for piece in chat.astream(WHY)])

    answer, text, vector = await asyncio.gather(chat.ainvoke(WHY), streamed(), embedder.aembed_query("ant"))
    assert answer.content == text
    assert len(vector) == 768


def test_tools(chat):
    """A bound tool is called, and its result is taken."""
    bound = chat.bind_tools([weather])
    asked = HumanMessage(WEATHER[0]["content"])
    called = bound.invoke([asked])
    assert [call["name"] for call in called.tool_calls] == ["weather"]
    said = weather.invoke(called.tool_calls[0])
    assert isinstance(said, ToolMessage)
    assert bound.invoke([asked, called, said]).content


def test_structured_output(chat):
    """An answer of a schema becomes an object of its class."""
    assert isinstance(chat.with_structured_output(Sky).invoke(WHY), Sky)


def test_reasoning(running_stack):
    """What a model thinks is beside the answer."""
    thinker = ChatOllama(model=THINKER, base_url=running_stack.url, reasoning=True, num_predict=80)
    assert thinker.invoke(WHY).additional_kwargs["reasoning_content"]


def test_images(running_stack):
    """A picture is seen."""
    picture = {"type": "image_url", "image_url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"}
    seer = ChatOllama(model=SEER, base_url=running_stack.url)
    answer = seer.invoke([HumanMessage([{"type": "text", "text": "What is it?"}, picture])])
    assert answer.usage_metadata["input_tokens"] > 256


def test_completions(running_stack):
    """The older class goes by generate."""
    writer = OllamaLLM(model=CHAT, base_url=running_stack.url)
    assert "".join(writer.stream("Once")) == writer.invoke("Once")


def test_vectors(embedder):
    """Documents and a query."""
    documents = embedder.embed_documents(["ant", "bee"])
    assert [len(vector) for vector in documents] == [768, 768]
    assert embedder.embed_query("ant") == documents[0]


def test_models_are_validated(running_stack):
    """A model that is listed is found with and without its tag; another is not."""
    address = {"base_url": running_stack.url, "validate_model_on_init": True}
    ChatOllama(model=CHAT, **address)
    OllamaEmbeddings(model=EMBED, **address)
    with pytest.raises(ValueError, match="nobody"):
        ChatOllama(model="nobody", **address)


def test_an_unknown_model(running_stack):
    """The error is ollama-python's."""
    with pytest.raises(Exception, match="model 'nobody' not found"):
        ChatOllama(model="nobody", base_url=running_stack.url).invoke(WHY)


def test_leaving_a_stream(chat, stalled):
    """Who leaves the pieces frees the node."""
    pieces = chat.stream(WHY)
    assert next(pieces).content
    pieces.close()
    stalled.noticed()
