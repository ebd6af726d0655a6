"""ollama-js, under Node, against the running address."""

import json
from collections.abc import Callable
from functools import partial

import pytest

from tests.conformance.clients.cast import CHAT, EMBED, MESSAGES, PNG_BASE64, SEER, THINKER, TOOL, WEATHER
from tests.conformance.clients.conftest import OllamaJs
from tests.tooling.stack import Stack

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def node(ollama_js: OllamaJs, running_stack: Stack) -> Callable:
    """Run a script against the address; returns what it printed."""
    return partial(ollama_js.run, running_stack.url)


@pytest.fixture
def call(node: Callable) -> Callable:
    """Call a method of the library; returns its value, or its error."""

    def run(method: str, **argument: object):
        ended = node("call.mjs", method, *([json.dumps(argument)] if argument else []))
        return ended["value"] if "value" in ended else ended["error"]

    return run


def test_chat(call):
    """A whole answer says what a stream says."""
    whole = call("chat", model=CHAT, messages=MESSAGES)
    pieces = call("chat", model=CHAT, messages=MESSAGES, stream=True)
    assert [piece["done"] for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert "".join(piece["message"]["content"] for piece in pieces) == whole["message"]["content"]


def test_tools_formats_and_thinking(call):
    """What else a chat can be asked for."""
    called = call("chat", model=CHAT, messages=WEATHER, tools=[TOOL])
    assert called["message"]["tool_calls"][0]["function"]["name"] == "weather"
    assert isinstance(
        json.loads(call("chat", model=CHAT, messages=MESSAGES, format="json")["message"]["content"]), dict
    )
    thought = call("chat", model=THINKER, messages=MESSAGES, think=True, options={"num_predict": 80})
    assert thought["message"]["thinking"]


def test_images(call):
    """A picture is seen."""
    seen = call("chat", model=SEER, messages=[{**MESSAGES[0], "images": [PNG_BASE64]}])
    assert seen["prompt_eval_count"] > 256


def test_generate(call):
    """Streamed and not."""
    pieces = call("generate", model=CHAT, prompt="Once", stream=True)
    assert "".join(piece["response"] for piece in pieces) == call("generate", model=CHAT, prompt="Once")["response"]


def test_vectors(call):
    """Both routes."""
    assert [len(vector) for vector in call("embed", model=EMBED, input=["ant", "bee"])["embeddings"]] == [768, 768]
    assert len(call("embeddings", model=EMBED, prompt="ant")["embedding"]) == 768


def test_lists(call):
    """list, show, ps and version."""
    call("generate", model=CHAT, prompt="")
    assert CHAT in [model["model"] for model in call("list")["models"]]
    assert call("show", model=CHAT)["details"]["family"] == "llama"
    assert CHAT in [model["model"] for model in call("ps")["models"]]
    assert call("version")["version"].count(".") == 2


@pytest.mark.parametrize("stream", [True, False])
def test_an_unknown_model(call, stream):
    """The library finds the text of the error and its status."""
    refused = call("chat", model="nobody", messages=MESSAGES, stream=stream)
    assert refused == {"name": "ResponseError", "message": "model 'nobody' not found", "status": 404}


@pytest.mark.parametrize("which", ["each", "all"])
def test_abort(node, stalled, which):
    """One stream or all of a client are aborted in the middle, and the nodes are freed."""
    ended = node("abort.mjs", CHAT, which)
    assert [one["error"] for one in ended] == ["AbortError", "AbortError"]
    assert all(one["pieces"] for one in ended)
    stalled.noticed(2)


def test_many_at_once(node):
    """Six chats and a stream say the same."""
    assert len(set(node("together.mjs", CHAT))) == 1


def test_pull(call):
    """Progress ends in success, which the library waits for; a registry's refusal is thrown."""
    steps = call("pull", model=EMBED, stream=True)
    assert (steps[0]["status"], steps[-1]["status"]) == ("pulling manifest", "success")
    assert call("pull", model=EMBED)["status"] == "success"
    assert call("pull", model="nobody", stream=True)["message"] == "pull model manifest: file does not exist"
    assert call("pull", model="nobody")["message"] == "pull model manifest: file does not exist"


def test_create_copy_and_delete(call, new_name):
    """Models come and go; the library names what it deletes by `name` alone."""
    assert (
        call("create", model=new_name, stream=True, system="You are Bo.", **{"from": CHAT})[-1]["status"] == "success"
    )
    assert call("show", model=new_name)["system"] == "You are Bo."
    copy = f"copy-of-{new_name}"
    assert call("copy", source=new_name, destination=copy) == {"status": "success"}
    assert call("delete", model=copy) == {"status": "success"}
    assert call("delete", model=copy)["status"] == 404
    assert copy not in [model["model"] for model in call("list")["models"]]


def test_push_of_an_unknown_model(call):
    """Its error is thrown."""
    assert call("push", model="nobody", stream=True)["name"] == "Error"
