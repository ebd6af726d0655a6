"""Errors in the form of the API that the client speaks: the one place that maps them."""

import orjson

from routing.core.errors import Refusal
from routing.core.requests import Api
from routing.gateway.exchange import Headers

#: Ollama's answers made by its JSON writer name the charset; those of its compatibility layer do not.
NATIVE_JSON = b"application/json; charset=utf-8"
PLAIN_JSON = b"application/json"

OPENAI_TYPES = {400: "invalid_request_error", 404: "not_found_error"}


def api_of(path: str) -> Api:
    return Api.OPENAI if path.startswith("/v1/") else Api.OLLAMA


def error_body(api: Api, status: int, message: str) -> bytes:
    """The JSON of an error; OpenAI's types by status are those of Ollama's compatibility layer,
    which ends its JSON with a newline.
    """
    if api is Api.OLLAMA:
        return orjson.dumps({"error": message})
    kind = OPENAI_TYPES.get(status, "api_error")
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": None}}) + b"\n"


def refusal(api: Api, error: Refusal) -> tuple[int, Headers, bytes]:
    """Status, headers and body of a refusal."""
    headers: Headers = [(b"content-type", NATIVE_JSON if api is Api.OLLAMA else PLAIN_JSON)]
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after))
    if error.status == 401:  # noqa: PLR2004
        headers.append((b"www-authenticate", b"Bearer"))
    return error.status, headers, error_body(api, error.status, error.message)
