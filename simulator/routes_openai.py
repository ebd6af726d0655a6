"""The OpenAI-compatible routes: the native work in OpenAI's words."""

import base64
import struct
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from simulator.answer import ToolCall
from simulator.embedding import embed
from simulator.forms import Metrics, Result
from simulator.http_answer import NO_HEADERS, body_answer
from simulator.names import parse_name
from simulator.routes_embed import embed_inputs, embedding_model, read_inputs
from simulator.routes_inference import chat_in_form, generate_in_form
from simulator.wire import (
    EVENT_STREAM,
    JSON_PLAIN,
    JSON_UTF8,
    BadBody,
    Refusal,
    float32_list,
    go_json,
    go_string,
    typed,
)

if TYPE_CHECKING:
    from simulator.node import SimulatedNode

Body = Mapping[str, Any]
DONE = b"data: [DONE]\n\n"
FINGERPRINT = "fp_ollama"
IDS = 999
EFFORTS = {"none", "minimal", "low", "medium", "high", "xhigh", "ultra", "max"}
IMAGE_PREFIXES = ("data:;base64,", *(f"data:image/{kind};base64," for kind in ("jpeg", "jpg", "png", "webp")))
_ERROR_TYPES = {HTTPStatus.BAD_REQUEST: "invalid_request_error", HTTPStatus.NOT_FOUND: "not_found_error"}


def openai_refusal(refusal: Refusal) -> web.Response:
    """The error envelope of the compatible routes."""
    kind = _ERROR_TYPES.get(HTTPStatus(refusal.status), "api_error")
    error = {"message": refusal.text, "type": kind, "param": None, "code": None}
    content_type = JSON_UTF8 if isinstance(refusal, BadBody) else JSON_PLAIN
    end = b"" if isinstance(refusal, BadBody) else b"\n"
    return body_answer(go_json({"error": error}) + end, content_type, refusal.status)


def usage(metrics: Metrics) -> dict[str, int]:
    return {
        "prompt_tokens": metrics.prompt_tokens,
        "completion_tokens": metrics.tokens,
        "total_tokens": metrics.prompt_tokens + metrics.tokens,
    }


