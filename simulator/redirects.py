"""Redirects to the path that was meant: Go's multiplexer cleans paths, and the router drops a trailing slash."""

import posixpath
from http import HTTPStatus

from aiohttp import web

from simulator.http_answer import empty_answer
from simulator.routes import methods_of


def to_clean_path(request: web.BaseRequest) -> web.Response | None:
    """What a path with double slashes or dot segments gets, before anything else is looked at."""
    clean = clean_path(request.path)
    return None if clean == request.path else _redirect(request, clean, HTTPStatus.TEMPORARY_REDIRECT)


def clean_path(path: str) -> str:
    """The path without empty and dot segments; a slash at its end stays."""
    clean = posixpath.normpath("/" + path.lstrip("/"))
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def to_path_without_slash(request: web.BaseRequest, version: str) -> web.Response | None:
    """What a path gets that is one of ours but for the slash at its end."""
    path = request.path.removesuffix("/")
    if path == request.path or request.method not in methods_of(path, version):
        return None
    moved = request.method == "GET"
    return _redirect(request, path, HTTPStatus.MOVED_PERMANENTLY if moved else HTTPStatus.TEMPORARY_REDIRECT)


def _redirect(request: web.BaseRequest, path: str, status: HTTPStatus) -> web.Response:
    answer = empty_answer(status)
    answer.headers["Location"] = path + (f"?{request.query_string}" if request.query_string else "")
    return answer
