"""A stream that broke off: what of it the client has, and how another node goes on with it so that nobody sees it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from routing.core.learner import Metrics
from routing.core.requests import Route
from routing.core.resuming import OnBreak, is_assistants
from routing.core.tickets import Lease
from routing.gateway import bodies
from routing.gateway.envelopes import go_escaped
from routing.gateway.intake import decompressed
from routing.gateway.journey import Journey
from routing.gateway.prefill import Prefills
from routing.gateway.relay import LARGEST_KEPT
from routing.upstream import wire
from routing.upstream.client import Body

CHOICES, ROLE, DONE = b'"choices":[', b'"role":', b"data: [DONE]\n\n"
#: What the first piece of a stream holds that begins with thoughts.
THOUGHTS = (b'"thinking":"', b'"reasoning":"')
#: What names a /v1 stream: the same in all its events.
HEAD = ("id", "object", "created", "model", "system_fingerprint")
NS = 1_000_000_000

Object = dict[str, Any]


class NotContinued(Exception):  # noqa: N818 (what happened, not a category)
    """What was sent holds something that no other node can be asked to go on with."""


@dataclass(slots=True)
class Resumption:
    """What the client has of a stream that broke off, over all attempts that gave some of it.

    `asked` is the request's decoded body of `size` bytes, `weights` what answered it, `began` when the first attempt
    was sent (seconds of the gateway's clock), `estimate` the prompt's tokens as the gateway guesses. `tokens` counts
    the objects with text that were sent, one token each; `times` how often another attempt went on; `first` is the
    first object. `ended` is the reason for which a /v1 stream has said that it ends, `counted` whether it has told its
    usage. Lost attempts took `load_s`, `prompt_s` and `output_s`; the running one was sent at `sent_at`.
    """

    route: Route
    asked: Object
    weights: str
    began: float
    estimate: int
    size: int = 0
    text: str = ""
    tokens: int = 0
    times: int = 0
    first: Object = field(default_factory=dict)
    ended: str = ""
    counted: bool = False
    load_s: float = 0.0
    prompt_s: float = 0.0
    output_s: float = 0.0
    sent_at: float = 0.0
    _head: bytes = b""
    _theirs: bytes = b""

    # What has been sent

    def take(self, objects: Sequence[bytes]) -> None:
        """Read what was sent since the last break. Raises `NotContinued` for thoughts, tool calls, or what is odd."""
        pieces = [self.text]
        for one in objects:
            value = wire.decode(one.removeprefix(b"data:"))
            if value is None:
                raise NotContinued("an object that is no JSON")
            self.first = self.first or value
            text = self._text_v1(value) if self.route is Route.V1_CHAT else self._text_native(value)
            if text:
                pieces.append(text)
                self.tokens += 1
        self.text = "".join(pieces)
        self._theirs = b""

    def _text_native(self, value: Object) -> str:
        if self.route is Route.GENERATE:
            return text_of(value, "response")
        message = value.get("message")
        return text_of(message, "content") if isinstance(message, dict) else ""

    def _text_v1(self, value: Object) -> str:
        self.counted = self.counted or isinstance(value.get("usage"), dict)
        text = ""
        for choice in choices_of(value):
            self.ended = choice.get("finish_reason") or self.ended
            text += text_of(choice["delta"], "content")
        return text

    def lost(self, sent_at: float, first_at: float, now: float, *, cold: bool) -> None:
        """Count the times of an attempt that broke off; what came before the first byte of a cold one was its load."""
        if cold:
            self.load_s += first_at - sent_at
        else:
            self.prompt_s += first_at - sent_at
        self.output_s += now - first_at

    # How it goes on

    @property
    def limit(self) -> int | None:
        """The tokens that the client allows in all; None where it set no limit."""
        if self.route is Route.V1_CHAT:
            return whole(self.asked.get("max_tokens"))
        options = self.asked.get("options")
        return whole(options.get("num_predict")) if isinstance(options, dict) else None

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be said: the stream had told its end, or used up what the client allows."""
        return bool(self.ended) or (self.limit is not None and self.tokens >= self.limit)

    async def following(self, *, thinks: bool) -> bytes:
        """The same as `body`, made in a thread where it is so large that it would hold up everybody else."""
        if self.size + len(self.text) <= bodies.LARGE:
            return self.body(thinks=thinks)
        return await asyncio.to_thread(self.body, thinks=thinks)

    def body(self, *, thinks: bool) -> bytes:
        """The request to the next node: the text so far given, as many tokens fewer allowed.

        A model that `thinks` is told not to begin with that now; so it was probed.
        """
        asked = dict(self.asked)
        if self.route is Route.GENERATE:
            asked["prompt"] += self.text
        else:
            asked["messages"] = prefilled(asked["messages"], self.text)
        if self.limit is not None:
            left = self.limit - self.tokens
            if self.route is Route.V1_CHAT:
                asked["max_tokens"] = left
            else:
                asked["options"] = {**asked["options"], "num_predict": left}
        if thinks and self.route is Route.CHAT:
            asked["think"] = False
        elif thinks and self.route is Route.V1_CHAT:
            asked.pop("reasoning", None)
            asked["reasoning_effort"] = "none"
        return bodies.encoded(asked)

    # What the client sees of the attempt that goes on

    def event(self, one: bytes) -> bytes:
        """An event of the resumed /v1 stream as one of the stream that broke: its id and time, no second role."""
        at = one.find(CHOICES)
        if at > 0 and one[:at] == self._theirs and ROLE not in one and wire.USAGE not in one:
            return self.head + one[at + len(CHOICES) :]
        value = wire.decode(one.removeprefix(b"data:"))
        if value is None or not isinstance(value.get("choices"), list):
            return one
        before = wire.decode(one[len(b"data:") : at].rstrip(b" ,") + b"}") if at > 0 else None
        if before is not None and "id" in before:
            self._theirs = one[:at]
        for choice in choices_of(value):
            choice["delta"].pop("role", None)
        if isinstance(value.get("usage"), dict):
            prompt, output = wire.openai_usage(value)
            value["usage"] |= self.usage(max(0, prompt - self.tokens), output)
        return event({**value, **self.named})

    def usage(self, prompt: int, output: int) -> dict[str, int]:
        """Counts over all attempts, of the prompt's tokens and those that the last attempt wrote."""
        output += self.tokens
        return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}

    @property
    def named(self) -> Object:
        return {name: self.first[name] for name in HEAD if name in self.first}

    @property
    def head(self) -> bytes:
        """What stands before the choices of each event."""
        if not self._head:
            self._head = b"data: " + go_escaped(orjson.dumps(self.named))[:-1] + b"," + CHOICES
        return self._head

    def final(self, value: Object) -> bytes:
        """The resumed stream's final native object, with counts and durations over all attempts."""
        told = dict(value)
        if prompt := int(wire.number(value.get("prompt_eval_count"))):
            told["prompt_eval_count"] = max(1, prompt - self.tokens)
        told["eval_count"] = int(wire.number(value.get("eval_count"))) + self.tokens
        for name, lost in self._durations(self.sent_at).items():
            told[name] = int(wire.number(value.get(name))) + int(lost * NS)
        return line(told)

    def _durations(self, until: float) -> dict[str, float]:
        return {
            "total_duration": until - self.began,
            "load_duration": self.load_s,
            "prompt_eval_duration": self.prompt_s,
            "eval_duration": self.output_s,
        }

    def closing(self, now: float) -> list[bytes]:
        """The objects that end a stream of which nothing is left to be said; the prompt's tokens are an estimate."""
        if self.route is Route.V1_CHAT:
            return self._closing_events()
        empty = {"response": ""} if self.route is Route.GENERATE else {"message": {"role": "assistant", "content": ""}}
        stamp = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        durations = {name: int(lost * NS) for name, lost in self._durations(now).items() if lost}
        counts = {"prompt_eval_count": self.estimate, "eval_count": self.tokens}
        model = {"model": self.first.get("model", ""), "created_at": stamp}
        return [line({**model, **empty, "done": True, "done_reason": "length", **durations, **counts})]

    def _closing_events(self) -> list[bytes]:
        events = []
        if not self.ended:
            choice = {"index": 0, "delta": {}, "finish_reason": "length"}
            events.append(event({**self.named, "choices": [choice]}))
        options = self.asked.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage") and not self.counted:
            events.append(event({**self.named, "choices": [], "usage": self.usage(self.estimate, 0)}))
        return [*events, DONE]

    def total(self, own: Metrics | None) -> Metrics:
        """What the whole request used, by what the last attempt told (None: no attempt told anything).

        Its prompt held what had been sent, which is therefore not counted twice.
        """
        if own is None:
            return Metrics(self.estimate, self.tokens, counted=False)
        prompt = max(0, own.prompt_tokens - self.tokens) if own.counted else self.estimate
        return Metrics(prompt, own.output_tokens + self.tokens, counted=own.counted, cut=own.cut)


