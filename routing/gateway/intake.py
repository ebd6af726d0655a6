"""From a request's body to its profile: JSON, compressed JSON, or a form with a file."""

import asyncio
import sys

from routing.core.analysis import analyse, analyse_upload
from routing.core.requests import Profile, Route
from routing.gateway import bodies
from routing.gateway.embedding.asked import Wanted, wanted
from routing.gateway.exchange import Exchange
from routing.gateway.multipart import FormFields
from routing.gateway.upload import Upload

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: What Ollama takes of a compressed body, in bytes after decompression.
LARGEST_COMPRESSED = 20 << 20
#: Frames that are read of it: each costs a copy of what is behind it, and clients make one.
MOST_FRAMES = 16


async def take_json(
    exchange: Exchange, route: Route, limit: int, *, embeds: bool = False
) -> tuple[bytes, Profile | None, Wanted | None]:
    """The body as it came, and its profile; None where it is no JSON object, which a node is to say.

    Pays for the one decode; what was decoded is let go here, since a request may wait long with a large body. Only of
    a request that `embeds` the texts are kept.
    """
    body = await exchange.body(limit)
    readable: bytes | None = body
    if exchange.headers.get(b"content-encoding") == b"zstd" and route.value.startswith("/v1/"):
        readable = await asyncio.to_thread(decompressed, body)
    if readable is None:
        return body, None, None
    asked = await bodies.decoded(readable)
    if asked is None:
        return body, None, None
    return body, analyse(route, asked), wanted(route, asked) if embeds else None


def decompressed(body: bytes) -> bytes | None:
    """The content of a zstd body, of all its frames; None where it is none, cut, or larger than a node would take."""
    pieces, room = [], LARGEST_COMPRESSED
    for _ in range(MOST_FRAMES):
        frame = zstd.ZstdDecompressor()
        try:
            pieces.append(frame.decompress(body, max_length=room + 1))
        except zstd.ZstdError:
            return None
        room -= len(pieces[-1])
        if room < 0 or not frame.eof:
            return None
        body = frame.unused_data
        if not body:
            return b"".join(pieces)
    return None


async def take_form(exchange: Exchange, route: Route, limit: int, upload: Upload) -> Profile | None:
    """Keep a form's bytes in `upload` as they come; its profile, or None where it names no model."""
    form = FormFields.of(exchange.headers.get(b"content-type", b""))
    async for data in exchange.pieces(limit):
        if form is not None:
            form.feed(data)
        await upload.write(data)
    if form is not None:
        form.finish()
    if form is None or form.broken or not form.fields.get("model"):
        return None
    return analyse_upload(route, form.fields, upload.size)
