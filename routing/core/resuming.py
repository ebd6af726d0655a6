"""Which streams may go on at another node when their own breaks off, and what probes say of a model's prefill; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from routing.core.requests import Route


class OnBreak(StrEnum):
    """What becomes of a stream that breaks off: it goes on at another node where that is right, or ends in an error."""

    CONTINUE = "continue"
    ERROR = "error"


class Behaviour(StrEnum):
    """What a model does with a conversation that ends in an unfinished assistant message.

    It goes on where that stops; drops white space between the two; answers from the beginning; or none of these.
    """

    CONTINUE = "continue"
    TRIM = "trim"
    RESTART = "restart"
    UNCLEAR = "unclear"


def resumable(route: Route, body: Mapping[str, Any], images: int) -> bool:
    """Whether a request's stream can be continued as far as its body tells.

    Not with images, a given form, or log probabilities; a generated text only where the prompt goes to the model as it
    is, since no other way to append to it is known to be the same.
    """
    if images or body.get("logprobs") or body.get("_debug_render_only"):
        return False
    if route is Route.GENERATE:
        return (
            body.get("raw") is True
            and is_text(body.get("prompt"))
            and not any(body.get(name) for name in ("format", "suffix", "template", "system", "context"))
        )
    if route is Route.CHAT:
        return not body.get("format") and may_be_prefilled(body.get("messages"))
    if route is Route.V1_CHAT:
        return (
            is_plain(body.get("response_format")) and is_one(body.get("n")) and may_be_prefilled(body.get("messages"))
        )
    return False


def may_be_prefilled(messages: object) -> bool:
    """Whether an assistant message can follow these, or their last, if it is one, can be made longer."""
    if not isinstance(messages, list) or not messages:
        return False
    last = messages[-1]
    if not isinstance(last, Mapping) or not is_text(last.get("role")):
        return False
    if not is_assistants(last):
        return True
    return isinstance(last.get("content"), str) and not (last.get("tool_calls") or last.get("thinking"))


def is_assistants(message: Mapping[str, Any]) -> bool:
    """Whether the assistant has said this; roles may be written in capitals."""
    return str(message.get("role")).lower() == "assistant"


def is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def is_plain(form: object) -> bool:
    return not form or (isinstance(form, Mapping) and form.get("type") == "text")


def is_one(number: object) -> bool:
    return number is None or number == 1


# What a probe tells


@dataclass(frozen=True, slots=True)
class Probed:
    """The result of one probe, to be kept: `at` in epoch seconds, `detail` what was seen where it is unclear."""

    digest: str
    model: str
    node: str
    behaviour: Behaviour
    at: float
    detail: str = ""


#: Characters in which a continuation must agree with what the model said before, at least; or all there are.
AGREEMENT = 12
#: Pieces of an answer that a probe needs at least, and how many must stand before a cut.
FEWEST, BEFORE = 6, 3


def cuts(pieces: Sequence[str]) -> list[int]:
    """Where an answer is to be cut so that its continuation tells most: before white space, and behind it.

    A template that trims is found out by the one, a node that trims by the other. Empty where there is no white space
    to trim, or too little text.
    """
    if len(pieces) < FEWEST:
        return []
    places = range(BEFORE, len(pieces) - 2)
    before = next((at for at in places if pieces[at][:1].isspace()), None)
    behind = next((at for at in places if pieces[at - 1][-1:].isspace() and not pieces[at][:1].isspace()), None)
    return [at for at in (before, behind) if at is not None]


def judged(pieces: Sequence[str], continuations: Mapping[int, str]) -> Behaviour:
    """What a model does, by an answer of it and by how it continued parts of that: number of pieces given -> text."""
    found = {judged_at("".join(pieces[:at]), "".join(pieces[at:]), said) for at, said in continuations.items()}
    for behaviour in (Behaviour.RESTART, Behaviour.TRIM, Behaviour.UNCLEAR):
        if behaviour in found:
            return behaviour
    return Behaviour.CONTINUE if found else Behaviour.UNCLEAR


def judged_at(given: str, rest: str, said: str) -> Behaviour:
    """The same of one part that was given, by what came after it in the answer and what was said to go on."""
    whole = given + rest
    if agrees(said, rest):
        # An answer that repeats itself looks the same from the beginning.
        return Behaviour.UNCLEAR if agrees(rest, whole) else Behaviour.CONTINUE
    if agrees(said.lstrip(), rest.lstrip()):
        return Behaviour.TRIM
    return Behaviour.RESTART if agrees(said.lstrip(), whole.lstrip()) else Behaviour.UNCLEAR


def agrees(said: str, expected: str) -> bool:
    """Whether a text begins as expected, for long enough that it is no chance."""
    length = min(len(said), len(expected))
    return length > 0 and (length >= AGREEMENT or said == expected) and said[:length] == expected[:length]
