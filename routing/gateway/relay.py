"""From a node's answer to the client's, piece by piece, watching for the end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from routing.core.learner import Metrics
from routing.core.requests import EMBEDDING_ROUTES, Api, Profile, Route, Task
from routing.gateway.exchange import Exchange
from routing.upstream import wire
from routing.upstream.client import BREAKS, Answer, NodeFailed, broken

if TYPE_CHECKING:
    from routing.gateway.resumption import Resumption

Splice = Callable[[], bytes | None]
#: What ends one object of a stream: a line of NDJSON, an event of SSE.
SEPARATORS = {Api.OLLAMA: b"\n", Api.OPENAI: b"\n\n", Api.ANTHROPIC: b"\n\n"}
#: What the last event of a stream holds: of /v1/chat/completions, of /v1/messages, of /v1/responses (two ways).
DONE_EVENTS = (
    b"data: [DONE]",
    b"event: message_stop",
    b"event: response.completed",
    b"event: response.incomplete",
)
#: Bytes of a stream that are kept so that it can be continued, some 30,000 tokens; a longer one no longer can.
LARGEST_KEPT = 4 << 20
#: Errors in which the engine says that it died, so that the node failed and not the request.
DEATHS = (
    b"runner has unexpectedly stopped",
    b"llama runner process has terminated",
    b"llama-server process has terminated",
)
#: What the event of /v1 holds in which Ollama hides that its engine failed; the stream then ends as if all were well.
SWALLOWED = b'"model":""'
#: What holds words, thoughts or calls in an answer of any API, or in its message.
SAYING = ("response", "content", "text", "thinking", "reasoning", "tool_calls", "output")
#: Events of a /v1 stream in which there is no room for words: its reason to end, and that it has ended.
WORDLESS = 2
HIDDEN = "the engine failed in the middle of the answer; /v1 does not tell why"


@dataclass(slots=True)
class Relayed:
    """What was seen of a stream while it passed.

    `final` is the decoded last object of a native stream, or an answer of /v1 that is whole and tells its usage; `done`
    whether the stream said that it is complete, `error` the engine's own error object, `objects` how many objects were
    sent, `usage` prompt and answer tokens of a /v1 stream. `kept` are the objects sent since the last break, while the
    stream could be continued, and `room` the bytes that may still be; `resumption` is set once it was, after `before`
    objects of earlier attempts.
    """

    api: Api
    final: dict[str, Any] | None = None
    done: bool = False
    error: bytes = b""
    objects: int = 0
    usage: tuple[int, int] = (0, 0)
    pending: list[bytes] = field(default_factory=list)
    kept: list[bytes] | None = None
    room: int = LARGEST_KEPT
    resumption: "Resumption | None" = None
    before: int = 0

    def begin(self, kept: list[bytes] | None) -> None:
        """Another attempt's stream begins: what was left half received of an earlier one never existed."""
        self.pending.clear()
        self.kept, self.room, self.error, self.before = kept, LARGEST_KEPT, b"", self.objects

    def keep(self, one: bytes) -> None:
        assert self.kept is not None  # noqa: S101 (asked before)
        self.kept.append(one)
        self.room -= len(one)
        if self.room < 0:
            self.kept = None

    @property
    def died(self) -> bool:
        return any(words in self.error for words in DEATHS)

    def hollow(self, request: Profile, told: Metrics) -> bool:
        """Whether an answer is complete without a word in it, though words were asked for.

        A model that ends at once has made one token, which is counted; what has counted none has not worked.
        """
        if request.loads_only or request.max_tokens == 0 or request.route in EMBEDDING_ROUTES or told.output_tokens:
            return False
        if self.resumption is not None:
            return False  # all had been said before
        if self.final is not None:
            return self.objects <= 1 and not says(self.final)
        return told.counted or 0 < self.objects <= WORDLESS

    def metrics(self, request: Profile, first_s: float, output_s: float, *, warm: bool) -> Metrics:
        """What the answer tells of speeds: a native one by itself, a /v1 one by the times at which it passed.

        The time to a /v1 stream's first byte is its prompt's only where no model was loaded for it; a whole /v1 answer
        does not tell prompt and answer apart, and teaches neither.
        """
        if self.api is Api.OLLAMA:
            return wire.native_metrics(self.final or {})
        prompt, output = self.usage
        counted = prompt > 0 or output > 0
        alone = warm and (request.stream or request.task is Task.EMBEDDING)
        return Metrics(
            prompt_tokens=prompt or request.prompt_tokens,
            output_tokens=output or max(0, self.objects - self.before - 2),
            prompt_s=first_s if alone else 0.0,
            output_s=output_s if request.stream else 0.0,
            total_s=first_s + output_s,
            counted=counted,
        )


