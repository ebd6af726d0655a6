"""What the compatible routes do before they look at a request: unpack it, and hand models of ollama.com over."""

import sys
from typing import TYPE_CHECKING

from aiohttp import web

from simulator.cloud import need_account
from simulator.names import is_cloud_name, source_of
from simulator.wire import BadBody

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor, ZstdError
else:
    from backports.zstd import ZstdDecompressor, ZstdError

if TYPE_CHECKING:
    from simulator.node import SimulatedNode

PASSTHROUGH = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"})
MOST_UNPACKED_BYTES = 20 * 1024 * 1024


def unpacked(request: web.BaseRequest, raw: bytes) -> bytes:
    """The body without its zstd coding; other codings, and those of other routes, are left to the JSON parser."""
    packed = request.headers.get("Content-Encoding") == "zstd" and request.path in PASSTHROUGH
    return _unzstd(raw) if packed else raw


def _unzstd(raw: bytes) -> bytes:
    """All frames of the body; raises BadBody with the texts of the Go library."""
    parts: list[bytes] = []
    size = 0
    while raw:
        decompressor = ZstdDecompressor()
        try:
            part = decompressor.decompress(raw, MOST_UNPACKED_BYTES - size + 1)
        except ZstdError:
            raise BadBody("invalid input: magic number mismatch") from None
        size += len(part)
        if size > MOST_UNPACKED_BYTES:
            raise BadBody("http: request body too large")
        if not decompressor.eof:
            raise BadBody("unexpected EOF")
        parts.append(part)
        raw = decompressor.unused_data
    return b"".join(parts)


def hand_over(node: "SimulatedNode", path: str, model: str) -> None:
    """Raises SignedOut, in the words of ollama.com, where a cloud model is asked for and nobody is signed in."""
    if path in PASSTHROUGH and is_cloud_name(model):
        source_of(model)
        need_account(node, relayed=True)
