"""Which handler answers which path and method, and what the others get."""

import posixpath
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from simulator import (
    routes_anthropic,
    routes_embed,
    routes_inference,
    routes_models,
    routes_openai,
    routes_responses,
    routes_transfer,
)
from simulator.http_answer import empty_answer, refusal_answer, text_answer
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
    "/api/me": {"POST": routes_models.me},
    "/api/signout": {"POST": routes_models.signout},
    "/api/experimental/model-recommendations": {"GET": routes_models.recommendations},
    "/api/generate": {"POST": routes_inference.generate},
    "/api/chat": {"POST": routes_inference.chat},
    "/api/embed": {"POST": routes_embed.embed},
    "/api/embeddings": {"POST": routes_embed.embeddings},
    "/api/pull": {"POST": routes_transfer.pull},
    "/api/push": {"POST": routes_transfer.push},
    "/api/create": {"POST": routes_transfer.create},
    "/v1/chat/completions": {"POST": routes_openai.chat_completions},
    "/v1/completions": {"POST": routes_openai.completions},
    "/v1/embeddings": {"POST": routes_openai.embeddings},
    "/v1/responses": {"POST": routes_responses.responses},
    "/v1/messages": {"POST": routes_anthropic.messages},
    "/v1/models": {"GET": routes_openai.models},
}
"""Handlers that get the parsed body, in the order in which `Allow` lists their methods."""

PARAMETER_ROUTES: dict[str, dict[str, ParameterHandler]] = {
    "/api/blobs/": {"HEAD": routes_transfer.has_blob, "POST": routes_transfer.store_blob},
    "/v1/models/": {"GET": routes_openai.model},
}
"""Handlers that get the rest of the path, which holds no further slash, and read the body themselves."""

INFERENCE = frozenset(
    {
        "/api/generate",
        "/api/chat",
        "/api/embed",
        "/api/embeddings",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
    }
)


def parameter_route(path: str) -> tuple[dict[str, ParameterHandler], str] | None:
    for prefix, methods in PARAMETER_ROUTES.items():
        rest = path.removeprefix(prefix)
        if rest != path and rest and "/" not in rest:
            return methods, rest
    return None


def refused(path: str, refusal: Refusal) -> web.Response:
    """A refusal in the envelope of the API that the path belongs to."""
    if path == "/v1/messages":
        return routes_anthropic.anthropic_refusal(refusal)
    return routes_openai.openai_refusal(refusal) if path.startswith("/v1/") else refusal_answer(refusal)


def unrouted(request: web.BaseRequest) -> web.Response:
    """The answer to a path and method that nobody handles: a redirect to the clean path, 405 or 404."""
    path = request.path
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if clean != path and (clean in ROUTES or parameter_route(clean)):
        trailing_slash_only = path == clean + "/"
        moved = trailing_slash_only and request.method == "GET"
        answer = empty_answer(HTTPStatus.MOVED_PERMANENTLY if moved else HTTPStatus.TEMPORARY_REDIRECT)
        answer.headers["Location"] = clean + (f"?{request.query_string}" if request.query_string else "")
        return answer
    parameter = parameter_route(path)
    methods: Mapping[str, object] = ROUTES.get(path) or (parameter[0] if parameter else {})
    if not methods:
        return text_answer("404 page not found", HTTPStatus.NOT_FOUND)
    answer = text_answer("405 method not allowed", HTTPStatus.METHOD_NOT_ALLOWED)
    answer.headers["Allow"] = ", ".join(methods)
    return answer
