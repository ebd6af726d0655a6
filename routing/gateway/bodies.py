"""Request bodies, read as Ollama's server reads them."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import orjson

#: Bodies above this size are decoded off the event loop.
LARGE = 1 << 20

_DECODER = json.JSONDecoder()


def decode(body: bytes) -> dict[str, Any] | None:
    """The body's first JSON value with lower-case member names, or None where that is no object.

    What follows the first value is ignored, names match in any case, of equal names the last counts that is not null,
    and broken UTF-8 is read as replacement characters, all as Go's decoder does.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            value, _ = _DECODER.raw_decode(body.decode("utf-8", "replace").lstrip(" \t\r\n"))
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, dict):
        return None
    for name in value:
        if not name.islower():
            return {name.lower(): member for name, member in value.items() if member is not None}
    return value


async def with_context(body: bytes, num_ctx: int) -> bytes:
    """The body with this context size among its options; a body that cannot be read stays as it is."""
    return await asyncio.to_thread(pinned, body, num_ctx) if len(body) > LARGE else pinned(body, num_ctx)


def pinned(body: bytes, num_ctx: int) -> bytes:
    value = decode(body)
    if value is None:
        return body
    options = value.get("options")
    value["options"] = {**(options if isinstance(options, dict) else {}), "num_ctx": num_ctx}
    return encoded(value)


def encoded(value: Mapping[str, Any]) -> bytes:
    """A body that was decoded and changed, as bytes."""
    try:
        return orjson.dumps(value)
    except TypeError:
        # Half a surrogate pair, or members nested deeper than it goes.
        return json.dumps(value).encode()


async def decoded(body: bytes) -> Mapping[str, Any] | None:
    """As `decode`, in a thread if the body is so large that decoding it would hold up everybody else."""
    return decode(body) if len(body) <= LARGE else await asyncio.to_thread(decode, body)
