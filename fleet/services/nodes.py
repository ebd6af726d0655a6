"""Nodes: added from a line of text, enabled, disabled, drained."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from django.core.exceptions import ValidationError
from django.db import transaction

from fleet.models import Node
from fleet.models.node import NAME, normal_url


def truth(text: str) -> bool:
    """Raises KeyError for what is neither true nor false."""
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]


OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "slots": ("slots", int),
    "vram_gb": ("vram_gb", float),
    "ram_gb": ("ram_gb", float),
    "cores": ("cores", int),
    "class": ("node_class", str),
    "max_loaded": ("max_loaded", int),
    "region": ("region", str),
    "weight": ("weight", float),
    "cost": ("cost_per_hour", float),
    "cloud": ("cloud", truth),
}
LABEL = "label."


class Seeded(NamedTuple):
    """What seeding did: nodes added, and nodes that were there already and stay as they are."""

    created: list[Node]
    kept: list[Node]


def seed(text: str) -> Seeded:
    """Add the nodes of `[name=]host:port[?slots=4&vram_gb=24&class=gpu&label.rack=a1], ...`.

    A node whose address exists is never overwritten. Raises ValueError naming the entry; then nothing was added.
    """
    created: list[Node] = []
    kept: list[Node] = []
    with transaction.atomic():
        for entry in filter(None, (part.strip() for part in text.split(","))):
            node = parse(entry)
            known = Node.objects.filter(url=node.url).first()
            if known is not None:
                kept.append(known)
                continue
            node.name = node.name or free_name(node.url)
            try:
                node.full_clean()
            except ValidationError as error:
                raise ValueError(f"node {entry!r}: {told(error)}") from None
            node.save()
            created.append(node)
    return Seeded(created, kept)


def parse(entry: str) -> Node:
    """An unsaved node of one entry; its name is empty if the entry gives none. Raises ValueError naming the entry."""
    address, _, query = entry.partition("?")
    name, equals, rest = address.partition("=")
    if equals:
        address = rest
    try:
        if equals:
            NAME(name.strip())
        node = Node(name=name.strip() if equals else "", url=normal_url(address))
        for option, value in parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)):
            set_option(node, option, value)
    except (ValidationError, ValueError) as error:
        raise ValueError(f"node {entry!r}: {told(error)}") from None
    return node


def set_option(node: Node, option: str, value: str) -> None:
    if option.startswith(LABEL) and len(option) > len(LABEL):
        node.labels = {**node.labels, option.removeprefix(LABEL): value}
        return
    if option not in OPTIONS:
        raise ValueError(f"unknown option {option!r}; known are {', '.join(OPTIONS)} and {LABEL}<name>")
    field, read = OPTIONS[option]
    try:
        setattr(node, field, read(value))
        node.clean_fields(exclude={other.name for other in node._meta.fields} - {field})  # noqa: SLF001 (Django's own name)
    except ValidationError as error:
        raise ValueError(f"{option}={value!r}: {told(error)}") from None
    except (ValueError, KeyError):
        kind = {int: "a whole number", truth: "true or false"}.get(read, "a number")
        raise ValueError(f"{option}={value!r} is not {kind}") from None


def told(error: Exception) -> str:
    return " ".join(error.messages) if isinstance(error, ValidationError) else str(error)


def free_name(url: str) -> str:
    """The host, or host:port, or that with a number: the first that no node is called."""
    parts = urlsplit(url)
    host = (parts.hostname or "node").replace(":", "-").rstrip(".").lstrip("_-")[:48] or "node"
    taken = {name.lower() for name in Node.objects.values_list("name", flat=True)}
    wanted = [host, f"{host}:{parts.port}", *(f"{host}:{parts.port}-{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in wanted if name.lower() not in taken)


def enable(nodes: Iterable[Node]) -> int:
    """Let the nodes be used and probed; returns how many were not."""
    return switch(nodes, enabled=True)


def disable(nodes: Iterable[Node]) -> int:
    """Take the nodes out of use at once; returns how many were in use. Running requests are not cut."""
    return switch(nodes, enabled=False)


def drain(nodes: Iterable[Node]) -> int:
    """Send the nodes no new requests; returns how many were not draining."""
    return switch(nodes, draining=True)


def resume(nodes: Iterable[Node]) -> int:
    """End draining; returns how many were draining."""
    return switch(nodes, draining=False)


def switch(nodes: Iterable[Node], **wanted: bool) -> int:
    [(column, value)] = wanted.items()
    return Node.objects.filter(pk__in=[node.pk for node in nodes], **{column: not value}).update(**wanted)