def says(final: dict[str, Any]) -> bool:
    """Whether a native object, or a whole answer of /v1, holds words, thoughts or calls of tools."""
    return any(final.get(name) for name in SAYING) or any(
        says(one) for one in (final.get("message"), *(final.get("choices") or ())) if isinstance(one, dict)
    )


async def relay_stream(exchange: Exchange, answer: Answer, first: bytes, seen: Relayed, splice: Splice) -> None:
    """Relay a stream, one write per object, from its first piece to its proper end.

    `splice()` gives the bytes of the routing member for the final native object, or None to leave it alone. Raises
    `NodeFailed` where the node's connection breaks, unless all had come, or the model's runner dies; what had come
    complete until then has been relayed, but not that error.
    """
    separator = SEPARATORS[seen.api]
    native = seen.api is Api.OLLAMA
    send, read, pending = exchange.send, answer.read, seen.pending
    resumed = seen.resumption is not None
    data = first
    objects: Sequence[bytes]
    while data:
        if not pending and data.endswith(separator) and data.count(separator) == 1:
            objects = (data,)
        else:
            objects = split(data, separator, pending)
        for one in objects:
            if native:
                if wire.NOT_DONE not in one or wire.DONE in one:
                    one = final_object(one, seen, splice)  # noqa: PLW2901 (the same object, with its routing member)
            elif resumed or wire.USAGE in one or one.startswith(DONE_EVENTS) or SWALLOWED in one:
                one = watch_event(one, seen)  # noqa: PLW2901 (the same event, under the first attempt's name)
            await send({"type": "http.response.body", "body": one, "more_body": True})
            # Counted and kept once it is sent: who is interrupted in sending has not sent it.
            seen.objects += 1
            if seen.kept is not None:
                seen.keep(one)
        try:
            data = await read()
        except BREAKS as error:
            if seen.done or seen.error:
                return  # all that matters had come
            raise broken(error) from None
    if pending:
        # Not ended by a separator, yet the node ended its answer properly: it is the node's word.
        rest = b"".join(pending)
        pending.clear()
        await exchange.write(final_object(rest, seen, splice) if native else watch_event(rest, seen))
        seen.objects += 1


def split(data: bytes, separator: bytes, pending: list[bytes]) -> Sequence[bytes]:
    """The complete objects in what has come so far; the rest stays in `pending`, joined once and not at every piece."""
    if separator not in data and not (pending and separator in pending[-1][-1:] + data[:1]):
        pending.append(data)
        return []
    data = b"".join((*pending, data))
    pending.clear()
    pieces = data.split(separator)
    rest = pieces.pop()
    if rest:
        pending.append(rest)
    return [piece + separator for piece in pieces]


def final_object(one: bytes, seen: Relayed, splice: Splice) -> bytes:
    """Look at an object that may be the last.

    `done` counts at its top level only, a tool argument may hold the same bytes.
    """
    value = wire.decode(one)
    if value is None:
        return one
    if "error" in value:
        seen.error = one
        if seen.died:
            raise NodeFailed(f"the model's runner died: {value['error']}", said=True)
    elif value.get("done") is True:
        seen.final, seen.done = value, True
        if seen.resumption is not None:
            one = seen.resumption.final(value)
        member = splice()
        if member is not None:
            return wire.spliced(one, b"_sollol_routing", member)
    return one


def watch_event(one: bytes, seen: Relayed) -> bytes:
    """Look at an event that may tell of the end; the same event as the client is to see it.

    Raises `NodeFailed` where it hides a failure and the stream can be continued; else the client gets what a lone node
    would have sent.
    """
    if SWALLOWED in one and seen.kept and SWALLOWED not in seen.kept[0]:
        raise NodeFailed(HIDDEN, said=True)
    if one.startswith(DONE_EVENTS):
        seen.done = True
    value = wire.decode(one[one.find(b"data:") + len(b"data:") :]) if wire.USAGE in one else None
    if value is not None:
        seen.usage = wire.openai_usage(value)
    return one if seen.resumption is None else seen.resumption.event(one)


def whole_answer(route: Route, body: bytes, seen: Relayed, splice: Splice) -> bytes:
    """The same for an answer that is one object."""
    seen.done = True
    value = wire.decode_tail(body) if route in EMBEDDING_ROUTES else wire.decode(body)
    if value is None:
        return body
    if seen.api is not Api.OLLAMA:
        seen.usage = wire.openai_usage(value)
        seen.final = value if "usage" in value else None
        return body
    seen.final, seen.done = value, value.get("done") is not False
    member = splice()
    return body if member is None else wire.spliced(body, b"_sollol_routing", member)