def continuable(journey: Journey, lease: Lease, prefills: Prefills, first: bytes) -> bool:
    """Whether a stream that begins with this piece is kept, so that it can be continued should it break off.

    The request and its policy must allow it, and a probe must have shown that the model goes on; a raw prompt goes to
    any model as it is. No weights are known of what has no digest.
    """
    request = journey.ticket.request
    if not request.resumable or journey.terms.on_break is OnBreak.ERROR:
        return False
    if lease.remote or lease.weights == request.key or any(map(first.__contains__, THOUGHTS)):
        return False
    return request.route is Route.GENERATE or prefills.continues(lease.weights)


def thinks(lease: Lease) -> bool:
    """Whether the model of an attempt may think before it answers."""
    model = lease.node.models.get(lease.ticket.request.key)
    return model is not None and "thinking" in model.capabilities


async def taken_up(
    journey: Journey, lease: Lease, body: bytes | Body, encoding: bytes | None, now: float
) -> Resumption:
    """The resumption of a stream that has broken off at `now`, with all that was sent of it.

    Raises `NotContinued` where it is not to be continued.
    """
    seen = journey.seen
    kept, seen.kept = seen.kept, None
    if kept is None or not isinstance(body, bytes):
        raise NotContinued("such a stream does not go on elsewhere")
    resumption = seen.resumption or await begun(journey, lease, body, encoding)
    if LARGEST_KEPT - seen.room > bodies.LARGE:
        await asyncio.to_thread(resumption.take, kept)
    else:
        resumption.take(kept)
    resumption.lost(journey.sent_at, journey.first_at, now, cold=lease.cold)
    seen.resumption = resumption
    return resumption


