"""What the gateway reads out of, and writes into, the nodes' answers."""

import math
import re
from datetime import UTC, datetime
from typing import Any

import orjson

from routing.core.learner import Metrics
from routing.core.names import canonical
from routing.core.snapshot import InstalledModel
from routing.core.state import ResidentModel

DONE, NOT_DONE = b'"done":true', b'"done":false'
USAGE = b'"usage":{'
#: Above this size an embedding answer is not decoded whole: its counts stand behind its last bracket.
LARGE = 1 << 14
LARGEST_SIZE = 1 << 50
NS = 1e-9


def decode(data: bytes) -> dict[str, Any] | None:
    """A JSON object, or None where the bytes are none."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def decode_tail(data: bytes) -> dict[str, Any] | None:
    """The members behind the vectors of an embedding answer; a large one is not decoded for its few numbers."""
    if len(data) < LARGE:
        return decode(data)
    return decode(b"{" + data[data.rfind(b"]") + 1 :].lstrip(b","))


def number(value: object) -> float:
    """A finite number, 0 for anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return 0.0
    return float(value)


def native_metrics(final: dict[str, Any]) -> Metrics:
    """Counts and durations of a final object of /api/generate, /api/chat or /api/embed.

    Wire durations are nanoseconds.
    """
    told = final.get
    try:
        prompt_s = told("prompt_eval_duration", 0) * NS
        load_s = told("load_duration", 0) * NS
        total_s = told("total_duration", 0) * NS
        if not prompt_s and "eval_count" not in final:
            prompt_s = max(0.0, total_s - load_s)
        output_s = told("eval_duration", 0) * NS
        counts = int(told("prompt_eval_count", 0)), int(told("eval_count", 0))
        return Metrics(*counts, prompt_s, output_s, load_s, total_s, cut=told("done_reason") == "length")
    except (TypeError, ValueError):
        # Numbers that are none: the answer is relayed as it is, and teaches nothing.
        return Metrics()


def openai_usage(answer: dict[str, Any]) -> tuple[int, int]:
    """Prompt and answer tokens of a /v1 answer or usage chunk, in any API's words; zeros where it tells none."""
    usage = answer.get("usage")
    if usage is None and isinstance(response := answer.get("response"), dict):
        usage = response.get("usage")
    if not isinstance(usage, dict):
        return 0, 0
    prompt, output = (usage.get(f"{word}_tokens") for word in ("prompt", "completion"))
    if prompt is None and output is None:
        prompt, output = usage.get("input_tokens"), usage.get("output_tokens")
    return int(number(prompt)), int(number(output))


def spliced(line: bytes, name: bytes, value: bytes) -> bytes:
    """A JSON object's bytes with one more member at the end; everything else stays as the node wrote it."""
    end = line.rfind(b"}")
    comma = b"" if line[:end].rstrip().endswith(b"{") else b","
    return b"".join((line[:end], comma, b'"', name, b'":', value, line[end:]))


def installed(entry: dict[str, Any]) -> InstalledModel | None:
    """A row of /api/tags; None where it has no name."""
    name = entry.get("model") or entry.get("name")
    if not isinstance(name, str):
        return None
    details = entry.get("details")
    details = details if isinstance(details, dict) else {}
    capabilities = entry.get("capabilities")
    context = number(details.get("context_length"))
    return InstalledModel(
        key=canonical(name),
        name=name,
        digest=str(entry.get("digest") or ""),
        size=size_of(entry.get("size")),
        capabilities=frozenset(map(str, capabilities)) if isinstance(capabilities, list) else frozenset(),
        parameters_b=billions(details.get("parameter_size")),
        context_length=int(context) or None,
        modified_at=moment(entry.get("modified_at")),
        remote=bool(entry.get("remote_host")),
    )


def resident(entry: dict[str, Any]) -> ResidentModel | None:
    """A row of /api/ps; None where it has no name."""
    name = entry.get("model") or entry.get("name")
    if not isinstance(name, str):
        return None
    return ResidentModel(
        key=canonical(name),
        name=name,
        digest=str(entry.get("digest") or ""),
        size=size_of(entry.get("size")),
        size_vram=size_of(entry.get("size_vram")),
        context_length=int(number(entry.get("context_length"))),
    )


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


def size_of(value: object) -> int:
    """Bytes of memory or disk, within what a machine can have."""
    return int(min(max(0.0, number(value)), float(LARGEST_SIZE)))


def billions(size: object) -> float | None:
    """Parameters in billions from Ollama's text ("8.0B", "137M"); None where it is no such text."""
    if not isinstance(size, str) or not size:
        return None
    factor = {"K": 1e-6, "M": 1e-3, "B": 1.0, "T": 1e3}.get(size[-1].upper())
    try:
        parameters = float(size[:-1]) * factor if factor else 0.0
    except ValueError:
        return None
    return parameters if math.isfinite(parameters) and parameters > 0 else None


def version(data: bytes) -> str:
    """The version that /api/version tells. Raises `ValueError` where the answer tells none."""
    answer = decode(data)
    told = answer.get("version") if answer else None
    if not isinstance(told, str):
        raise ValueError("not an Ollama server: /api/version tells no version")  # noqa: TRY004 (a wire fault)
    return told


def rows(data: bytes) -> list[dict[str, Any]]:
    """The `models` list of /api/tags or /api/ps. Raises `ValueError` where the answer is no such list."""
    answer = decode(data)
    models = answer.get("models") if answer else None
    if not isinstance(models, list):
        raise ValueError("not an Ollama server: the answer has no list of models")  # noqa: TRY004 (a wire fault)
    return [row for row in models if isinstance(row, dict)]
