"""Errors in the form of the API that the client speaks: the one place that maps them."""

from random import getrandbits

import orjson

from routing.core.errors import Refusal
from routing.core.requests import Api
from routing.gateway.exchange import Headers

#: Ollama's answers made by its JSON writer name the charset; those of its compatibility layer do not.
NATIVE_JSON = b"application/json; charset=utf-8"
PLAIN_JSON = b"application/json"

OPENAI_TYPES = {400: "invalid_request_error", 404: "not_found_error"}
ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def error_body(api: Api, status: int, message: str) -> bytes:
    """The JSON of an error.

    Types by status are those of Ollama's compatibility layers; the OpenAI one ends its JSON with a newline.
    """
    if api is Api.OLLAMA:
        return go_escaped(orjson.dumps({"error": message}))
    if api is Api.ANTHROPIC:
        error = {"type": ANTHROPIC_TYPES.get(status, "api_error"), "message": message}
        return go_escaped(orjson.dumps({"type": "error", "error": error, "request_id": f"req_{getrandbits(96):024x}"}))
    kind = OPENAI_TYPES.get(status, "api_error")
    told = {"message": message, "type": kind, "param": None, "code": None}
    return go_escaped(orjson.dumps({"error": told})) + b"\n"


def go_escaped(data: bytes) -> bytes:
    """JSON as Go writes it: <, > and & are escaped."""
    return data.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")


def event(api: Api, body: bytes) -> bytes:
    """An error's JSON as an event of a stream that has begun."""
    name = b"event: error\n" if api is Api.ANTHROPIC else b""
    return name + b"data: " + body.strip() + b"\n\n"


def refusal(api: Api, error: Refusal) -> tuple[int, Headers, bytes]:
    """Status, headers and body of a refusal."""
    headers: Headers = [(b"content-type", NATIVE_JSON if api is Api.OLLAMA else PLAIN_JSON)]
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after))
    if error.status == 401:  # noqa: PLR2004
        headers.append((b"www-authenticate", b"Bearer"))
    return error.status, headers, error_body(api, error.status, error.message)
