"""Which requests can be continued, and what a probe's answers tell of a model."""

import pytest

from routing.core.analysis import analyse
from routing.core.requests import Route
from routing.core.resuming import Behaviour, cuts, judged

HI = [{"role": "user", "content": "Hi"}]
SAID = [*HI, {"role": "assistant", "content": "Well"}]
CALLED = [*HI, {"role": "assistant", "content": "", "tool_calls": [{}]}]
THOUGHT = [*HI, {"role": "assistant", "content": "", "thinking": "Hm"}]
PARTS = [*HI, {"role": "assistant", "content": [{"type": "text", "text": "Well"}]}]
PICTURE = [{"role": "user", "content": [{"type": "image_url", "image_url": "data:;base64,aGk="}]}]
CHAT, V1, RAW = (Route.CHAT, {"messages": HI}), (Route.V1_CHAT, {"messages": HI, "stream": True}), Route.GENERATE


@pytest.mark.parametrize(
    ("route", "body", "expected"),
    [
        (*CHAT, True),
        (Route.CHAT, {"messages": HI, "stream": False}, False),
        (Route.CHAT, {"messages": HI, "format": ""}, True),
        (Route.CHAT, {"messages": HI, "format": "json"}, False),
        (Route.CHAT, {"messages": HI, "format": {"type": "object"}}, False),
        (Route.CHAT, {"messages": HI, "logprobs": False}, True),
        (Route.CHAT, {"messages": HI, "logprobs": True}, False),
        (Route.CHAT, {"messages": HI, "tools": [{"type": "function"}]}, True),
        (Route.CHAT, {"messages": HI, "_debug_render_only": True}, False),
        (Route.CHAT, {"messages": SAID}, True),
        (Route.CHAT, {"messages": [*HI, {"role": "Assistant", "content": 7}]}, False),
        (Route.CHAT, {"messages": [*HI, {"Role": "assistant", "Content": "Well"}]}, False),
        (Route.CHAT, {"messages": CALLED}, False),
        (Route.CHAT, {"messages": THOUGHT}, False),
        (Route.CHAT, {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, False),
        (Route.CHAT, {"messages": []}, False),
        (Route.CHAT, {"messages": "Hi"}, False),
        (Route.CHAT, {"messages": [*HI, 7]}, False),
        (*V1, True),
        (Route.V1_CHAT, {"messages": HI}, False),
        (Route.V1_CHAT, V1[1] | {"n": 1, "response_format": {"type": "text"}}, True),
        (Route.V1_CHAT, V1[1] | {"n": 2}, False),
        (Route.V1_CHAT, V1[1] | {"response_format": {"type": "json_schema"}}, False),
        (Route.V1_CHAT, V1[1] | {"logprobs": True}, False),
        (Route.V1_CHAT, V1[1] | {"messages": PARTS}, False),
        (Route.V1_CHAT, V1[1] | {"messages": PICTURE}, False),
        (RAW, {"prompt": "x", "raw": True}, True),
        (RAW, {"prompt": "x"}, False),
        (RAW, {"prompt": "x", "raw": "true"}, False),
        (RAW, {"prompt": "", "raw": True}, False),
        (RAW, {"prompt": "x", "raw": True, "suffix": "y"}, False),
        (RAW, {"prompt": "x", "raw": True, "context": [1]}, False),
        (RAW, {"prompt": "x", "raw": True, "template": "{{ .Prompt }}"}, False),
        (RAW, {"prompt": "x", "raw": True, "system": "y"}, False),
        (RAW, {"prompt": "x", "raw": True, "format": "json"}, False),
        (RAW, {"prompt": "x", "raw": True, "images": ["aGk="]}, False),
        (Route.V1_COMPLETIONS, {"prompt": "x", "stream": True}, False),
        (Route.V1_RESPONSES, {"input": "x", "stream": True}, False),
        (Route.V1_MESSAGES, V1[1], False),
        (Route.EMBED, {"input": "x"}, False),
    ],
)
def test_what_can_be_continued(route, body, expected):
    """Decided once, from the body alone."""
    assert analyse(route, {"model": "m"} | body).resumable is expected


LINES = ["one", "\n", "two", "\n", "three", "\n", "four", "\n", "five", "\n", "six"]
WORDS = ["The", " river", " keeps", " the", " small", " garden", " near", " a", " bridge."]


def test_cuts_lie_before_and_behind_white_space():
    """Both are needed to find out who trims; a text without white space in the right places gives fewer."""
    assert [(LINES[at - 1], LINES[at]) for at in cuts(LINES)] == [("two", "\n"), ("\n", "three")]
    assert [(WORDS[at - 1], WORDS[at]) for at in cuts(WORDS)] == [(" keeps", " the")]
    assert cuts(["one", " two"]) == cuts(list("onetwothreefour")) == cuts([]) == []


def continued(pieces, how):
    """How a model of this kind goes on with each part of a text."""
    return {at: how("".join(pieces[:at]), "".join(pieces[at:])) for at in cuts(pieces)}


def exactly(given, rest):
    return rest


def trimmed_behind(given, rest):
    """A template that drops the white space at the end of what it is given, so that the model says it again."""
    return given[len(given.rstrip()) :] + rest


KINDS = {
    "continues": (exactly, Behaviour.CONTINUE),
    "stops sooner": (lambda given, rest: exactly(given, rest)[:14], Behaviour.CONTINUE),
    "starts anew": (str.__add__, Behaviour.RESTART),
    "drops white space in front": (lambda given, rest: exactly(given, rest).lstrip(), Behaviour.TRIM),
    "says something else": (lambda *_: "I am sorry, but I cannot.", Behaviour.UNCLEAR),
    "says nothing": (lambda *_: "", Behaviour.UNCLEAR),
    "says too little": (lambda given, rest: exactly(given, rest)[:3], Behaviour.UNCLEAR),
}


@pytest.mark.parametrize("pieces", [LINES, WORDS])
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_model_does_is_told_apart(kind, pieces):
    """By what it said at first, and how it went on with parts of that."""
    how, behaviour = KINDS[kind]
    assert judged(pieces, continued(pieces, how)) is behaviour


def test_a_template_that_trims_what_it_is_given_is_found_out():
    """Only a part that ends in white space tells."""
    assert judged(LINES, continued(LINES, trimmed_behind)) is Behaviour.TRIM


def test_a_text_that_repeats_itself_tells_nothing():
    """Going on and starting anew look the same."""
    pieces = [" la"] * 12
    assert judged(pieces, continued(pieces, exactly)) is not Behaviour.CONTINUE
    assert judged(WORDS, {}) is Behaviour.UNCLEAR
