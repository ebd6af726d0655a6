"""Which handler answers which path and method, and what the others get."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from simulator import (
    routes_account,
    routes_anthropic,
    routes_audio,
    routes_blobs,
    routes_create,
    routes_embed,
    routes_inference,
    routes_models,
    routes_openai,
    routes_responses,
    routes_transfer,
)
from simulator.cloud import SignedOut
from simulator.http_answer import json_answer, refusal_answer, text_answer
from simulator.versions import has_route
from simulator.wire import Refusal

if TYPE_CHECKING:
    from simulator.node import SimulatedNode

Handler = Callable[["SimulatedNode", web.BaseRequest, Mapping[str, Any]], Awaitable[web.StreamResponse]]
ParameterHandler = Callable[["SimulatedNode", web.BaseRequest, str], Awaitable[web.StreamResponse]]

ROUTES: dict[str, dict[str, Handler]] = {
    "/": {"HEAD": routes_models.root, "GET": routes_models.root},
    "/api/version": {"HEAD": routes_models.version, "GET": routes_models.version},
    "/api/status": {"GET": routes_models.status},
    "/api/tags": {"HEAD": routes_models.tags, "GET": routes_models.tags},
    "/api/ps": {"GET": routes_models.ps},
    "/api/show": {"POST": routes_models.show},
    "/api/delete": {"DELETE": routes_models.delete},
    "/api/copy": {"POST": routes_models.copy},
    "/api/me": {"POST": routes_account.me},
    "/api/signout": {"POST": routes_account.signout},
    "/api/experimental/web_search": {"POST": routes_account.web_search},
    "/api/experimental/web_fetch": {"POST": routes_account.web_fetch},
    "/api/experimental/model-recommendations": {"GET": routes_models.recommendations},
    "/api/generate": {"POST": routes_inference.generate},
    "/api/chat": {"POST": routes_inference.chat},
    "/api/embed": {"POST": routes_embed.embed},
    "/api/embeddings": {"POST": routes_embed.embeddings},
    "/api/pull": {"POST": routes_transfer.pull},
    "/api/push": {"POST": routes_transfer.push},
    "/api/create": {"POST": routes_create.create},
    "/v1/chat/completions": {"POST": routes_openai.chat_completions},
    "/v1/completions": {"POST": routes_openai.completions},
    "/v1/embeddings": {"POST": routes_openai.embeddings},
    "/v1/responses": {"POST": routes_responses.responses},
    "/v1/messages": {"POST": routes_anthropic.messages},
    "/v1/audio/transcriptions": {"POST": routes_audio.transcriptions},
    "/v1/models": {"GET": routes_openai.models},
}
"""Handlers that get the parsed body, in the order in which `Allow` lists their methods."""

PARAMETER_ROUTES: dict[str, dict[str, ParameterHandler]] = {
    "/api/blobs/": {"HEAD": routes_blobs.has_blob, "POST": routes_blobs.store_blob},
    "/api/user/keys/": {"DELETE": routes_account.delete_key},
    "/v1/models/": {"GET": routes_openai.model},
}
"""Handlers that get the rest of the path, which holds no further slash, and read the body themselves."""

OWN_BODY = frozenset({"/api/me", "/api/signout", "/v1/audio/transcriptions"})
"""Paths whose handlers read the body themselves, or not at all."""


def handlers_of(path: str, version: str) -> Mapping[str, Handler]:
    """Handlers by method of a path that a node of this version has; empty when it has not."""
    return ROUTES.get(path, {}) if has_route(version, path) else {}


def parameter_handlers_of(path: str, version: str) -> tuple[Mapping[str, ParameterHandler], str]:
    """As handlers_of, for a path that ends in a parameter, which comes with them."""
    for prefix, methods in PARAMETER_ROUTES.items():
        argument = path.removeprefix(prefix)
        if argument != path and argument and "/" not in argument and has_route(version, prefix):
            return methods, argument
    return {}, ""


def methods_of(path: str, version: str) -> Mapping[str, object]:
    """All methods of a path, in the order in which `Allow` lists them."""
    return handlers_of(path, version) or parameter_handlers_of(path, version)[0]


def refused(path: str, refusal: Refusal) -> web.Response:
    """A refusal in the envelope of the API that the path belongs to."""
    compatible = path.startswith("/v1/")
    if isinstance(refusal, SignedOut) and (refusal.relayed or not compatible):
        return json_answer({"error": refusal.text, "signin_url": refusal.signin_url}, refusal.status)
    if path == "/v1/messages":
        return routes_anthropic.anthropic_refusal(refusal)
    return routes_openai.openai_refusal(refusal) if compatible else refusal_answer(refusal)


def not_routed(path: str, version: str) -> web.Response:
    """The answer to a path or method that nobody handles."""
    methods = methods_of(path, version)
    if not methods:
        return text_answer("404 page not found", HTTPStatus.NOT_FOUND)
    answer = text_answer("405 method not allowed", HTTPStatus.METHOD_NOT_ALLOWED)
    answer.headers["Allow"] = ", ".join(methods)
    return answer
