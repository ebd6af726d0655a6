"""/api/generate and /api/chat."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from simulator.answer import Question
from simulator.forms import ChatForm, Form, GenerateForm
from simulator.http_answer import json_answer
from simulator.inference import Call, infer, not_found
from simulator.library import InstalledModel
from simulator.names import is_cloud_name, parse_name
from simulator.options import Options, read_options
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
from simulator.wire import BadBody, Refusal, go_json, parse_keep_alive, typed

if TYPE_CHECKING:
    from simulator.node import SimulatedNode

Body = Mapping[str, Any]
THINK_LEVELS = {"high", "medium", "low", "max"}
MOST_LOGPROBS = 20


async def generate(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    name = typed(body, "model", str, "", owner="GenerateRequest")
    return await generate_in_form(node, request, body, GenerateForm(name))


async def generate_in_form(
    node: "SimulatedNode", request: web.BaseRequest, body: Body, form: Form
) -> web.StreamResponse:
    """A native generate request answered in the form of some API."""
    started = node.clock.now()
    name = typed(body, "model", str, "", owner="GenerateRequest")
    top_logprobs = read_logprobs(body)
    keep_alive = parse_keep_alive(body.get("keep_alive"))
    think = read_think(body.get("think"))
    images = read_images(body.get("images"))
    prompt_text = typed(body, "prompt", str, "", owner="GenerateRequest")
    model = find_model(node, name)
    if not prompt_text and keep_alive == 0:
        node.scheduler.expire(model)
        return _loaded(node, name, {"response": ""}, "unload")
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
    return await chat_in_form(node, request, body, ChatForm(name))


async def chat_in_form(
    node: "SimulatedNode", request: web.BaseRequest, body: Body, form: Form, *, relaxed: bool = False
) -> web.StreamResponse:
    """A native chat request answered in the form of some API; `relaxed` forgives thinking a model cannot do."""
    started = node.clock.now()
    name = typed(body, "model", str, "", owner="ChatRequest")
    top_logprobs = read_logprobs(body)
    keep_alive = parse_keep_alive(body.get("keep_alive"))
    think = read_think(body.get("think"))
    messages = read_messages(body.get("messages"))
    tools = read_tools(body.get("tools"))
    if not name:
        raise BadBody("model is required")
    model = find_model(node, name)
    empty = {"message": {"role": "assistant", "content": ""}}
    if not messages and keep_alive == 0:
        node.scheduler.expire(model)
        return _loaded(node, name, empty, "unload")
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
        return _loaded(node, name, empty, "load")


def _loaded(node: "SimulatedNode", name: str, empty: Mapping[str, Any], reason: str) -> web.Response:
    stamp = node.clock.stamp().decode()
    return json_answer({"model": name, "created_at": stamp, **empty, "done": True, "done_reason": reason})


def find_model(node: "SimulatedNode", name: str) -> InstalledModel:
    """The installed model of this name; cloud names ask for an account that a simulated node does not have."""
    if is_cloud_name(name):
        raise Refusal(HTTPStatus.UNAUTHORIZED, "unauthorized")
    if name and parse_name(name) is None:
        raise not_found(name)
    model = node.library.find(name)
    if model is None:
        raise not_found(name)
    return model


def read_logprobs(body: Body) -> int | None:
    """How many alternatives to show beside each token's log probability; None shows none at all."""
    top = typed(body, "top_logprobs", int, 0)
    if not 0 <= top <= MOST_LOGPROBS:
        raise BadBody("top_logprobs must be between 0 and 20")
    return top if typed(body, "logprobs", bool, default=False) else None


def read_think(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and value in THINK_LEVELS:
        return True
    text = go_json(value).decode()
    raise BadBody(f'invalid think value: {text} (must be "high", "medium", "low", "max", true, or false)')


def wants_thinking(model: InstalledModel, name: str, think: bool | None, *, relaxed: bool = False) -> bool:
    """Thinking is on by default where the model can."""
    able = "thinking" in model.spec.capabilities
    if think and not able and not relaxed:
        raise Refusal(HTTPStatus.BAD_REQUEST, f'"{name}" does not support thinking')
    return able and think is not False


def request_options(model: InstalledModel, body: Body) -> Options:
    return read_options(typed(body, "options", dict, {}), model.options, shift=typed(body, "shift", bool, default=True))


def context_of(node: "SimulatedNode", model: InstalledModel, options: Options) -> int:
    """Tokens of context that a prompt of this request has room in."""
    explicit = options.runner.clamped(model.spec).num_ctx
    return explicit or min(node.profile.default_context(), model.spec.train_context)


def fits_by_cutting(body: Body) -> bool:
    """Whether a prompt that is too long is cut; refused otherwise."""
    return all(typed(body, field, bool, default=True) for field in ("truncate", "shift"))
