"""Model names: `[host/][namespace/]model[:tag]` with Ollama's defaults, and the cloud and local suffixes."""

import re
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Literal

from simulator.wire import Refusal, go_json

Source = Literal["cloud", "local", ""]

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}\Z")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}\Z")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}\Z")


@dataclass(frozen=True, slots=True)
class ModelName:
    host: str
    namespace: str
    model: str
    tag: str

    @property
    def shortest(self) -> str:
        """The name as lists show it: defaults dropped, the tag always there."""
        short = f"{self.model}:{self.tag}"
        if self.host != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{short}"
        return short if self.namespace == DEFAULT_NAMESPACE else f"{self.namespace}/{short}"

    @property
    def full(self) -> str:
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def key(self) -> str:
        """What two spellings of the same model have in common."""
        return self.full.lower()


@lru_cache(maxsize=4096)
def parse_name(text: str) -> ModelName | None:
    """The parts of a model name, or None when no model can have this name."""
    if text.lower().endswith(":local"):
        text = text[: -len(":local")]
    rest, tag = text, DEFAULT_TAG
    if ":" in text.rpartition("/")[2]:
        rest, _, tag = text.rpartition(":")
    parts = rest.rsplit("/", 2)
    model = parts[-1]
    namespace = parts[-2] if len(parts) > 1 else DEFAULT_NAMESPACE
    host = parts[0] if len(parts) > 2 else DEFAULT_HOST  # noqa: PLR2004 - host/namespace/model
    host = host.partition("://")[2] or host
    valid = _HOST.match(host) and _NAMESPACE.match(namespace) and _PART.match(model) and _PART.match(tag)
    return ModelName(host, namespace, model, tag) if valid else None


def source_of(text: str) -> tuple[str, Source]:
    """The name without its source suffix, and where that says the model runs; two suffixes are a Refusal."""
    base, source = split_source(text)
    if source and split_source(base)[1]:
        quoted = go_json(text).decode()
        raise Refusal(HTTPStatus.BAD_REQUEST, f"use either :local or :cloud, not both: {quoted}")
    return base, source


def split_source(text: str) -> tuple[str, Source]:
    """The name without its last source suffix, and what that says."""
    base, colon, suffix = text.rpartition(":")
    lower = suffix.lower()
    if colon and lower == "cloud":
        return base, "cloud"
    if colon and lower == "local":
        return base, "local"
    if colon and "/" not in suffix and lower.endswith("-cloud"):
        return text[: -len("-cloud")], "cloud"
    return text, ""


def is_cloud_name(text: str) -> bool:
    """Whether the name asks for ollama.com rather than for this node."""
    return split_source(text)[1] == "cloud"


def stored_name(text: str) -> ModelName | None:
    """The name under which a stub of a cloud model is on disk: `x:20b:cloud` is kept as `x:20b-cloud`."""
    base, source = source_of(text)
    if source != "cloud":
        return parse_name(base)
    return parse_name(f"{base}-cloud" if ":" in base.rpartition("/")[2] else f"{base}:cloud")
