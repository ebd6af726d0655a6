"""Model names: `[host/][namespace/]model[:tag]` with Ollama's defaults, and the cloud and local suffixes."""

import re
from dataclasses import dataclass
from functools import lru_cache

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
    _, _, text = text.rpartition("://")
    if text.lower().endswith(":local"):
        text = text[: -len(":local")]
    rest, tag = text, DEFAULT_TAG
    if ":" in text.rpartition("/")[2]:
        rest, _, tag = text.rpartition(":")
    parts = rest.rsplit("/", 2)
    model = parts[-1]
    namespace = parts[-2] if len(parts) > 1 else DEFAULT_NAMESPACE
    host = parts[0] if len(parts) > 2 else DEFAULT_HOST  # noqa: PLR2004 - host/namespace/model
    valid = _HOST.match(host) and _NAMESPACE.match(namespace) and _PART.match(model) and _PART.match(tag)
    return ModelName(host, namespace, model, tag) if valid else None


def is_cloud_name(text: str) -> bool:
    """Whether the name asks for ollama.com rather than for this node."""
    _, colon, tag = text.lower().rpartition(":")
    return bool(colon) and "/" not in tag and (tag == "cloud" or tag.endswith("-cloud"))
