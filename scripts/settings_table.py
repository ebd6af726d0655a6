"""Writes the settings table of docs/settings.md and .env.example from the code, or says whether they differ from it."""

import argparse
import sys
import textwrap
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from sollol_site.environment import ROOT, Environment

DOCUMENT = ROOT / "docs" / "settings.md"
EXAMPLE = ROOT / ".env.example"
BEGIN, END = "<!-- settings: written by `make docs` -->\n", "<!-- end of settings -->\n"
EXAMPLE_HEAD = """\
# Copy to .env and remove the # in front of what you change. The environment goes before this file.
# docs/settings.md tells more. Written from the code by `make docs`.
"""


def default(field: FieldInfo) -> str:
    """The default as one would write it in the environment."""
    match field.default:
        case bool(value):
            return str(value).lower()
        case tuple(values):
            return ",".join(values)
        case Path() as path if path.is_relative_to(ROOT):
            return str(path.relative_to(ROOT))
        case float(value):
            return f"{value:g}"
        case value:
            return str(value)


def meaning(field: FieldInfo) -> str:
    if get_origin(field.annotation) is not Literal:
        return field.description or ""
    return f"{field.description} One of {', '.join(f'`{value}`' for value in get_args(field.annotation))}."


def table() -> str:
    rows = ["| Setting | Default | Meaning |", "|---|---|---|"]
    for name, field in Environment.model_fields.items():
        shown = f"`{default(field)}`" if default(field) else "empty"
        rows.append(f"| `{name.upper()}` | {shown} | {meaning(field).replace('|', chr(92) + '|')} |")
    return "\n".join(rows) + "\n"


def document(text: str) -> str:
    """The document with the table that the code asks for. Raises ValueError if its markers are gone."""
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"{DOCUMENT.name} has lost its markers {BEGIN.strip()} and {END.strip()}")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def example() -> str:
    blocks = [EXAMPLE_HEAD]
    for name, field in Environment.model_fields.items():
        told = textwrap.fill(meaning(field), 116, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
        blocks.append(f"{told}\n#{name.upper()}={default(field)}\n")
    return "\n".join(blocks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="Write them; without it they are only compared.")
    options = parser.parse_args()
    stale = 0
    for path, wanted in ((DOCUMENT, document(DOCUMENT.read_text())), (EXAMPLE, example())):
        if path.exists() and path.read_text() == wanted:
            continue
        stale += 1
        if options.write:
            path.write_text(wanted)
        print(f"{path.relative_to(ROOT)} {'written' if options.write else 'differs from the code; run: make docs'}")
    sys.exit(0 if options.write else int(bool(stale)))


if __name__ == "__main__":
    main()
