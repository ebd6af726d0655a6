"""Nodes that have different weights under one name: which of them count, so that lists and answers agree."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from routing.core.snapshot import InstalledModel

Rule = Literal["newest", "majority"]


def preferred(models: Iterable[InstalledModel], rule: Rule) -> dict[str, str]:
    """The digest that counts, by model key, for names under which the nodes have several.

    `newest`: the one modified last. `majority`: the one on most nodes, among equals the newest.
    """
    variants: dict[str, list[InstalledModel]] = {}
    for model in models:
        if model.digest:
            variants.setdefault(model.key, []).append(model)
    return {
        key: chosen(rows, rule) for key, rows in variants.items() if any(row.digest != rows[0].digest for row in rows)
    }


def chosen(rows: list[InstalledModel], rule: Rule) -> str:
    """The digest that the rule prefers among several of one name; the digest itself breaks ties, so that all agree."""
    counts = Counter(row.digest for row in rows) if rule == "majority" else Counter[str]()
    return max(rows, key=lambda row: (counts[row.digest], row.modified_at, row.digest)).digest
