"""/api/generate and /api/chat."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from simulator.answer import Question
from simulator.asked import (
    CHAT_TYPES,
    GENERATE_TYPES,
    check_types,
    context_of,
    find_model,
    fits_by_cutting,
    read_logprobs,
    read_think,
    request_options,
    wants_thinking,
)
from simulator.cloud import remote_fields, remote_fields_of
from simulator.forms import ChatForm, Form, GenerateForm
from simulator.http_answer import json_answer
from simulator.inference import Call, infer
from simulator.library import InstalledModel
from simulator.options import Options
from simulator.prompt import (
    chat_prompt,
    cut_middle,
    generate_prompt,
    read_images,
    read_messages,
    read_tools,
)
from simulator.schema import read_format
from simulator.text import text_of_ids
from simulator.wire import BadBody, Refusal, parse_keep_alive, typed

if TYPE_CHECKING:
    from simulator.node import SimulatedNode

Body = Mapping[str, Any]


async def generate(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    name = typed(body, "model", str, "", owner="GenerateRequest")
    return await generate_in_form(node, request, body, GenerateForm(name, remote_fields_of(node, name)))


async def generate_in_form(
    node: "SimulatedNode", request: web.BaseRequest, body: Body, form: Form
) -> web.StreamResponse:
    """A native generate request answered in the form of some API."""
    started = node.clock.now()
    name = typed(body, "model", str, "", owner="GenerateRequest")
    check_types(body, GENERATE_TYPES, "GenerateRequest")
    keep_alive = parse_keep_alive(body.get("keep_alive"))
    think = read_think(body.get("think"))
    images = read_images(body.get("images"))
    prompt_text = typed(body, "prompt", str, "")
    top_logprobs = read_logprobs(body)
    model = find_model(node, name)
    if not prompt_text and keep_alive == 0:
        node.scheduler.expire(model)
        return _loaded(node, model, name, {"response": ""}, "unload")
    raw = typed(body, "raw", bool, default=False)
    given_context = typed(body, "context", list, [])
    if raw and (body.get("template") or body.get("system") or given_context):
        raise BadBody("raw mode does not support template, system, or context")
    thinks = wants_thinking(model, name, think)
    if not model.spec.can_chat:
        raise Refusal(HTTPStatus.BAD_REQUEST, f'"{name}" does not support generate')
    suffix = typed(body, "suffix", str, "")
    if suffix and "insert" not in model.spec.capabilities:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"{model.name.full} does not support insert")
    options = request_options(model, body)
    if not prompt_text:
        return await load_only(node, model, options, keep_alive, name, {"response": ""})
    prompt = generate_prompt(
        prompt_text,
        system=typed(body, "system", str, model.system),
        suffix=suffix,
        raw=raw,
        before=text_of_ids(given_context),
        images=images,
    )
    num_ctx = context_of(node, model, options)
    prompt = cut_middle(prompt, num_ctx, options.num_keep, truncate=fits_by_cutting(body))
    question = Question(
        think=thinks and not raw,
        limit=options.num_predict,
        stop=options.stop,
        schema=read_format(body.get("format")),
        exact=node.exact_length,
    )
    call = Call(
        model,
        prompt,
        question,
        options,
        keep_alive,
        stream=typed(body, "stream", bool, default=True),
        started=started,
        with_context=not raw,
        top_logprobs=top_logprobs,
    )
    return await infer(node, request, call, form)


async def chat(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    name = typed(body, "model", str, "", owner="ChatRequest")
    return await chat_in_form(node, request, body, ChatForm(name, remote_fields_of(node, name)))


async def chat_in_form(
    node: "SimulatedNode", request: web.BaseRequest, body: Body, form: Form, *, relaxed: bool = False
) -> web.StreamResponse:
    """A native chat request answered in the form of some API; `relaxed` forgives thinking a model cannot do."""
    started = node.clock.now()
    name = typed(body, "model", str, "", owner="ChatRequest")
    check_types(body, CHAT_TYPES, "ChatRequest")
    keep_alive = parse_keep_alive(body.get("keep_alive"))
    think = read_think(body.get("think"))
    messages = read_messages(body.get("messages"))
    tools = read_tools(body.get("tools"))
    top_logprobs = read_logprobs(body)
    if not name:
        raise Refusal(HTTPStatus.BAD_REQUEST, "model is required")
    model = find_model(node, name)
    empty = {"message": {"role": "assistant", "content": ""}}
    if not messages and keep_alive == 0:
        node.scheduler.expire(model)
        return _loaded(node, model, name, empty, "unload")
    if tools and "tools" not in model.spec.capabilities:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"{model.name.full} does not support tools")
    thinks = wants_thinking(model, name, think, relaxed=relaxed)
    if not model.spec.can_chat:
        raise Refusal(HTTPStatus.BAD_REQUEST, f'"{name}" does not support chat')
    options = request_options(model, body)
    if not messages:
        return await load_only(node, model, options, keep_alive, name, empty)
    prompt = chat_prompt(
        messages,
        tools,
        system=model.system,
        prefill=model.spec.prefill,
        num_ctx=context_of(node, model, options),
        truncate=fits_by_cutting(body),
    )
    question = Question(
        think=thinks,
        limit=options.num_predict,
        stop=options.stop,
        schema=read_format(body.get("format")),
        tools=tools,
        asked=messages[-1].content if messages[-1].role == "user" else "",
        exact=node.exact_length,
    )
    call = Call(
        model,
        prompt,
        question,
        options,
        keep_alive,
        stream=typed(body, "stream", bool, default=True),
        started=started,
        top_logprobs=top_logprobs,
    )
    return await infer(node, request, call, form)


async def load_only(
    node: "SimulatedNode",
    model: InstalledModel,
    options: Options,
    keep_alive: float | None,
    name: str,
    empty: Mapping[str, Any],
) -> web.StreamResponse:
    """Load the model and say so, which is one JSON object also where a stream was asked for."""
    async with node.scheduler.lease(model, options.runner, keep_alive):
        return _loaded(node, model, name, empty, "load")


def _loaded(
    node: "SimulatedNode", model: InstalledModel, name: str, empty: Mapping[str, Any], reason: str
) -> web.Response:
    head = {"model": name, **remote_fields(model), "created_at": node.clock.stamp().decode()}
    return json_answer({**head, **empty, "done": True, "done_reason": reason})
