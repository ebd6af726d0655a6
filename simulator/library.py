"""The models on a node's disk, found by name as Ollama finds them."""

from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from simulator.models import ModelSpec
from simulator.names import ModelName, parse_name
from simulator.wire import go_json

STUB_BYTES = 384


@dataclass(frozen=True)
class InstalledModel:
    """A manifest on disk: which model under which name, with what the Modelfile adds; times are seconds since 1970."""

    name: ModelName
    spec: ModelSpec
    modified_at: float
    system: str = ""
    template: str = ""
    license: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    messages: tuple[dict[str, Any], ...] = ()
    parent: str = ""

    @property
    def digest(self) -> str:
        """64 hex digits; a Modelfile that adds something makes another manifest of the same weights."""
        added = (self.system, self.template, self.license, self.options, self.messages)
        if not any(added):
            return self.spec.digest
        return sha256(self.spec.digest.encode() + go_json(added)).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all layers; a stub is a few lines that say where the model runs."""
        if self.spec.remote_host:
            return STUB_BYTES
        return self.spec.weights_bytes + len(self.spec.license) + len(self.system) + len(self.template)

    def details(self) -> dict[str, Any]:
        return {
            "parent_model": self.parent,
            "format": "gguf",
            "family": self.spec.family,
            "families": [self.spec.family],
            "parameter_size": self.spec.parameter_size,
            "quantization_level": self.spec.quantization,
            "context_length": self.spec.train_context,
            "embedding_length": self.spec.embedding_length,
        }


class Library:
    """Installed models by canonical name, and the blobs that belong to them or were uploaded."""

    def __init__(self) -> None:
        self._models: dict[str, InstalledModel] = {}
        self.blobs: dict[str, int] = {}
        """Digest (`sha256:` and 64 hex digits) to bytes."""

    def newest_first(self) -> list[InstalledModel]:
        """All models, the last modified first (whole seconds count)."""
        return sorted(self._models.values(), key=lambda model: -int(model.modified_at))

    def add(self, model: InstalledModel) -> None:
        """Install under the model's name, in the spelling that is already there where there is one."""
        model = replace(model, name=self.spelled(model.name))
        self._models[model.name.key] = model
        if not model.spec.remote_host:
            self.blobs[f"sha256:{model.spec.weights_digest}"] = model.spec.weights_bytes

    def install(self, spec: ModelSpec, modified_at: float) -> InstalledModel:
        name = parse_name(spec.name)
        if name is None:
            raise ValueError(f"{spec.name!r} is no model name")
        model = InstalledModel(name, spec, modified_at, system=spec.system)
        self.add(model)
        return model

    def find(self, text: str, *, exact: bool = False) -> InstalledModel | None:
        """The model of this name, whatever its case unless it must be `exact`."""
        name = parse_name(text)
        return self.get(name, exact=exact) if name else None

    def get(self, name: ModelName, *, exact: bool = False) -> InstalledModel | None:
        model = self._models.get(name.key)
        return None if exact and model and model.name != name else model

    def spelled(self, name: ModelName) -> ModelName:
        """The name with each of its parts as an installed model spells it already."""
        known = self._models.get(name.key)
        if known is not None:
            return known.name
        parts = {}
        for part in ("host", "namespace", "model", "tag"):
            text = getattr(name, part)
            spellings = (getattr(model.name, part) for model in self.newest_first())
            parts[part] = next((spelling for spelling in spellings if spelling.lower() == text.lower()), text)
        return ModelName(**parts)

    def remove(self, model: InstalledModel) -> None:
        """Delete the name; the weights go with the last name that has them."""
        self._models.pop(model.name.key, None)
        digest = model.spec.weights_digest
        if all(other.spec.weights_digest != digest for other in self._models.values()):
            self.blobs.pop(f"sha256:{digest}", None)
