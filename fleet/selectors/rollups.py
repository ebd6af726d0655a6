"""Reads of what is added up by hour and day."""

from datetime import datetime
from typing import Any

from django.db.models import QuerySet, Sum

from fleet.models import Rollup
from routing.core.names import display

#: By what sums are told in parts, with its name; and how many parts.
TOP = {"team_name": "By team", "model": "By model", "node_name": "By node"}
PARTS = 8

SUMS = {
    "requests": Sum("requests"),
    "errors": Sum("errors"),
    "refused": Sum("refused"),
    "tokens": Sum("tokens_in") + Sum("tokens_out"),
}


def by_time(rows: QuerySet[Rollup]) -> dict[datetime, dict[str, int]]:
    """The sums of each hour or day, by its beginning."""
    found: Any = rows.values("begins").annotate(**SUMS)
    return {row["begins"]: {name: row[name] for name in SUMS} for row in found}


def largest(rows: QuerySet[Rollup], name: str) -> list[dict[str, Any]]:
    """The teams, models or nodes with most requests, with their sums."""
    sums = {one: SUMS[one] for one in ("requests", "tokens")}
    return list(rows.values(name).annotate(**sums).order_by("-requests", name)[:PARTS])


def spellings(name: str) -> set[str]:
    """A model's name as clients may have written it: with and without the tag that stands for none."""
    return {name, display(name), display(name).removesuffix(":latest")}
