"""Values that satisfy a JSON Schema, chosen by a hash: for structured output and tool arguments."""

import json
from collections.abc import Mapping
from hashlib import sha256
from http import HTTPStatus
from typing import Any

from simulator.text import ADJECTIVES, NOUNS
from simulator.wire import Refusal, go_json

DEEPEST = 12
DEFAULT_MOST = 100


def read_format(value: Any) -> Mapping[str, Any] | None:
    """The schema that a `format` field asks for, {} for any object, None when it asks for nothing."""
    if value is None or value == "":
        return None
    if value == "json":
        return {}
    if isinstance(value, dict):
        return value
    text = go_json(value).decode()
    raise Refusal(
        HTTPStatus.INTERNAL_SERVER_ERROR, f'invalid format: {text}; expected "json" or a valid JSON Schema object'
    )


def json_text(seed: str, schema: Mapping[str, Any]) -> str:
    """JSON text that satisfies the schema, a pure function of seed and schema."""
    value = SchemaValues(seed, schema).value() if schema else {"answer": _words(seed), "number": _pick(seed, "n") % 100}
    return json.dumps(value, ensure_ascii=False)


def _pick(seed: str, path: str) -> int:
    return int.from_bytes(sha256(f"{seed}\n{path}".encode("utf-8", "surrogatepass")).digest()[:4], "big")


def _words(seed: str, path: str = "") -> str:
    return f"{ADJECTIVES[_pick(seed, path + 'a') % len(ADJECTIVES)]} {NOUNS[_pick(seed, path + 'b') % len(NOUNS)]}"


class SchemaValues:
    """Picks values for one schema; `$ref` is resolved within it."""

    def __init__(self, seed: str, root: Mapping[str, Any]) -> None:
        self._seed = seed
        self._root = root

    def value(self) -> Any:
        return self._value(self._root, "$", 0)

    def _value(self, schema: Any, path: str, depth: int) -> Any:
        if not isinstance(schema, dict) or depth > DEEPEST:
            return None
        schema = self._resolved(schema)
        allowed = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(allowed, list) and allowed:
            return allowed[_pick(self._seed, path) % len(allowed)]
        for union in ("anyOf", "oneOf", "allOf"):
            if isinstance(schema.get(union), list) and schema[union]:
                return self._value(schema[union][0], path, depth + 1)
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((name for name in kind if name != "null"), "null")
        kind = kind or ("object" if "properties" in schema else "string")
        if kind == "object":
            properties = schema.get("properties") or {}
            return {name: self._value(item, f"{path}.{name}", depth + 1) for name, item in properties.items()}
        if kind == "array":
            count = max(1, int(schema.get("minItems", 0)))
            return [self._value(schema.get("items", {}), f"{path}[{i}]", depth + 1) for i in range(count)]
        return self._scalar(kind, schema, path)

    def _scalar(self, kind: str, schema: Mapping[str, Any], path: str) -> Any:
        picked = _pick(self._seed, path)
        match kind:
            case "integer":
                least = int(schema.get("minimum", 0))
                most = max(least, int(schema.get("maximum", least + DEFAULT_MOST)))
                return least + picked % (most - least + 1)
            case "number":
                least = schema.get("minimum", 0)
                most = schema.get("maximum", least + DEFAULT_MOST)
                return round(least + (most - least) * (picked % 997 + 0.5) / 997, 3)
            case "boolean":
                return picked % 2 == 0
            case "null":
                return None
            case _:
                return _words(self._seed, path)

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return schema
        target: Any = self._root
        for part in reference[2:].split("/"):
            target = target.get(part, {}) if isinstance(target, dict) else {}
        return target if isinstance(target, dict) else schema