class OpenAIForm:
    """What chat completions and completions have in common."""

    content_type = EVENT_STREAM
    headers = NO_HEADERS
    kind = ""
    prefix = ""

    def __init__(self, node: "SimulatedNode", model: str, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._model = model
        self._created = int(node.clock.epoch())
        self._id = f"{self.prefix}-{node.next_id() % IDS}"
        self._head = self._header(self.kind)

    def _header(self, kind: str, model: str | None = None) -> bytes:
        fields = {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model if model is None else model,
            "system_fingerprint": FINGERPRINT,
        }
        return go_json(fields)[:-1] + b',"choices":['

    def _event(self, choice: Mapping[str, Any] | None, counts: Mapping[str, int] | None = None) -> bytes:
        inner = b"" if choice is None else go_json(choice)
        tail = b"" if counts is None else b',"usage":' + go_json(counts)
        return b"data: %b%b]%b}\n\n" % (self._head, inner, tail)


class OpenAIChatForm(OpenAIForm):
    """/v1/chat/completions."""

    kind = "chat.completion.chunk"
    prefix = "chatcmpl"

    def __init__(self, node: "SimulatedNode", model: str, *, include_usage: bool) -> None:
        super().__init__(node, model, include_usage=include_usage)
        self._begun = False

    def piece(self, stamp: bytes, text: str, *, thinking: bool, logprobs: list[dict[str, Any]] | None) -> bytes:
        field = b"reasoning" if thinking else b"content"
        role = b"" if self._begun else b'"role":"assistant",'
        if thinking:
            role += b'"content":"",' if not self._begun else b""
        self._begun = True
        tail = b',"logprobs":' + go_json({"content": logprobs}) if logprobs else b""
        return b'data: %b{"index":0,"delta":{%b"%b":%b},"finish_reason":null%b}]}\n\n' % (
            self._head,
            role,
            field,
            go_string(text),
            tail,
        )

    def calls(self, stamp: bytes, calls: Sequence[ToolCall]) -> bytes:
        delta = {"role": "assistant", "content": "", "tool_calls": _openai_calls(calls)}
        return self._event({"index": 0, "delta": delta, "finish_reason": None})

    def closing(self, stamp: bytes, result: Result) -> list[bytes]:
        events = [self._event({"index": 0, "delta": {}, "finish_reason": _finish_reason(result)})]
        if self._include_usage:
            events.append(self._event(None, usage(result.metrics)))
        return [*events, DONE]

    def whole(self, stamp: bytes, result: Result) -> web.Response:
        message: dict[str, Any] = {"role": "assistant", "content": result.content}
        if result.thinking:
            message["reasoning"] = result.thinking
        if result.calls:
            message["tool_calls"] = _openai_calls(result.calls)
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": _finish_reason(result)}
        if result.logprobs:
            choice["logprobs"] = {"content": result.logprobs}
        head = self._header("chat.completion")
        return body_answer(b'%b%b],"usage":%b}\n' % (head, go_json(choice), go_json(usage(result.metrics))), JSON_PLAIN)

    def failure(self, text: str) -> list[bytes]:
        """The error is swallowed: one chunk without model and content, and then nothing more."""
        self._head = self._header(self.kind, model="")
        delta = {"role": "assistant", "content": ""}
        return [self._event({"index": 0, "delta": delta, "finish_reason": None})]


class OpenAICompletionForm(OpenAIForm):
    """/v1/completions."""

    kind = "text_completion"
    prefix = "cmpl"
    _NO_USAGE: Mapping[str, int] = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}

    def piece(self, stamp: bytes, text: str, *, thinking: bool, logprobs: list[dict[str, Any]] | None) -> bytes:
        choice = {"text": "" if thinking else text, "index": 0, "finish_reason": None}
        return self._event(choice, self._NO_USAGE if self._include_usage else None)

    def calls(self, stamp: bytes, calls: Sequence[ToolCall]) -> bytes:
        return self._event({"text": "", "index": 0, "finish_reason": None})

    def closing(self, stamp: bytes, result: Result) -> list[bytes]:
        choice = {"text": "", "index": 0, "finish_reason": _finish_reason(result)}
        events = [self._event(choice, self._NO_USAGE if self._include_usage else None)]
        if self._include_usage:
            events.append(self._event(None, usage(result.metrics)))
        return [*events, DONE]

    def whole(self, stamp: bytes, result: Result) -> web.Response:
        choice = {"text": result.content, "index": 0, "finish_reason": _finish_reason(result)}
        body = b'%b%b],"usage":%b}\n' % (self._head, go_json(choice), go_json(usage(result.metrics)))
        return body_answer(body, JSON_PLAIN)

    def failure(self, text: str) -> list[bytes]:
        """As in chat: a chunk that says nothing."""
        self._head = self._header(self.kind, model="")
        return [self._event({"text": "", "index": 0, "finish_reason": None})]


