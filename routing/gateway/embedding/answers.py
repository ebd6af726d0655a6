"""Embedding answers taken apart and put together, with each vector's bytes as the node wrote them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from routing.core.requests import Route
from routing.gateway.envelopes import go_escaped
from routing.upstream import wire

#: What stands before the first vector, between two, and behind the last, beside the brackets of the vectors themselves.
NATIVE, OPENAI, OLD = b'"embeddings":[', b'"data":[', b'{"embedding":'
ROW, INDEX = b'{"object":"embedding","embedding":', b',"index":'


class Answered(NamedTuple):
    """The vectors of an answer in their order, and its `tail`: what else it tells, in the node's order."""

    vectors: list[bytes]
    tail: dict[str, Any]

    @property
    def tokens(self) -> int:
        """What the node counted in all."""
        usage = self.tail.get("usage")
        told = usage.get("prompt_tokens") if isinstance(usage, dict) else self.tail.get("prompt_eval_count")
        return max(0, int(wire.number(told)))


def apart(route: Route, data: bytes, count: int) -> Answered | None:
    """An answer with vectors for `count` texts; None where it is no such answer."""
    found = SHAPES[route](data)
    if found is None or len(found.vectors) != count:
        found = decoded(route, data)
    return found if found is not None and len(found.vectors) == count else None


def native(data: bytes) -> Answered | None:
    begin, end = data.find(NATIVE), data.rfind(b"]]")
    if begin < 0 or end < begin:
        return None
    vectors = data[begin + len(NATIVE) + 1 : end].split(b"],[")
    tail = wire.decode(b"{" + data[end + 2 :].lstrip(b","))
    return None if tail is None else Answered([b"[" + vector + b"]" for vector in vectors], tail)


def openai(data: bytes) -> Answered | None:
    begin, end = data.find(OPENAI), data.rfind(b"}]")
    if begin < 0 or end < begin:
        return None
    rows = data[begin + len(OPENAI) : end].split(b"},{")
    rows = [rows[0], *(b"{" + row for row in rows[1:])]
    ends = [row.rfind(INDEX) for row in rows]
    tail = wire.decode(b"{" + data[end + 2 :].lstrip(b","))
    if tail is None or not all(map(int.__gt__, ends, [0] * len(ends))) or not all(row.startswith(ROW) for row in rows):
        return None
    return Answered([row[len(ROW) : end] for row, end in zip(rows, ends, strict=True)], tail)


def old(data: bytes) -> Answered | None:
    return Answered([data[len(OLD) : -1]], {}) if data.startswith(OLD + b"[") and data.endswith(b"]}") else None


def decoded(route: Route, data: bytes) -> Answered | None:
    """The same for JSON that is written another way than Ollama writes it: numbers stay equal, their bytes may not."""
    value = wire.decode(data)
    if value is None:
        return None
    if route is Route.EMBED:
        vectors = value.pop("embeddings", None)
    elif route is Route.EMBEDDINGS:
        vectors = [value.pop("embedding", None)]
    else:
        rows = value.pop("data", None)
        vectors = [row.get("embedding") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else None
    if not isinstance(vectors, list) or not all(isinstance(vector, list | str) and vector for vector in vectors):
        return None
    if route is Route.EMBED:
        value.pop("model", None)
    value.pop("object", None)
    return Answered([orjson.dumps(vector) for vector in vectors], value)


SHAPES = {Route.EMBED: native, Route.V1_EMBEDDINGS: openai, Route.EMBEDDINGS: old}


def together(route: Route, model: str, vectors: Sequence[bytes], tail: Mapping[str, Any]) -> bytes:
    """The answer as a node writes it that was asked for these vectors alone."""
    if route is Route.EMBEDDINGS:
        return OLD + vectors[0] + b"}"
    rest = go_escaped(orjson.dumps(tail))[1:]
    if route is Route.EMBED:
        comma = b"" if rest == b"}" else b","
        return b"".join((b'{"model":', quoted(model), b",", NATIVE, b",".join(vectors), b"]", comma, rest))
    rows = b",".join(
        b"".join((ROW, vector, INDEX, str(number).encode(), b"}")) for number, vector in enumerate(vectors)
    )
    return b"".join((b'{"object":"list",', OPENAI, rows, b"],", rest, b"\n"))


def tail_of(route: Route, model: str, tokens: int, total_ns: int = 0, load_ns: int = 0) -> dict[str, Any]:
    """What stands behind the vectors, in Ollama's order; zeros are left out as it does."""
    if route is Route.V1_EMBEDDINGS:
        return {"model": model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    told = {"total_duration": total_ns, "load_duration": load_ns, "prompt_eval_count": tokens}
    return {name: value for name, value in told.items() if value}


def counted(route: Route, tail: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    """A node's tail with another count, everything else as it told it."""
    if route is Route.V1_EMBEDDINGS:
        return {**tail, "usage": {**tail.get("usage", {}), "prompt_tokens": tokens, "total_tokens": tokens}}
    told = {**tail, "prompt_eval_count": tokens}
    return told if tokens else {name: value for name, value in told.items() if name != "prompt_eval_count"}


def quoted(text: str) -> bytes:
    return go_escaped(orjson.dumps(text))
