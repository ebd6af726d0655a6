"""Who may ask: the Host check of a loopback listener, and CORS."""

import ipaddress
import socket
from fnmatch import fnmatchcase
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import web

from simulator.http_answer import empty_answer

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
LOCAL_HOSTS = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 - origins that are allowed, no address to listen on
_LOCAL = tuple(f"{scheme}://{host}" for host in LOCAL_HOSTS for scheme in ("http", "https"))
LOCAL_ORIGINS = (
    *_LOCAL,
    *(f"{origin}:*" for origin in _LOCAL),
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
)
LOCAL_SUFFIXES = (".localhost", ".local", ".internal")


@lru_cache(maxsize=256)
def host_allowed(host: str) -> bool:
    """Whether a loopback listener answers to this Host header."""
    name = urlsplit(f"//{host}").hostname or ""
    if not name or name in {"localhost", socket.gethostname().lower()} or name.endswith(LOCAL_SUFFIXES):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified


def refused_or_preflight(request: web.BaseRequest, *, loopback: bool) -> web.Response | None:
    """The answer to a request that goes no further, None when it may go on."""
    host = request.headers.get("Host", "")
    if loopback and not host_allowed(host):
        return empty_answer(HTTPStatus.FORBIDDEN)
    origin = request.headers.get("Origin")
    foreign = origin is not None and origin not in {f"http://{host}", f"https://{host}"}
    if not foreign:
        return empty_answer(HTTPStatus.NO_CONTENT) if loopback and request.method == "OPTIONS" else None
    if not any(fnmatchcase(origin or "", pattern) for pattern in LOCAL_ORIGINS):
        return empty_answer(HTTPStatus.FORBIDDEN)
    if request.method != "OPTIONS":
        return None
    answer = empty_answer(HTTPStatus.NO_CONTENT)
    answer.headers["Access-Control-Allow-Methods"] = ALLOWED_METHODS
    answer.headers["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
    answer.headers["Access-Control-Max-Age"] = "43200"
    for name in PREFLIGHT_VARY:
        answer.headers.add("Vary", name)
    answer.headers["Access-Control-Allow-Origin"] = origin or ""
    return answer


def cors_headers(request: web.BaseRequest) -> dict[str, str]:
    """Headers that an answer to an allowed foreign origin carries."""
    origin = request.headers.get("Origin")
    host = request.headers.get("Host", "")
    if origin is None or origin in {f"http://{host}", f"https://{host}"}:
        return {}
    return {"Vary": "Origin", "Access-Control-Allow-Origin": origin}