def _openai_calls(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    return [call.openai(index) for index, call in enumerate(calls)]


def _finish_reason(result: Result) -> str | None:
    if result.calls:
        return "tool_calls"
    return result.done_reason or None


async def chat_completions(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    name = typed(body, "model", str, "")
    if not body.get("messages"):
        raise BadBody("[] is too short - 'messages'")
    native = native_body(body)
    native["messages"] = [native_message(message) for message in typed(body, "messages", list, [])]
    native["tools"] = typed(body, "tools", list, [])
    native["think"] = read_effort(body)
    native["logprobs"] = typed(body, "logprobs", bool, default=False)
    native["top_logprobs"] = typed(body, "top_logprobs", int, 0)
    native["format"] = _format(body.get("response_format"))
    form = OpenAIChatForm(node, name, include_usage=_include_usage(body))
    return await chat_in_form(node, request, native, form)


async def completions(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    name = typed(body, "model", str, "")
    native = native_body(body)
    native["prompt"] = typed(body, "prompt", str, "")
    native["suffix"] = typed(body, "suffix", str, "")
    form = OpenAICompletionForm(node, name, include_usage=_include_usage(body))
    return await generate_in_form(node, request, native, form)


def native_body(body: Body) -> dict[str, Any]:
    """The fields of a native request that both completion routes fill."""
    stop = body.get("stop")
    options: dict[str, Any] = {
        "temperature": body.get("temperature", 1.0),
        "top_p": body.get("top_p", 1.0),
        "num_predict": body.get("max_tokens"),
        "seed": body.get("seed"),
        "frequency_penalty": body.get("frequency_penalty"),
        "presence_penalty": body.get("presence_penalty"),
        "stop": [stop] if isinstance(stop, str) else stop,
    }
    return {
        "model": body.get("model", ""),
        "stream": typed(body, "stream", bool, default=False),
        "options": options,
    }


def native_message(message: Any) -> dict[str, Any]:
    """An OpenAI message as a native one: parts joined, images taken out of their data URLs."""
    if not isinstance(message, dict):
        raise BadBody("invalid message format")
    native = {key: message[key] for key in ("role", "tool_calls", "tool_call_id") if message.get(key) is not None}
    native["thinking"] = message.get("reasoning")
    native["tool_name"] = message.get("name")
    content = message.get("content")
    if content is None or isinstance(content, str):
        return {**native, "content": content or ""}
    if not isinstance(content, list):
        raise BadBody("invalid message content type: " + type(content).__name__)
    texts: list[str] = []
    images: list[str] = []
    for part in content:
        _read_part(part, texts, images)
    return {**native, "content": "".join(texts), "images": images}


def _read_part(part: Any, texts: list[str], images: list[str]) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        texts.append(str(part.get("text", "")))
    elif kind == "image_url":
        url = part.get("image_url")
        url = url.get("url", "") if isinstance(url, dict) else str(url)
        if url.startswith(("http://", "https://")):
            raise BadBody("image URLs are not currently supported, please use base64 encoded data instead")
        if not url.startswith(IMAGE_PREFIXES):
            raise BadBody("invalid image input")
        images.append(url.partition(";base64,")[2])
    elif kind != "input_audio":
        raise BadBody("invalid message format")


def read_effort(body: Body) -> bool | None:
    """Whether to think, from either spelling of the reasoning effort; None leaves it to the model."""
    reasoning = body.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else body.get("reasoning_effort")
    if effort is None:
        return None
    if not isinstance(effort, str) or effort not in EFFORTS:
        raise BadBody(f'invalid reasoning value: \'{effort}\' (must be "high", "medium", "low", or "none")')
    return bool(effort != "none")


def _format(response_format: Any) -> Any:
    if not isinstance(response_format, dict):
        return None
    match response_format.get("type"):
        case "json_object":
            return "json"
        case "json_schema":
            schema = response_format.get("json_schema")
            return schema.get("schema") if isinstance(schema, dict) else None
        case _:
            return None


def _include_usage(body: Body) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


async def embeddings(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    name = typed(body, "model", str, "")
    encoding = typed(body, "encoding_format", str, "float")
    if encoding not in {"float", "base64"}:
        raise BadBody(f"Invalid value for 'encoding_format' = {encoding}. Supported values: ['float', 'base64'].")
    if not body.get("input"):
        raise BadBody("invalid input")
    inputs = read_inputs(body["input"])
    model = embedding_model(node, name)
    done = await embed_inputs(node, request, model, inputs, {})
    dimensions = typed(body, "dimensions", int, 0)
    vectors = (embed(model.digest, text, model.spec.embedding_length, dimensions) for text in done.texts)
    rows = [
        b'{"object":"embedding","embedding":%b,"index":%d}' % (_encoded(vector, encoding), index)
        for index, vector in enumerate(vectors)
    ]
    counts = go_json({"prompt_tokens": done.tokens, "total_tokens": done.tokens})
    body_bytes = b'{"object":"list","data":[%b],"model":%b,"usage":%b}\n' % (b",".join(rows), go_json(name), counts)
    return body_answer(body_bytes, JSON_PLAIN)


def _encoded(vector: Sequence[float], encoding: str) -> bytes:
    if encoding == "float":
        return float32_list(vector)
    return b'"%b"' % base64.b64encode(struct.pack(f"<{len(vector)}f", *vector))


async def models(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    rows = [
        {"id": m.name.shortest, "object": "model", "created": int(m.modified_at), "owned_by": m.name.namespace}
        for m in node.library.newest_first()
    ]
    return body_answer(go_json({"object": "list", "data": rows or None}) + b"\n", JSON_PLAIN)


async def model(node: "SimulatedNode", request: web.BaseRequest, name: str) -> web.StreamResponse:
    parsed = parse_name(name)
    found = node.library.find(name)
    if parsed is None or found is None:
        shown = parsed.shortest if parsed else name
        return openai_refusal(Refusal(HTTPStatus.NOT_FOUND, f"model '{shown}' not found"))
    row = {"id": name, "object": "model", "created": int(found.modified_at), "owned_by": found.name.namespace}
    return body_answer(go_json(row) + b"\n", JSON_PLAIN)