async def begun(journey: Journey, lease: Lease, body: bytes, encoding: bytes | None) -> Resumption:
    """The first resumption of a request. Raises `NotContinued` where its body cannot be read."""
    readable = await asyncio.to_thread(decompressed, body) if encoding == b"zstd" else body
    asked = None if readable is None else await bodies.decoded(readable)
    if asked is None:
        raise NotContinued("its request cannot be read")
    request = journey.ticket.request
    return Resumption(
        request.route, dict(asked), lease.weights, journey.sent_at, request.prompt_tokens, size=len(readable or b"")
    )


def prefilled(messages: Sequence[Mapping[str, Any]], text: str) -> list[Any]:
    """The conversation with the text so far as its last message, joined to one that the client has begun itself."""
    if is_assistants(messages[-1]):
        return [*messages[:-1], {**messages[-1], "content": messages[-1]["content"] + text}]
    return [*messages, {"role": "assistant", "content": text}]


def choices_of(value: Object) -> list[Object]:
    """The choices of an event that say something."""
    choices = value.get("choices")
    found = choices if isinstance(choices, list) else []
    return [choice for choice in found if isinstance(choice, dict) and isinstance(choice.get("delta"), dict)]


def text_of(said: Mapping[str, Any], name: str) -> str:
    """The text of a message or a part of one. Raises `NotContinued` where it holds more than text."""
    for other in ("thinking", "reasoning", "tool_calls"):
        if said.get(other):
            raise NotContinued(f"{other} had been sent")
    text = said.get(name)
    return text if isinstance(text, str) else ""


def whole(limit: object) -> int | None:
    """A limit of tokens; below zero there is none."""
    if isinstance(limit, bool) or not isinstance(limit, int | float) or limit < 0:
        return None
    return int(limit)


def line(value: Object) -> bytes:
    return go_escaped(orjson.dumps(value)) + b"\n"


def event(value: Object) -> bytes:
    return b"data: " + go_escaped(orjson.dumps(value)) + b"\n\n"
