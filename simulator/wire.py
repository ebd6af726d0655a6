"""JSON as Go writes and reads it, and the value syntax (durations, floats) that goes with it."""

import base64
import json
import re
import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any, TypeVar

import orjson

JSON_UTF8 = "application/json; charset=utf-8"
JSON_PLAIN = "application/json"
NDJSON = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"


class Refusal(Exception):  # noqa: N818 - named after what happened
    """A request that ends without work being done.

    `status` is the HTTP status, `text` the error text of the answer. `charset` is False where Ollama sends
    `application/json` without a charset: errors of the work itself instead of the handler.
    """

    def __init__(self, status: int, text: str, *, charset: bool = True) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.charset = charset


class BadBody(Refusal):
    """The body is no JSON, or JSON of another shape."""

    def __init__(self, text: str) -> None:
        super().__init__(HTTPStatus.BAD_REQUEST, text)


def go_json(value: object) -> bytes:
    """Encode as Go's json.Marshal does: compact, `<`, `>` and `&` escaped, keys in the order given."""
    try:
        raw = orjson.dumps(value)
    except TypeError:  # lone surrogates, which Go replaces, or keys that are no strings
        raw = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return (
        raw.replace(b"<", b"\\u003c")
        .replace(b">", b"\\u003e")
        .replace(b"&", b"\\u0026")
        .replace(b"\xe2\x80\xa8", b"\\u2028")
        .replace(b"\xe2\x80\xa9", b"\\u2029")
    )


@lru_cache(maxsize=8192)
def go_string(text: str) -> bytes:
    """One JSON string; the words that models say come again and again."""
    return go_json(text)


def error_json(text: str) -> bytes:
    return b'{"error":%b}' % go_json(text)


def parse_body(body: bytes, *, empty: str = "missing request body") -> dict[str, Any]:
    """The first JSON value of a body as an object with lower-case keys; what follows it is ignored."""
    value: Any
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = _parse_first(body, empty)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadBody(f"json: cannot unmarshal {json_kind(value)} into Go value of type api.Request")
    return fold(value)


def _parse_first(body: bytes, empty: str) -> Any:
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        raise BadBody(empty)
    try:
        return json.JSONDecoder(strict=True).raw_decode(text)[0]
    except json.JSONDecodeError as error:
        raise BadBody(_go_syntax_error(text, error)) from None
    except RecursionError:
        raise BadBody("exceeded max depth") from None


_EXPECTED = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Expecting ':' delimiter": "after object key",
    "Invalid \\escape": "in string escape code",
    "Invalid control character at": "in string literal",
}


def _go_syntax_error(text: str, error: json.JSONDecodeError) -> str:
    position = error.pos
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    if position >= len(text) or error.msg.startswith("Unterminated string"):
        return "unexpected EOF"
    expected = _EXPECTED.get(error.msg)
    if expected is None:
        inside_array = text.count("[", 0, position) > text.count("]", 0, position)
        expected = "after array element" if inside_array else "after object key:value pair"
    return f"invalid character {text[position]!r} {expected}"


def fold(value: Mapping[str, Any]) -> dict[str, Any]:
    """Field names match whatever their case; of duplicates the last one wins; null leaves the default."""
    return {key.lower(): item for key, item in value.items() if item is not None}


def json_kind(value: object) -> str:
    """The name that Go's decoder gives to a JSON value."""
    match value:
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


T = TypeVar("T")


def typed(body: Mapping[str, Any], field: str, kind: type[T], default: T, *, owner: str = "Request") -> T:
    """A field that must have this type when it is present."""
    value = body.get(field)
    if value is None:
        return default
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    go_type = {"str": "string", "list": "[]string", "dict": "map[string]interface {}"}.get(kind.__name__, kind.__name__)
    raise BadBody(f"json: cannot unmarshal {json_kind(value)} into Go struct field {owner}.{field} of type {go_type}")


def decode_image(text: object) -> bytes:
    if not isinstance(text, str):
        raise BadBody(f"json: cannot unmarshal {json_kind(text)} into Go struct field Message.images of type []uint8")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        bad = re.search(r"[^A-Za-z0-9+/]", text)
        raise BadBody(f"illegal base64 data at input byte {bad.start() if bad else len(text)}") from None


_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)([^\d.]*)")


def parse_keep_alive(value: object) -> float | None:
    """Seconds from a keep_alive: a number of seconds or a Go duration; negative means forever (infinity)."""
    if value is None:
        return None
    if isinstance(value, str):
        seconds = parse_duration(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise BadBody(f"Unsupported type: '{json_kind(value)}'")
    return float("inf") if seconds < 0 else seconds


def parse_duration(text: str) -> float:
    """Seconds from Go's duration syntax, such as `1h30m` or `-1.5s`."""
    quoted = go_json(text).decode()
    body = text[1:] if text[:1] in {"-", "+"} else text
    if body == "0":
        return 0.0
    seconds, position = 0.0, 0
    while position < len(body):
        part = _DURATION_PART.match(body, position)
        if part is None:
            raise BadBody(f"time: invalid duration {quoted}")
        number, unit = part.groups()
        if not unit:
            raise BadBody(f"time: missing unit in duration {quoted}")
        if unit not in _UNITS:
            raise BadBody(f"time: unknown unit {go_json(unit).decode()} in duration {quoted}")
        seconds += float(number) * _UNITS[unit]
        position = part.end()
    if not body:
        raise BadBody(f"time: invalid duration {quoted}")
    return -seconds if text.startswith("-") else seconds


def float32_list(values: Iterable[float]) -> bytes:
    """A JSON array of 32-bit floats in their shortest form, as Go prints them."""
    return b"[%b]" % ",".join(map(_shortest_float32, values)).encode()


def _shortest_float32(value: float) -> str:
    for digits in (6, 7, 8):
        text = f"{value:.{digits}g}"
        if _to_float32(float(text)) == value:
            return text.replace("e-0", "e-")
    return f"{value:.9g}".replace("e-0", "e-")


def _to_float32(value: float) -> float:
    result: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return result
