"""Many nodes' lists as if one server had told them: tags, ps, the OpenAI models list and the version."""

from collections.abc import Iterable, Mapping
from typing import Any

from routing.core.names import canonical, parts
from routing.core.versions import version_order
from routing.upstream import wire
from routing.upstream.wire import moment

Row = dict[str, Any]
NOTHING: Mapping[str, str] = {}


def name_of(row: Row) -> str:
    return str(row.get("model") or row.get("name") or "")


def merged_tags(lists: Iterable[list[Row]], counting: Mapping[str, str] = NOTHING) -> list[Row]:
    """One row per model, newest first.

    `counting` tells, by model key, which digest counts where nodes have different weights under one name; without it
    the one modified last is told.
    """
    newest: dict[str, Row] = {}
    for rows in lists:
        for row in rows:
            key = canonical(name_of(row))
            known = newest.get(key)
            if known is None or rank(row, counting.get(key)) > rank(known, counting.get(key)):
                newest[key] = row
    return sorted(newest.values(), key=lambda row: int(moment(row.get("modified_at"))), reverse=True)


def completed(rows: list[Row], more: list[Row]) -> list[Row]:
    """The rows, and of the others those of models that are not among them; newest first."""
    keys = {canonical(name_of(row)) for row in rows}
    rows = rows + [row for row in more if canonical(name_of(row)) not in keys]
    return sorted(rows, key=lambda row: int(moment(row.get("modified_at"))), reverse=True)


def rank(row: Row, digest: str | None) -> tuple[bool, float]:
    """What makes one row of a model be told before another: the weights that count, then being newer."""
    return row.get("digest") == digest, moment(row.get("modified_at"))


def named_ps(lists: Iterable[tuple[str, list[Row]]]) -> list[Row]:
    """One row per model and node, with a member `node` at its end; the last to expire first."""
    rows = [{**row, "node": node} for node, told in lists for row in told]
    return sorted(rows, key=lambda row: moment(row.get("expires_at")), reverse=True)


def cloud_of(status: Row | None) -> Row:
    """The `cloud` member of an answer to /api/status; empty where it has none."""
    cloud = (status or {}).get("cloud")
    return cloud if isinstance(cloud, dict) else {}


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


def lowest_version(versions: Iterable[str]) -> str | None:
    """The version that every node has at least; None where no node told one."""
    return min((version for version in versions if version), key=version_order, default=None)
