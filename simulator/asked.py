"""What an inference request asks for: a model, options, thinking, log probabilities; and what is wrong with that."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from simulator.cloud import check_stub, remote_model
from simulator.inference import not_found
from simulator.library import InstalledModel
from simulator.names import parse_name
from simulator.options import Options, read_options
from simulator.wire import BadBody, Refusal, go_json, typed

if TYPE_CHECKING:
    from simulator.node import SimulatedNode

Body = Mapping[str, Any]
THINK_LEVELS = {"high", "medium", "low", "max"}
MOST_LOGPROBS = 20
CHAT_TYPES: dict[str, type] = {
    "stream": bool,
    "truncate": bool,
    "shift": bool,
    "logprobs": bool,
    "top_logprobs": int,
    "options": dict,
}
GENERATE_TYPES: dict[str, type] = {
    **CHAT_TYPES,
    "prompt": str,
    "suffix": str,
    "system": str,
    "template": str,
    "raw": bool,
    "context": list,
}


def check_types(body: Body, types: Mapping[str, type], owner: str) -> None:
    """Go reads all fields before it looks at any, so a wrong type comes before all that is said of the model."""
    for field, kind in types.items():
        typed(body, field, kind, kind(), owner=owner)


def find_model(node: "SimulatedNode", name: str) -> InstalledModel:
    """The model that a request names: an installed one, or one of ollama.com, which needs an account."""
    if not name:
        raise not_found(name)
    remote = remote_model(node, name)
    if remote is not None:
        return remote
    if parse_name(name) is None:
        raise Refusal(HTTPStatus.BAD_REQUEST, "invalid model name")
    model = node.library.find(name)
    if model is None:
        raise not_found(name)
    check_stub(node, model)
    return model


def read_logprobs(body: Body) -> int | None:
    """How many alternatives to show beside each token's log probability; None shows none at all."""
    top = typed(body, "top_logprobs", int, 0)
    if not 0 <= top <= MOST_LOGPROBS:
        raise Refusal(HTTPStatus.BAD_REQUEST, "top_logprobs must be between 0 and 20")
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
    if model.spec.remote_host:
        return explicit or model.spec.train_context
    return explicit or min(node.profile.default_context(), model.spec.train_context)


def fits_by_cutting(body: Body) -> bool:
    """Whether a prompt that is too long is cut; refused otherwise."""
    return all(typed(body, field, bool, default=True) for field in ("truncate", "shift"))
