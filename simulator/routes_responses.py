"""/v1/responses: the native chat in the words of OpenAI's newer API, without any state."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aiohttp import web

from simulator.answer import ToolCall
from simulator.forms import Result
from simulator.http_answer import body_answer
from simulator.routes_inference import chat_in_form
from simulator.routes_openai import IDS, native_message, read_effort
from simulator.wire import EVENT_STREAM, JSON_PLAIN, BadBody, go_json, go_string, typed

if TYPE_CHECKING:
    from simulator.node import SimulatedNode

Body = Mapping[str, Any]


class ResponsesForm:
    """One response object, or the events that build it; the events that belong to one token share a chunk."""

    content_type = EVENT_STREAM
    headers: Mapping[str, str] = MappingProxyType({"Cache-Control": "no-cache", "Connection": "keep-alive"})

    def __init__(self, node: "SimulatedNode", model: str) -> None:
        number = node.next_id() % IDS
        self._id = f"resp_{number}"
        self._item = f"msg_{number}"
        self._thought = f"rs_{number}"
        self._model = model
        self._created = int(node.clock.epoch())
        self._sequence = 0
        self._output: list[dict[str, Any]] = []
        self._open = ""
        self._text = ""
        self._begun = False

    def piece(self, stamp: bytes, text: str, *, thinking: bool, logprobs: list[dict[str, Any]] | None) -> bytes:
        kind = "reasoning" if thinking else "message"
        before = b"" if self._open == kind else self._start() + self._close() + self._begin(kind)
        self._text += text
        name = b"response.reasoning_summary_text.delta" if thinking else b"response.output_text.delta"
        where = b'"item_id":"%b","output_index":%d,"%b":0' % (
            (self._thought if thinking else self._item).encode(),
            len(self._output),
            b"summary_index" if thinking else b"content_index",
        )
        self._sequence += 1
        return b'%bevent: %b\ndata: {"type":"%b","sequence_number":%d,%b,"delta":%b}\n\n' % (
            before,
            name,
            name,
            self._sequence - 1,
            where,
            go_string(text),
        )

    def calls(self, stamp: bytes, calls: Sequence[ToolCall]) -> bytes:
        events = self._start() + self._close()
        for call in calls:
            item = _function_call(call)
            index = len(self._output)
            events += self._event("response.output_item.added", output_index=index, item={**item, "arguments": ""})
            where = {"item_id": item["id"], "output_index": index}
            arguments = item["arguments"]
            events += self._event("response.function_call_arguments.delta", **where, delta=arguments)
            events += self._event("response.function_call_arguments.done", **where, arguments=arguments)
            events += self._event("response.output_item.done", output_index=index, item=item)
            self._output.append(item)
        return events

    def closing(self, stamp: bytes, result: Result) -> list[bytes]:
        events = self._start() + self._close()
        response = {**self._response("completed"), "output": self._output, "usage": _usage(result)}
        return [events + self._event("response.completed", response=response)]

    def whole(self, stamp: bytes, result: Result) -> web.Response:
        output: list[dict[str, Any]] = []
        if result.thinking:
            output.append(self._reasoning(result.thinking))
        if result.content or not result.calls:
            output.append(self._message(result.content))
        output += [_function_call(call) for call in result.calls]
        response = {**self._response("completed"), "output": output, "usage": _usage(result)}
        return body_answer(go_json(response) + b"\n", JSON_PLAIN)

    def failure(self, text: str) -> list[bytes]:
        """The stream just ends."""
        return []

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = go_json({"type": kind, "sequence_number": self._sequence, **fields})
        self._sequence += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)

    def _response(self, status: str) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "model": self._model,
            "output": [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }

    def _start(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        response = self._response("in_progress")
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def _begin(self, kind: str) -> bytes:
        self._open, self._text = kind, ""
        index = len(self._output)
        if kind == "reasoning":
            item: dict[str, Any] = {"id": self._thought, "type": "reasoning", "summary": []}
            return self._event("response.output_item.added", output_index=index, item=item)
        item = {**self._message(""), "status": "in_progress", "content": []}
        return self._event("response.output_item.added", output_index=index, item=item) + self._event(
            "response.content_part.added",
            item_id=self._item,
            output_index=index,
            content_index=0,
            part=_text_part(""),
        )

    def _close(self) -> bytes:
        kind, self._open = self._open, ""
        index = len(self._output)
        if kind == "reasoning":
            item = self._reasoning(self._text)
            done = self._event(
                "response.reasoning_summary_text.done",
                item_id=self._thought,
                output_index=index,
                summary_index=0,
                text=self._text,
            )
        elif kind == "message":
            item = self._message(self._text)
            where = {"item_id": self._item, "output_index": index, "content_index": 0}
            done = self._event("response.output_text.done", **where, text=self._text)
            done += self._event("response.content_part.done", **where, part=_text_part(self._text))
        else:
            return b""
        self._output.append(item)
        return done + self._event("response.output_item.done", output_index=index, item=item)

    def _message(self, text: str) -> dict[str, Any]:
        return {
            "id": self._item,
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [_text_part(text)],
        }

    def _reasoning(self, text: str) -> dict[str, Any]:
        return {"id": self._thought, "type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _function_call(call: ToolCall) -> dict[str, Any]:
    return {
        "id": f"fc_{call.id}",
        "type": "function_call",
        "status": "completed",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.openai(0)["function"]["arguments"],
    }


def _usage(result: Result) -> dict[str, Any]:
    metrics = result.metrics
    return {
        "input_tokens": metrics.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": metrics.tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": metrics.prompt_tokens + metrics.tokens,
    }


async def responses(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    name = typed(body, "model", str, "")
    native: list[dict[str, Any]] = []
    if instructions := typed(body, "instructions", str, ""):
        native.append({"role": "system", "content": instructions})
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(items, list) or not items:
        raise BadBody("input is required")
    native += [message for item in items for message in _native_items(item)]
    text = body.get("text")
    asked_format = text.get("format") if isinstance(text, dict) else None
    schema = asked_format.get("schema") if isinstance(asked_format, dict) else None
    asked = {
        "model": name,
        "messages": native,
        "stream": typed(body, "stream", bool, default=False),
        "tools": [{"function": tool} for tool in typed(body, "tools", list, [])],
        "think": read_effort(body),
        "format": schema,
        "options": {
            "num_predict": body.get("max_output_tokens"),
            "temperature": body.get("temperature"),
            "top_p": body.get("top_p"),
        },
    }
    return await chat_in_form(node, request, asked, ResponsesForm(node, name))


def _native_items(item: Any) -> list[dict[str, Any]]:
    """Messages from one item of the input."""
    if not isinstance(item, dict):
        raise BadBody("invalid input item")
    match item.get("type", "message"):
        case "message":
            content = item.get("content")
            if isinstance(content, list):
                content = [_native_part(part) for part in content]
            role = "system" if item.get("role") == "developer" else item.get("role")
            return [native_message({"role": role, "content": content})]
        case "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            return [{"role": "assistant", "tool_calls": [{"id": item.get("call_id"), "function": function}]}]
        case "function_call_output":
            return [{"role": "tool", "content": str(item.get("output", ""))}]
        case _:
            return []


def _native_part(part: Any) -> Any:
    if isinstance(part, dict) and part.get("type") in {"input_text", "output_text"}:
        return {"type": "text", "text": part.get("text", "")}
    if isinstance(part, dict) and part.get("type") == "input_image":
        return {"type": "image_url", "image_url": part.get("image_url", "")}
    return part
