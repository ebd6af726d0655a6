"""Nodes and policies as CSV and YAML: written from the database, and read back as rows."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from fleet.models import Node, PriorityPolicy, Quota

#: What is never written: credentials stay where they are.
SECRET = frozenset({"header_value"})
QUOTA = ("amount", "measure", "window", "breach", "from_priority")
FORMATS = ("csv", "yaml")
#: Bytes and rows that one import takes.
LARGEST, MOST_ROWS = 2 * 2**20, 5000

Row = dict[str, Any]


def columns(model: Any) -> list[str]:
    """The columns that people set, by the names they have in a text."""
    every = model._meta.concrete_fields  # noqa: SLF001 (Django's public name for it)
    fields = [field for field in every if field.editable and not field.primary_key]
    return [field.name for field in fields if not getattr(field, "auto_now_add", False)]


def node_rows(nodes: Iterable[Node]) -> list[Row]:
    names = [name for name in columns(Node) if name not in SECRET]
    return [{name: getattr(node, name) for name in names} for node in nodes]


def policy_rows(policies: Iterable[PriorityPolicy]) -> list[Row]:
    names = [name for name in columns(PriorityPolicy) if name != "team"]
    return [
        {
            "team": policy.team.name,
            **{name: getattr(policy, name) for name in names},
            "quotas": [quota_row(quota) for quota in policy.quotas.all()],
        }
        for policy in policies
    ]


def quota_row(quota: Quota) -> Row:
    return {name: getattr(quota, name) for name in QUOTA}


def written(rows: Sequence[Row], form: str) -> str:
    """The rows as a text; in CSV labels and quotas are JSON."""
    if form == "yaml":
        return str(yaml.safe_dump([plain(row) for row in rows], sort_keys=False, allow_unicode=True))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def plain(row: Row) -> Row:
    """Choices are texts of a class of their own, which YAML would not write."""
    return {name: str(value) if isinstance(value, str) else value for name, value in row.items()}


def cell(value: Any) -> Any:
    """What a spreadsheet shows; a text that it would take for a formula is told to be a text."""
    if isinstance(value, dict | list):
        return json.dumps(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") and value[1:2] else value


def read(text: str, form: str) -> list[Row]:
    """The rows of a text. Raises ValueError in words for who has written it."""
    if len(text.encode("utf-8", "replace")) > LARGEST:
        raise ValueError(f"the text is longer than {LARGEST // 2**20} MiB")
    rows = read_yaml(text) if form == "yaml" else read_csv(text)
    if not rows:
        raise ValueError("there are no rows in it")
    if len(rows) > MOST_ROWS:
        raise ValueError(f"there are {len(rows):,} rows in it; at most {MOST_ROWS:,} are taken at a time")
    return rows


def read_csv(text: str) -> list[Row]:
    try:
        rows = list(csv.DictReader(io.StringIO(text.lstrip("\ufeff")), strict=True))
    except csv.Error as error:
        raise ValueError(f"this is not CSV: {error}") from None
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise ValueError(f"row {number} has not as many cells as the first line has names")
    return [{name.strip(): uncell(value.strip()) for name, value in row.items()} for row in rows]


def uncell(value: str) -> str:
    return value[1:] if value[:1] == "'" and value[1:2] in ("=", "+", "-", "@") else value


def read_yaml(text: str) -> list[Row]:
    if "*" in text and "&" in text and any(isinstance(token, yaml.AliasToken) for token in tokens(text)):
        raise ValueError("aliases (*name) are not taken: write the values out")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"this is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise ValueError("a list of mappings is expected: one entry with names and values for each row")
    return [{str(name): value for name, value in row.items()} for row in value]


def tokens(text: str) -> Iterable[Any]:
    try:
        return list(yaml.scan(text))
    except yaml.YAMLError:
        return []
