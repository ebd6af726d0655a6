"""Inputs of embedding jobs as they come in: texts in a list, or lines of JSON, each checked before it is stored."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import orjson

from fleet.models import BatchItem
from fleet.services.batch.jobs import Input, Unfit

#: The longest line in bytes.
LONGEST = 16 << 20
NAME_LENGTH = BatchItem._meta.get_field("custom_id").max_length or 0  # noqa: SLF001 (Django's public name for it)
NAMES = ("text", "input")


class Lines(Protocol):
    def readline(self, size: int = -1, /) -> bytes: ...


def from_texts(texts: Iterable[Any]) -> Iterator[Input]:
    """Raises `Unfit` for what is no text, naming its place."""
    for number, text in enumerate(texts):
        if fault := text_fault(text):
            raise Unfit(f"texts[{number}]: {fault}")
        yield Input(text)


def from_lines(source: Lines) -> Iterator[Input]:
    """Inputs from JSON lines, read one at a time: a text, or an object with `text` (or `input`) and `custom_id`.

    Empty lines are passed over. Raises `Unfit` for a line that is nothing of that, naming it.
    """
    number = 0
    while line := source.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            raise Unfit(f"Line {number} is longer than {LONGEST >> 20} MiB.")
        if line.strip():
            yield from_line(line, number)


def from_line(line: bytes, number: int) -> Input:
    try:
        value = orjson.loads(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
    except orjson.JSONDecodeError as error:
        raise Unfit(f"Line {number} is no JSON: {error}.") from None
    name: Any = ""
    if isinstance(value, dict):
        if unknown := value.keys() - {*NAMES, "custom_id"}:
            raise Unfit(f"Line {number}: unknown member {min(unknown)!r}; there are text and custom_id.")
        name = value.get("custom_id", "")
        value = next((value[member] for member in NAMES if member in value), None)
    if fault := text_fault(value):
        raise Unfit(f"Line {number}: {fault}")
    if not isinstance(name, str) or "\0" in name or len(name) > NAME_LENGTH:
        raise Unfit(f"Line {number}: custom_id is a text of at most {NAME_LENGTH} characters.")
    return Input(value, name)


def text_fault(value: Any) -> str:
    """What is wrong with a text; empty if nothing is."""
    if not isinstance(value, str):
        return "this is no text."
    if not value:
        return "this text is empty."
    if "\0" in value:
        return "a text has no null characters."
    try:
        value.encode()
    except UnicodeEncodeError:
        return "half a surrogate pair is no text."
    return ""
