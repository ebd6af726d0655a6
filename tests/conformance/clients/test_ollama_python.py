"""ollama-python against the running address: it cannot tell it from one Ollama server."""

import json
import math
from concurrent.futures import ThreadPoolExecutor

import ollama
import pytest

from tests.conformance.clients.cast import CHAT, EMBED, MESSAGES, PNG, SEER, THINKER, TOOL, WEATHER
from tests.tooling.stack import Stack

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def client(running_stack: Stack) -> ollama.Client:
    return ollama.Client(host=running_stack.url)


def test_chat(client):
    """A whole answer, with its counts."""
    answer = client.chat(model=CHAT, messages=MESSAGES)
    assert answer.message.content
    assert answer.done
    assert answer.eval_count > 0


def test_chat_streams(client):
    """The pieces of a stream are the text of the whole answer."""
    pieces = list(client.chat(model=CHAT, messages=MESSAGES, stream=True))
    assert pieces[-1].done
    whole = client.chat(model=CHAT, messages=MESSAGES)
    assert "".join(piece.message.content for piece in pieces) == whole.message.content


def test_options_count(client):
    """Options reach the node: so many tokens and no more."""
    answer = client.chat(model=CHAT, messages=MESSAGES, options={"num_predict": 3}, keep_alive="10m")
    assert (answer.eval_count, answer.done_reason) == (3, "length")


def test_tools_are_called(client):
    """A call has its arguments, and the conversation goes on with what the tool has said."""
    answer = client.chat(model=CHAT, messages=WEATHER, tools=[TOOL])
    call = answer.message.tool_calls[0].function
    assert (call.name, list(call.arguments)) == ("weather", ["place"])
    said = {"role": "tool", "tool_name": "weather", "content": "rain"}
    assert client.chat(model=CHAT, messages=[*WEATHER, answer.message, said], tools=[TOOL]).message.content


def test_a_python_function_is_a_tool(client):
    """The client makes the schema of a function, and its calls come in a stream too."""

    def weather(place: str) -> str:
        """Tell the weather.

        Args:
            place: where
        """
        return place

    pieces = list(client.chat(model=CHAT, messages=WEATHER, tools=[weather], stream=True))
    calls = [call.function.name for piece in pieces for call in piece.message.tool_calls or ()]
    assert calls == ["weather"]


@pytest.mark.parametrize("form", ["json", {"type": "object", "properties": {"age": {"type": "integer"}}}])
def test_formats(client, form):
    """JSON when it is asked for, and of the schema that is given."""
    said = json.loads(client.chat(model=CHAT, messages=MESSAGES, format=form).message.content)
    assert isinstance(said, dict)
    assert form == "json" or isinstance(said["age"], int)


def test_thinking_is_apart(client):
    """A model that thinks says so in a field of its own, unless it is told not to."""
    limit = {"num_predict": 80}
    assert client.chat(model=THINKER, messages=MESSAGES, think=True, options=limit).message.thinking
    assert not client.chat(model=THINKER, messages=MESSAGES, think=False, options=limit).message.thinking


def test_thinking_of_a_model_that_cannot(client):
    """Its refusal is the node's."""
    with pytest.raises(ollama.ResponseError, match="does not support thinking") as caught:
        client.chat(model=CHAT, messages=MESSAGES, think=True)
    assert caught.value.status_code == 400


def test_images(client, tmp_path):
    """A picture by its path or its bytes is seen, and is not the same as none."""
    picture = tmp_path / "grey.png"
    picture.write_bytes(PNG)
    by_path = client.chat(model=SEER, messages=[{**MESSAGES[0], "images": [str(picture)]}])
    by_bytes = client.chat(model=SEER, messages=[{**MESSAGES[0], "images": [PNG]}])
    assert by_path.message.content == by_bytes.message.content
    assert by_path.prompt_eval_count > client.chat(model=SEER, messages=MESSAGES).prompt_eval_count


def test_generate(client):
    """Generate, streamed and not, says the same."""
    pieces = list(client.generate(model=CHAT, prompt="Once", stream=True))
    assert "".join(piece.response for piece in pieces) == client.generate(model=CHAT, prompt="Once").response


def test_generate_goes_on_with_a_context(client):
    """What was said before counts, on whichever node it was said."""
    first = client.generate(model=CHAT, prompt="Once")
    second = client.generate(model=CHAT, prompt="And then?", context=first.context)
    assert second.prompt_eval_count > first.eval_count
    assert second.response != client.generate(model=CHAT, prompt="And then?").response


def test_embed(client):
    """Vectors come in the order of the texts, normalised, and the same each time."""
    answer = client.embed(model=EMBED, input=["ant", "bee", "cat"])
    assert [list(client.embed(model=EMBED, input=text).embeddings[0]) for text in ("ant", "bee", "cat")] == [
        list(vector) for vector in answer.embeddings
    ]
    assert math.isclose(sum(x * x for x in answer.embeddings[0]), 1.0, abs_tol=1e-3)
    assert len(client.embed(model=EMBED, input="ant", dimensions=64).embeddings[0]) == 64


def test_embeddings(client):
    """The older route gives one vector."""
    assert len(client.embeddings(model=EMBED, prompt="ant").embedding) == 768


def test_lists(client):
    """list, show and ps read as from one server."""
    client.generate(model=CHAT, prompt="")
    assert CHAT in [model.model for model in client.list().models]
    shown = client.show(CHAT)
    assert shown.modelinfo
    assert "tools" in shown.capabilities
    assert CHAT in [model.model for model in client.ps().models]


def test_an_unknown_model(client):
    """An unknown model is the error that a node would give, streamed or not."""
    for stream in (False, True):
        with pytest.raises(ollama.ResponseError) as caught:
            list(client.chat(model="nobody", messages=MESSAGES, stream=stream))
        assert (caught.value.status_code, caught.value.error) == (404, "model 'nobody' not found")
    with pytest.raises(ollama.ResponseError, match='model "nobody" not found, try pulling it first'):
        client.embed(model="nobody", input="ant")


def test_leaving_a_stream(client, stalled):
    """Who breaks out of the loop frees the node."""
    stream = client.chat(model=CHAT, messages=MESSAGES, stream=True)
    assert next(stream).message.content
    stream.close()
    stalled.noticed()


def test_many_threads_share_a_client(client):
    """Ten at once, each its own answer."""
    asked = [[{"role": "user", "content": f"Question {number}"}] for number in range(10)]
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda messages: client.chat(model=CHAT, messages=messages).message.content, asked))
    assert answers[0] == client.chat(model=CHAT, messages=asked[0]).message.content
    assert len(set(answers)) == 10
