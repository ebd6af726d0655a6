"""Analysis: what kind of work a request is, how much, and never an exception."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.core.analysis import analyse, complexity_of, is_zero
from routing.core.requests import Route

CHAT = {"model": "llama3.2:3b"}


def chat(text, **more):
    return analyse(Route.CHAT, CHAT | {"messages": [{"role": "user", "content": text}]} | more)


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("Why is the sky blue?", "chat"),
        ("What is a brief history of Rome?", "chat"),
        ("Summarize the following article in two sentences: ...", "summarization"),
        ("Please write a short summary of this thread.", "summarization"),
        ("TL;DR please", "summarization"),
        ("Classify this review as positive or negative: great!", "classification"),
        ("Is this email spam? Answer yes or no.", "classification"),
        ("Extract all dates from the text below.", "extraction"),
        ("List all the names in this letter.", "extraction"),
        ("List three fruits.", "chat"),
        ("Analyze the performance of this quarter.", "analysis"),
        ("Analysis of data", "analysis"),
        ("Compare Postgres and SQLite.", "analysis"),
    ],
)
def test_the_task_is_read_from_the_wording(text, task):
    """The last instruction tells what is asked for."""
    assert chat(text).task == task


@pytest.mark.parametrize(
    ("route", "body", "task"),
    [
        (Route.GENERATE, {"prompt": "Once upon a time"}, "generation"),
        (Route.V1_COMPLETIONS, {"prompt": "Once"}, "generation"),
        (Route.EMBED, {"input": ["summarize this"]}, "embedding"),
        (Route.EMBEDDINGS, {"prompt": "classify"}, "embedding"),
        (Route.V1_EMBEDDINGS, {"input": "x"}, "embedding"),
        (Route.CHAT, {"messages": [{"role": "user", "content": "Bo is 7"}], "format": "json"}, "extraction"),
        (Route.V1_CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]}, "chat"),
    ],
)
def test_the_task_is_read_from_route_and_format(route, body, task):
    """Embeddings by their routes, structured output as extraction, otherwise what the route is for."""
    assert analyse(route, CHAT | body).task == task


def test_only_the_last_user_message_instructs():
    """What was asked before, and what the assistant said, is not what is asked now."""
    messages = [
        {"role": "user", "content": "Summarize this."},
        {"role": "assistant", "content": "Extract all names."},
        {"role": "user", "content": "Thanks! How are you?"},
    ]
    assert analyse(Route.CHAT, CHAT | {"messages": messages}).task == "chat"


@pytest.mark.parametrize(
    ("tokens", "messages", "complexity"),
    [
        (0, 1, "simple"),
        (499, 5, "simple"),
        (500, 1, "medium"),
        (1999, 5, "medium"),
        (2000, 1, "complex"),
        (10, 6, "complex"),
    ],
)
def test_complexity_has_its_bounds(tokens, messages, complexity):
    """Simple below 500 tokens, medium below 2000, complex from there or from six messages on."""
    assert complexity_of(tokens, messages) == complexity


def test_a_gpu_is_needed_for_images_and_for_more_than_simple_work():
    """Small talk and embeddings do without."""
    assert not chat("Hello").needs_gpu
    assert chat("word " * 600).needs_gpu
    assert chat("Hello", messages=[{"role": "user", "content": "Look", "images": ["aGk="]}]).needs_gpu
    assert not analyse(Route.EMBED, {"model": "m", "input": "word " * 5000}).needs_gpu


@pytest.mark.parametrize(
    ("route", "body", "loads", "unloads"),
    [
        (Route.GENERATE, {}, True, False),
        (Route.GENERATE, {"keep_alive": 0}, True, True),
        (Route.GENERATE, {"prompt": "", "keep_alive": "0s"}, True, True),
        (Route.GENERATE, {"prompt": "Hi", "keep_alive": 0}, False, False),
        (Route.CHAT, {"messages": []}, True, False),
        (Route.CHAT, {"messages": [], "keep_alive": -1}, True, False),
        (Route.CHAT, {"messages": [{"role": "user", "content": ""}]}, False, False),
        (Route.V1_CHAT, {"messages": []}, False, False),
    ],
)
def test_a_request_without_a_prompt_loads_or_unloads(route, body, loads, unloads):
    """An empty prompt is how Ollama's clients load a model, and with keep_alive 0 how they unload it."""
    profile = analyse(route, CHAT | body)
    assert (profile.loads_only, profile.unloads) == (loads, unloads)


@pytest.mark.parametrize("value", [0, 0.0, "0", "0s", "0m0s", "-0s", "0.0s"])
def test_zero_has_many_spellings(value):
    """Go's clients write zero as a duration."""
    assert is_zero(value)


@pytest.mark.parametrize("value", [None, False, 1, "5m", "", "0x", "s", [], "1m0s"])
def test_what_is_not_zero(value):
    """Everything else keeps the model loaded, or is the node's to refuse."""
    assert not is_zero(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    [
        "model",
        "messages",
        "prompt",
        "input",
        "options",
        "stream",
        "keep_alive",
        "images",
        "format",
        "priority",
        "max_tokens",
    ]
)
MESSAGES = st.lists(
    st.fixed_dictionaries({}, optional={"role": JSON, "content": JSON, "images": JSON}) | JSON, max_size=4
)


@given(st.sampled_from(list(Route)), st.dictionaries(FIELDS, JSON, max_size=8), st.none() | MESSAGES)
def test_odd_content_is_never_an_exception(route, body, messages):
    """Whatever stands in a body, there is a profile."""
    profile = analyse(route, body if messages is None else body | {"messages": messages})
    assert profile.prompt_tokens >= 0
