"""The Anthropic-compatible route: the native chat in Anthropic's words."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from aiohttp import web

from simulator.answer import ToolCall
from simulator.forms import Result
from simulator.http_answer import NO_HEADERS, body_answer
from simulator.routes_inference import chat_in_form
from simulator.text import count_tokens
from simulator.wire import EVENT_STREAM, JSON_PLAIN, JSON_UTF8, BadBody, Refusal, go_json, go_string, typed

if TYPE_CHECKING:
    from simulator.node import SimulatedNode

Body = Mapping[str, Any]
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens"}


def anthropic_refusal(refusal: Refusal) -> web.Response:
    """The error envelope of this API."""
    kind = _ERROR_TYPES.get(refusal.status, "api_error")
    request_id = f"req_{sha256(refusal.text.encode('utf-8', 'replace')).hexdigest()[:24]}"
    error = {"type": "error", "error": {"type": kind, "message": refusal.text}, "request_id": request_id}
    if isinstance(refusal, BadBody):
        return body_answer(go_json(error), JSON_UTF8, refusal.status)
    return body_answer(go_json(error) + b"\n", JSON_PLAIN, refusal.status)


class AnthropicForm:
    """/v1/messages. The events that belong to one token share a chunk."""

    content_type = EVENT_STREAM
    headers = NO_HEADERS

    def __init__(self, node: "SimulatedNode", model: str, input_tokens: int) -> None:
        """`input_tokens` is the estimate that opens a stream."""
        self._id = f"msg_{sha256(f'{node.name} {node.next_id()}'.encode()).hexdigest()[:24]}"
        self._model = model
        self._input_tokens = input_tokens
        self._block = -1
        self._open = ""

    def piece(self, stamp: bytes, text: str, *, thinking: bool, logprobs: list[dict[str, Any]] | None) -> bytes:
        kind = "thinking" if thinking else "text"
        opened = b"" if self._open == kind else self._opened(kind, {"type": kind, kind: ""})
        return b'%bevent: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%b}\n\n' % (
            opened,
            self._block,
            b'{"type":"%b_delta","%b":%b}' % (kind.encode(), kind.encode(), go_string(text)),
        )

    def calls(self, stamp: bytes, calls: Sequence[ToolCall]) -> bytes:
        events = b""
        for call in calls:
            block = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
            events += self._opened("tool_use", block)
            delta = {"type": "input_json_delta", "partial_json": json.dumps(call.arguments, separators=(",", ":"))}
            events += _event({"type": "content_block_delta", "index": self._block, "delta": delta})
        return events

    def closing(self, stamp: bytes, result: Result) -> list[bytes]:
        ending = {
            "type": "message_delta",
            "delta": {"stop_reason": _stop_reason(result)},
            "usage": _usage(result),
        }
        return [self._begun() + self._closed() + _event(ending), _event({"type": "message_stop"})]

    def whole(self, stamp: bytes, result: Result) -> web.Response:
        content: list[dict[str, Any]] = []
        if result.thinking:
            content.append({"type": "thinking", "thinking": result.thinking})
        if result.content:
            content.append({"type": "text", "text": result.content})
        content += [{"type": "tool_use", "id": c.id, "name": c.name, "input": c.arguments} for c in result.calls]
        message = {**self._message(), "content": content, "stop_reason": _stop_reason(result), "usage": _usage(result)}
        return body_answer(go_json(message) + b"\n", JSON_PLAIN)

    def failure(self, text: str) -> list[bytes]:
        """The stream just ends."""
        return []

    def _message(self) -> dict[str, Any]:
        return {"id": self._id, "type": "message", "role": "assistant", "model": self._model}

    def _begun(self) -> bytes:
        if self._block >= 0:
            return b""
        usage = {"input_tokens": self._input_tokens, "output_tokens": 0}
        return _event({"type": "message_start", "message": {**self._message(), "content": [], "usage": usage}})

    def _closed(self) -> bytes:
        if not self._open:
            return b""
        self._open = ""
        return _event({"type": "content_block_stop", "index": self._block})

    def _opened(self, kind: str, block: Mapping[str, Any]) -> bytes:
        before = self._begun() + self._closed()
        self._block += 1
        self._open = kind
        return before + _event({"type": "content_block_start", "index": self._block, "content_block": block})


def _event(fields: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (fields["type"].encode(), go_json(fields))


def _stop_reason(result: Result) -> str | None:
    return "tool_use" if result.calls else _STOP_REASONS.get(result.done_reason)


def _usage(result: Result) -> dict[str, int]:
    return {"input_tokens": result.metrics.prompt_tokens, "output_tokens": result.metrics.tokens}


async def messages(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    name = typed(body, "model", str, "")
    most = typed(body, "max_tokens", int, 0)
    given = typed(body, "messages", list, [])
    if not name:
        raise BadBody("model is required")
    if most <= 0:
        raise BadBody("max_tokens is required and must be positive")
    if not given:
        raise BadBody("messages is required")
    native: list[dict[str, Any]] = []
    if system := _text_of(body.get("system")):
        native.append({"role": "system", "content": system})
    for message in given:
        native += _native_messages(message)
    thinking = body.get("thinking")
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    asked = {
        "model": name,
        "messages": native,
        "stream": typed(body, "stream", bool, default=False),
        "tools": [_native_tool(tool) for tool in typed(body, "tools", list, [])],
        "think": {"enabled": True, "adaptive": True, "disabled": False}.get(str(kind)),
        "options": {
            "num_predict": most,
            "stop": body.get("stop_sequences"),
            "temperature": body.get("temperature"),
            "top_p": body.get("top_p"),
            "top_k": body.get("top_k"),
        },
    }
    form = AnthropicForm(node, name, count_tokens(json.dumps(given)))
    return await chat_in_form(node, request, asked, form, relaxed=True)


def _native_tool(tool: Any) -> dict[str, Any]:
    fields = tool if isinstance(tool, dict) else {}
    return {"type": "function", "function": {"name": fields.get("name"), "parameters": fields.get("input_schema")}}


def _text_of(content: Any) -> str:
    """The text of a string or of a list of blocks."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    return "".join(str(block.get("text", "")) for block in blocks if isinstance(block, dict))


def _native_messages(message: Any) -> list[dict[str, Any]]:
    """One message may hold blocks that are several native ones: tool results are messages of their own."""
    if not isinstance(message, dict):
        raise BadBody("invalid message format")
    role, content = str(message.get("role", "")), message.get("content")
    if not isinstance(content, list):
        return [{"role": role, "content": _text_of(content)}]
    native: dict[str, Any] = {"role": role, "content": "", "thinking": "", "images": [], "tool_calls": []}
    results = []
    for block in content:
        match block.get("type") if isinstance(block, dict) else None:
            case "text":
                native["content"] += str(block.get("text", ""))
            case "thinking":
                native["thinking"] += str(block.get("thinking", ""))
            case "image":
                native["images"].append(block.get("source", {}).get("data", ""))
            case "tool_use":
                function = {"name": block.get("name"), "arguments": block.get("input")}
                native["tool_calls"].append({"id": block.get("id"), "function": function})
            case "tool_result":
                results.append({"role": "tool", "content": _text_of(block.get("content"))})
    filled = any(native[field] for field in ("content", "thinking", "images", "tool_calls"))
    return results + ([native] if filled or not results else [])
