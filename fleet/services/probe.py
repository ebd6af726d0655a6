"""One look at one node over HTTP: what an Ollama server tells about itself. No database, so it runs in any thread."""

import json
import math
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from fleet.models import Node
from routing.core.names import canonical

TIMEOUT = httpx.Timeout(10.0, connect=3.0)
LARGEST_ANSWER = 32 * 2**20
#: Seconds for one answer and for all descriptions of one node; what is left is described by the next sweep.
ANSWER_S = 15.0
DESCRIBE_S = 25.0

#: The operating system's number in front of its words.
ERRNO = re.compile(r"^\[Errno -?\d+\] ")


@dataclass(frozen=True, slots=True)
class Description:
    """What /api/show tells about a model's weights. `parameters_b` in 10⁹, `context_length` in tokens."""

    capabilities: tuple[str, ...] = ()
    parameters_b: float | None = None
    context_length: int | None = None


@dataclass(frozen=True, slots=True)
class Installed:
    """A row of /api/tags; `size` in bytes."""

    key: str
    name: str
    digest: str
    size: int
    quantization: str = ""

    @property
    def weights(self) -> str:
        """What a description belongs to: the digest, or the name if the node tells no digest."""
        return self.digest or self.key


@dataclass(frozen=True, slots=True)
class Resident:
    """A row of /api/ps; sizes in bytes, `context` in tokens."""

    key: str
    name: str
    digest: str
    size: int
    size_vram: int
    context: int | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one look found. `installed` and `resident` are None if the node did not tell; then the known lists stay."""

    node_id: int
    url: str
    at: datetime
    reachable: bool
    error: str = ""
    latency_ms: float | None = None
    version: str = ""
    installed: tuple[Installed, ...] | None = None
    resident: tuple[Resident, ...] | None = None
    described: Mapping[str, Description] = field(default_factory=dict)


class Unanswered(Exception):  # noqa: N818 (named after what happened)
    """The node gave no usable answer; the text tells an operator what is wrong."""


def look(
    node: Node,
    client: httpx.Client,
    known: Collection[str] = (),
    known_version: str = "",
    *,
    connect_s: float | None = None,
    describing: bool = True,
) -> Sighting:
    """Ask a node for its version, its models and what is loaded, and describe the weights that are not `known`.

    A node with another version than `known_version` describes everything again: newer servers tell more. Never raises.
    With `connect_s` it must take the connection within so many seconds; not `describing` leaves descriptions out.
    """
    at = datetime.now(UTC)
    began = time.perf_counter()
    try:
        version = version_of(ask(node, client, "GET", "/api/version", connect_s=connect_s))
    except Unanswered as error:
        return Sighting(node.pk, node.url, at, reachable=False, error=str(error))
    latency_ms = (time.perf_counter() - began) * 1000
    faults: list[str] = []
    installed = listed(node, client, "/api/tags", installed_of, faults)
    resident = listed(node, client, "/api/ps", resident_of, faults)
    new = [
        model for model in installed or () if describing and (version != known_version or model.weights not in known)
    ]
    described = describe(node, client, new)
    told = "; ".join(faults)
    return Sighting(node.pk, node.url, at, True, told, latency_ms, version, installed, resident, described)


def listed(node: Node, client: httpx.Client, path: str, read: Callable[[Any], Any], faults: list[str]) -> Any:
    try:
        return read(ask(node, client, "GET", path))
    except Unanswered as error:
        faults.append(str(error))
        return None


def describe(node: Node, client: httpx.Client, models: list[Installed]) -> dict[str, Description]:
    described: dict[str, Description] = {}
    until = time.monotonic() + DESCRIBE_S
    for model in models:
        if model.weights in described:
            continue
        if time.monotonic() > until:
            break
        try:
            described[model.weights] = description_of(ask(node, client, "POST", "/api/show", {"model": model.name}))
        except Unanswered:
            continue  # a broken model must not hide the others; it is asked for again next time
    return described


@contextmanager
def asked(
    node: Node, client: httpx.Client, method: str, path: str, body: Any = None, timeout: httpx.Timeout = TIMEOUT
) -> Iterator[httpx.Response]:
    """The node's answer, its body still to be read. Raises Unanswered, in words, whatever the network does."""
    headers = {node.header_name: node.header_value} if node.header_name else {}
    try:
        with client.stream(method, f"{node.url}{path}", json=body, headers=headers, timeout=timeout) as answer:
            yield answer
    except httpx.ConnectTimeout:
        raise Unanswered(f"no connection within {timeout.connect:.0f} s; is the host up and the port open?") from None
    except httpx.TimeoutException:
        raise Unanswered(f"{path} did not answer within {timeout.read:.0f} s") from None
    except httpx.ConnectError as error:
        raise Unanswered(f"cannot connect: {ERRNO.sub('', str(error))}") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unanswered(f"{path} broke off: {error or type(error).__name__}") from None


