"""What an inference answer looks like on the wire, one form for each API, and the numbers it reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import web

from simulator.answer import ToolCall
from simulator.http_answer import NO_HEADERS, body_answer
from simulator.wire import JSON_UTF8, NDJSON, error_json, go_json, go_string

NANOSECONDS = 1_000_000_000


@dataclass
class Metrics:
    """Durations in simulated seconds, as measured; counts in tokens."""

    total: float = 0.0
    load: float = 0.0
    prompt_tokens: int = 0
    prompt: float = 0.0
    tokens: int = 0
    decode: float = 0.0

    def fields(self) -> dict[str, int]:
        """The native fields, nanoseconds, zero ones left out."""
        values = {
            "total_duration": int(self.total * NANOSECONDS),
            "load_duration": int(self.load * NANOSECONDS),
            "prompt_eval_count": self.prompt_tokens,
            "prompt_eval_duration": int(self.prompt * NANOSECONDS),
            "eval_count": self.tokens,
            "eval_duration": int(self.decode * NANOSECONDS),
        }
        return {name: value for name, value in values.items() if value}


@dataclass
class Result:
    """An answer that is complete; `done_reason` is empty when it ended without one."""

    thinking: str
    content: str
    calls: Sequence[ToolCall]
    done_reason: str
    metrics: Metrics
    context: list[int] | None = None
    logprobs: list[dict[str, Any]] | None = None


class Form(Protocol):
    """How one API words an answer; `stamp` is created_at."""

    content_type: str
    headers: Mapping[str, str]
    """Those of a stream, besides its type."""

    def piece(self, stamp: bytes, text: str, *, thinking: bool, logprobs: list[dict[str, Any]] | None) -> bytes:
        """The object for one token."""

    def calls(self, stamp: bytes, calls: Sequence[ToolCall]) -> bytes:
        """The object for tool calls, which arrive whole."""

    def closing(self, stamp: bytes, result: Result) -> list[bytes]:
        """The objects that end a stream."""

    def whole(self, stamp: bytes, result: Result) -> web.Response:
        """The answer that is not streamed."""

    def failure(self, text: str) -> list[bytes]:
        """What a stream says when its work fails after the first object."""


class NativeForm:
    """What /api/generate and /api/chat have in common."""

    content_type = NDJSON
    headers = NO_HEADERS

    def __init__(self, model: str, remote: Mapping[str, str]) -> None:
        """`remote` are the fields of a model that runs elsewhere."""
        self._head = go_json({"model": model, **remote})[:-1] + b',"created_at":"'

    def failure(self, text: str) -> list[bytes]:
        return [error_json(text) + b"\n"]

    def _object(self, stamp: bytes, fields: dict[str, Any]) -> bytes:
        return self._head + stamp + b'",' + go_json(fields)[1:]


class GenerateForm(NativeForm):
    """/api/generate."""

    def piece(self, stamp: bytes, text: str, *, thinking: bool, logprobs: list[dict[str, Any]] | None) -> bytes:
        if thinking:
            return b'%b%b","response":"","thinking":%b,"done":false}\n' % (self._head, stamp, go_string(text))
        if logprobs:
            tail = b',"logprobs":' + go_json(logprobs)
            return b'%b%b","response":%b,"done":false%b}\n' % (self._head, stamp, go_string(text), tail)
        return b'%b%b","response":%b,"done":false}\n' % (self._head, stamp, go_string(text))

    def calls(self, stamp: bytes, calls: Sequence[ToolCall]) -> bytes:
        return self._object(stamp, {"response": "", "done": False, "tool_calls": _native_calls(calls)}) + b"\n"

    def closing(self, stamp: bytes, result: Result) -> list[bytes]:
        return [self._object(stamp, {"response": "", "done": True, **_ending(result)}) + b"\n"]

    def whole(self, stamp: bytes, result: Result) -> web.Response:
        fields: dict[str, Any] = {"response": result.content}
        if result.thinking:
            fields["thinking"] = result.thinking
        fields["done"] = bool(result.done_reason)
        fields |= _ending(result)
        if result.calls:
            fields["tool_calls"] = _native_calls(result.calls)
        if result.logprobs:
            fields["logprobs"] = result.logprobs
        return body_answer(self._object(stamp, fields), JSON_UTF8)


class ChatForm(NativeForm):
    """/api/chat."""

    def piece(self, stamp: bytes, text: str, *, thinking: bool, logprobs: list[dict[str, Any]] | None) -> bytes:
        if thinking:
            return b'%b%b","message":{"role":"assistant","content":"","thinking":%b},"done":false}\n' % (
                self._head,
                stamp,
                go_string(text),
            )
        tail = b',"logprobs":' + go_json(logprobs) if logprobs else b""
        return b'%b%b","message":{"role":"assistant","content":%b},"done":false%b}\n' % (
            self._head,
            stamp,
            go_string(text),
            tail,
        )

    def calls(self, stamp: bytes, calls: Sequence[ToolCall]) -> bytes:
        message = {"role": "assistant", "content": "", "tool_calls": _native_calls(calls)}
        return self._object(stamp, {"message": message, "done": False}) + b"\n"

    def closing(self, stamp: bytes, result: Result) -> list[bytes]:
        message = {"role": "assistant", "content": ""}
        return [self._object(stamp, {"message": message, "done": True, **_ending(result)}) + b"\n"]

    def whole(self, stamp: bytes, result: Result) -> web.Response:
        message: dict[str, Any] = {"role": "assistant", "content": result.content}
        if result.thinking:
            message["thinking"] = result.thinking
        if result.calls:
            message["tool_calls"] = _native_calls(result.calls)
        fields: dict[str, Any] = {"message": message, "done": bool(result.done_reason)}
        if result.done_reason:
            fields["done_reason"] = result.done_reason
        if result.logprobs:
            fields["logprobs"] = result.logprobs
        return body_answer(self._object(stamp, {**fields, **result.metrics.fields()}), JSON_UTF8)


def _native_calls(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    return [call.native(index) for index, call in enumerate(calls)]


def _ending(result: Result) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if result.done_reason:
        fields["done_reason"] = result.done_reason
    if result.context is not None:
        fields["context"] = result.context
    return fields | result.metrics.fields()
