"""Who may ask: the Host check of a loopback listener, and CORS."""

import ipaddress
import socket
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import web

from simulator.http_answer import empty_answer
from simulator.node_request import CORS
from simulator.origins import Origins

ALLOWED_METHODS = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
_STAINLESS = (
    "Arch,Async,Custom-Poll-Interval,Helper-Method,Lang,Os,Package-Version,Poll-Helper,Retry-Count,Runtime,"
    "Runtime-Version,Timeout"
)
ALLOWED_HEADERS = ",".join(
    (
        "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta",
        *(f"X-Stainless-{name}" for name in _STAINLESS.split(",")),
    )
)
PREFLIGHT_VARY = ("Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers")
LOCAL_SUFFIXES = (".localhost", ".local", ".internal")


@lru_cache(maxsize=256)
def host_allowed(host: str) -> bool:
    """Whether a loopback listener answers to this Host header."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if not name or name in {"localhost", socket.gethostname().lower()} or name.endswith(LOCAL_SUFFIXES):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified


def refused_or_preflight(request: web.BaseRequest, origins: Origins, *, loopback: bool) -> web.Response | None:
    """The answer to a request that goes no further, None when it may go on."""
    origin = foreign_origin(request)
    if origin is not None:
        if not origins.allow(origin):
            return empty_answer(HTTPStatus.FORBIDDEN)
        if request.method == "OPTIONS":
            return _preflight(origins, origin)
        request[CORS] = cors_headers(origins, origin)
    if not loopback:
        return None
    if not host_allowed(request.headers.get("Host", "")):
        return empty_answer(HTTPStatus.FORBIDDEN)
    return empty_answer(HTTPStatus.NO_CONTENT) if request.method == "OPTIONS" else None


def foreign_origin(request: web.BaseRequest) -> str | None:
    """The Origin of a page that this node has not served itself; None for all that are no such request."""
    origin = request.headers.get("Origin") or None
    host = request.headers.get("Host", "")
    return None if origin in {f"http://{host}", f"https://{host}"} else origin


def _preflight(origins: Origins, origin: str) -> web.Response:
    answer = empty_answer(HTTPStatus.NO_CONTENT)
    answer.headers["Access-Control-Allow-Methods"] = ALLOWED_METHODS
    answer.headers["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
    answer.headers["Access-Control-Max-Age"] = "43200"
    answer.headers["Access-Control-Allow-Origin"] = "*" if origins.everybody else origin
    for name in () if origins.everybody else PREFLIGHT_VARY:
        answer.headers.add("Vary", name)
    return answer


def cors_headers(origins: Origins, origin: str) -> dict[str, str]:
    """Headers that an answer to an allowed foreign origin carries."""
    if origins.everybody:
        return {"Access-Control-Allow-Origin": "*"}
    return {"Vary": "Origin", "Access-Control-Allow-Origin": origin}
