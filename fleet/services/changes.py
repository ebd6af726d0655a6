"""What differs between two pictures of the gateway, in as few bytes as tell it."""

from typing import Any

Sections = dict[str, Any]
#: Sections of rows by key, of which only rows (and of rows that are objects only members) that differ are told.
KEYED = ("nodes", "series")
#: Sections of rows, newest first, which never change: only new ones are told.
GROWING = ("requests",)


def changes(before: Sections, after: Sections) -> Sections:
    """The sections that differ: keyed ones as `{"set": {key: row}, "gone": [key]}`, growing ones as what is new."""
    told: Sections = {}
    for name, section in after.items():
        old = before.get(name)
        if old == section:
            continue
        if old is not None and name in KEYED:
            told[name] = keyed(old, section)
        elif old and name in GROWING:
            told[name] = fresh(old, section)
        else:
            told[name] = section
    return told


def keyed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    changed = {}
    for key, row in after.items():
        old = before.get(key)
        if old == row:
            continue
        if isinstance(old, dict):
            changed[key] = {name: value for name, value in row.items() if old.get(name) != value}
        else:
            changed[key] = row
    told: dict[str, Any] = {"set": changed}
    if gone := [key for key in before if key not in after]:
        told["gone"] = gone
    return told


def fresh(before: list[Any], after: list[Any]) -> list[Any]:
    """The rows before the first that was known."""
    newest = before[0]
    for number, row in enumerate(after):
        if row == newest:
            return after[:number]
    return after