def ask(
    node: Node,
    client: httpx.Client,
    method: str,
    path: str,
    body: Any = None,
    seconds: float | None = None,
    connect_s: float | None = None,
) -> dict[str, Any]:
    """The JSON object that a node answers with, in `seconds` if given. Raises Unanswered in words for an operator."""
    timeout = TIMEOUT if seconds is None else httpx.Timeout(seconds, connect=min(seconds, TIMEOUT.connect or seconds))
    if connect_s is not None:
        timeout = httpx.Timeout(timeout.read, connect=connect_s)
    with asked(node, client, method, path, body, timeout) as answer:
        raw = read_whole(answer, path, ANSWER_S if seconds is None else seconds)
    value = accepted(answer, path, raw)
    if not isinstance(value, dict):
        kind = answer.headers.get("content-type", "no content type").partition(";")[0]
        raise Unanswered(f"{path} is not Ollama's: {kind} instead of a JSON object")
    return value


def accepted(answer: httpx.Response, path: str, raw: bytes) -> Any:
    """The body's JSON value, None if it is none. Raises Unanswered where the node did not do what it was asked."""
    if answer.status_code in (401, 403):
        raise Unanswered(f"{path} refuses us (HTTP {answer.status_code}); check the node's credentials header")
    if answer.status_code == httpx.codes.LOOP_DETECTED:
        raise Unanswered("this is the address of SOLLOL itself; a node is an Ollama server behind it")
    try:
        value = json.loads(raw)
    except ValueError:
        value = None
    if answer.status_code != httpx.codes.OK:
        said = clean(value.get("error"), 300) if isinstance(value, dict) else ""
        raise Unanswered(f"{path} answered HTTP {answer.status_code}: {said or 'is this an Ollama server?'}")
    return value


def read_whole(answer: httpx.Response, path: str, seconds: float) -> bytes:
    """The body, within bounds: a server that drips or never ends must not hold the sweep."""
    until = time.monotonic() + seconds
    raw = bytearray()
    for part in answer.iter_bytes():
        raw += part
        if len(raw) > LARGEST_ANSWER:
            raise Unanswered(f"{path} is longer than {LARGEST_ANSWER // 2**20} MiB")
        if time.monotonic() > until:
            raise Unanswered(f"{path} did not end within {seconds:.0f} s")
    return bytes(raw)


def version_of(answer: dict[str, Any]) -> str:
    version = answer.get("version")
    if not isinstance(version, str) or not version:
        raise Unanswered("/api/version has no version; is this an Ollama server?")
    return clean(version, 64)


def rows_of(answer: dict[str, Any], path: str) -> list[dict[str, Any]]:
    rows = answer.get("models", [])
    if rows is None:
        return []
    if not isinstance(rows, list):
        raise Unanswered(f"{path} is not Ollama's: its models are not a list")
    return [row for row in rows if isinstance(row, dict) and name_of(row)]


def installed_of(answer: dict[str, Any]) -> tuple[Installed, ...]:
    rows: dict[str, Installed] = {}
    for row in rows_of(answer, "/api/tags"):
        name, details = name_of(row), row.get("details")
        quantization = clean(details.get("quantization_level"), 32) if isinstance(details, dict) else ""
        key = canonical(name)
        rows.setdefault(key, Installed(key, name, digest_of(row), whole(row.get("size")) or 0, quantization))
    return tuple(rows.values())


def resident_of(answer: dict[str, Any]) -> tuple[Resident, ...]:
    rows: dict[str, Resident] = {}
    for row in rows_of(answer, "/api/ps"):
        name = name_of(row)
        key = canonical(name)
        size, vram = whole(row.get("size")) or 0, whole(row.get("size_vram")) or 0
        context, expires = whole(row.get("context_length")), moment(row.get("expires_at"))
        rows.setdefault(key, Resident(key, name, digest_of(row), size, vram, context, expires))
    return tuple(rows.values())


def description_of(answer: dict[str, Any]) -> Description:
    info, capabilities = answer.get("model_info"), answer.get("capabilities")
    info = info if isinstance(info, dict) else {}
    count = info.get("general.parameter_count")
    context = info.get(f"{info.get('general.architecture')}.context_length")
    named = (
        sorted({clean(item, 32) for item in capabilities if isinstance(item, str)})
        if isinstance(capabilities, list)
        else []
    )
    parameters = count / 1e9 if isinstance(count, int | float) and math.isfinite(count) and count > 0 else None
    return Description(tuple(named), parameters, whole(context))


def name_of(row: dict[str, Any]) -> str:
    return clean(row.get("name") or row.get("model"), 500)


def digest_of(row: dict[str, Any]) -> str:
    return clean(row.get("digest"), 80).removeprefix("sha256:")


def clean(value: Any, longest: int) -> str:
    """Text that any database takes: no NUL, no lone surrogate, not too long."""
    text = value if isinstance(value, str) else ""
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:longest]


def whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def moment(value: Any) -> datetime | None:
    """A time as Go writes it; its zero time (year 1) and what is no time are None."""
    try:
        time_of = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return time_of if time_of.tzinfo is not None and time_of.year > 1970 else None  # noqa: PLR2004 (the epoch)
