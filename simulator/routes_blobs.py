"""/api/blobs: files uploaded for a later create."""

import re
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from simulator.http_answer import empty_answer
from simulator.node_request import ask_for_body
from simulator.wire import BadBody

if TYPE_CHECKING:
    from simulator.node import SimulatedNode

DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})\Z")


def blob_digest(text: str) -> str | None:
    """`sha256:` and 64 hex digits, from either spelling."""
    match = DIGEST.match(text)
    return f"sha256:{match.group(1).lower()}" if match else None


async def has_blob(node: "SimulatedNode", request: web.BaseRequest, text: str) -> web.StreamResponse:
    digest = blob_digest(text)
    if digest is None:
        raise BadBody("invalid digest format")
    return empty_answer(HTTPStatus.OK if digest in node.library.blobs else HTTPStatus.NOT_FOUND)


async def store_blob(node: "SimulatedNode", request: web.BaseRequest, text: str) -> web.StreamResponse:
    digest = blob_digest(text)
    if digest is None:
        raise BadBody("invalid digest format")
    if digest in node.library.blobs:
        return empty_answer()
    await ask_for_body(request)
    sha, size = sha256(), 0
    async for chunk in request.content.iter_any():
        sha.update(chunk)
        size += len(chunk)
    got = f"sha256:{sha.hexdigest()}"
    if got != digest:
        raise BadBody(f'digest mismatch, expected "{digest}", got "{got}"')
    node.record.body_bytes[request.path] = size
    node.library.blobs[digest] = size
    return empty_answer(HTTPStatus.CREATED)
