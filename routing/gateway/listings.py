"""Many nodes' lists as if one server had told them: tags, ps, the OpenAI models list and the version."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from routing.core.names import canonical, parts
from routing.upstream import wire

Row = dict[str, Any]


def name_of(row: Row) -> str:
    return str(row.get("model") or row.get("name") or "")


def merged_tags(lists: Iterable[list[Row]]) -> list[Row]:
    """One row per model, newest first; where nodes have different weights under one name, the newest is told."""
    newest: dict[str, Row] = {}
    for rows in lists:
        for row in rows:
            key = canonical(name_of(row))
            known = newest.get(key)
            if known is None or moment(row.get("modified_at")) > moment(known.get("modified_at")):
                newest[key] = row
    return sorted(newest.values(), key=lambda row: int(moment(row.get("modified_at"))), reverse=True)


def merged_ps(lists: Iterable[list[Row]]) -> list[Row]:
    """One row per model: memory summed over the nodes, the latest expiry, the largest context.

    The last to expire first.
    """
    merged: dict[str, Row] = {}
    for rows in lists:
        for row in rows:
            key = canonical(name_of(row))
            known = merged.get(key)
            if known is None:
                merged[key] = dict(row)
                continue
            for field in ("size", "size_vram"):
                known[field] = int(wire.number(known.get(field)) + wire.number(row.get(field)))
            contexts = wire.number(known.get("context_length")), wire.number(row.get("context_length"))
            known["context_length"] = int(max(contexts))
            if moment(row.get("expires_at")) > moment(known.get("expires_at")):
                known["expires_at"] = row.get("expires_at")
    return sorted(merged.values(), key=lambda row: moment(row.get("expires_at")), reverse=True)


def openai_model(row: Row) -> Row:
    """A row of the OpenAI models list."""
    name = name_of(row)
    return {
        "id": name,
        "object": "model",
        "created": int(moment(row.get("modified_at"))),
        "owned_by": parts(name)[1],
    }


def moment(value: object) -> float:
    """Epoch seconds of a wire timestamp; 0 for what is none. Go writes up to nine decimals, Python reads six."""
    if not isinstance(value, str):
        return 0.0
    text = re.sub(r"(\.\d{6})\d+", r"\1", value).replace("Z", "+00:00")
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def lowest_version(versions: Iterable[str]) -> str | None:
    """The version that every node has at least; None where no node told one."""
    return min((version for version in versions if version), key=version_order, default=None)


def version_order(version: str) -> tuple[tuple[int, ...], bool, str]:
    """Sorts "0.9.1" before "0.10.0", and a release candidate before its release."""
    core, _, suffix = version.partition("-")
    return tuple(int(number) for number in re.findall(r"\d+", core)), not suffix, suffix
