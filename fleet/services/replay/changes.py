"""Another fleet out of the one there is: nodes added, removed, given more slots. Nothing of it is stored."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from routing.core.learned import Learned
from routing.core.names import canonical
from routing.core.snapshot import FleetSnapshot, InstalledModel, NodeSpec
from routing.whatif.profiles import MEMORY_FACTOR

GIB = 1 << 30
#: What a node that is added may be told, by the name of its option.
READS: Mapping[str, tuple[str, Any]] = {
    "class": ("node_class", str),
    "vram": ("vram_bytes", lambda text: int(float(text) * GIB)),
    "ram": ("ram_bytes", lambda text: int(float(text) * GIB)),
    "slots": ("slots", int),
    "max_loaded": ("max_loaded", int),
    "weight": ("weight", float),
    "cost": ("cost_per_hour", float),
}
KNOWN = ("name", *READS, "models", "like")
CLASSES = ("gpu", "cpu")


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a gateway would be told, and what it would know from the start."""

    snapshot: FleetSnapshot
    learned: Learned

    @property
    def nodes(self) -> tuple[NodeSpec, ...]:
        """The nodes in use."""
        return tuple(spec for spec in self.snapshot.nodes if spec.enabled and not spec.draining)

    def named(self, name: str) -> NodeSpec:
        """A node by its name, in any case. Raises ValueError that tells which there are."""
        for spec in self.snapshot.nodes:
            if spec.name.lower() == name.strip().lower():
                return spec
        known = ", ".join(spec.name for spec in self.snapshot.nodes) or "none"
        raise ValueError(f"no node is called {name.strip()!r} (nodes: {known})")

    def with_nodes(self, nodes: Iterable[NodeSpec]) -> "Fleet":
        return replace(self, snapshot=replace(self.snapshot, nodes=tuple(nodes)))


def without(fleet: Fleet, name: str) -> Fleet:
    """The fleet without a node."""
    gone = fleet.named(name)
    return fleet.with_nodes(spec for spec in fleet.snapshot.nodes if spec is not gone)


def with_slots(fleet: Fleet, text: str) -> Fleet:
    """The fleet with other slots on one node, given as `node=8`."""
    name, equals, number = text.partition("=")
    if not equals or not number.strip().isdigit() or int(number) < 1:
        raise ValueError(f"--slots {text!r}: give a node and a number, for example ant=8")
    changed = fleet.named(name)
    return fleet.with_nodes(
        replace(spec, slots=int(number)) if spec is changed else spec for spec in fleet.snapshot.nodes
    )


def with_node(fleet: Fleet, text: str) -> Fleet:
    """The fleet with one more node.

    `text` is `name=x,class=gpu,vram=24,slots=4,models=all,like=ant`: memory in GiB; models are `all`, or some joined by
    +; `like` names a node whose hardware, models and learned speeds the new one has where nothing else is said.
    """
    told = read(text)
    model = fleet.named(told["like"]) if "like" in told else None
    memory = "ram" if told.get("class") == "cpu" else "vram"
    if model is None and memory not in told:
        raise ValueError(f"--add-node: say how much memory it has ({memory}=...), or which node it is like (like=...)")
    number = max((spec.id for spec in fleet.snapshot.nodes), default=0) + 1
    name = told.get("name") or f"new-{number}"
    if any(spec.name.lower() == name.lower() for spec in fleet.snapshot.nodes):
        raise ValueError(f"--add-node: a node is called {name!r} already")
    spec = replace(
        model or NodeSpec(number, name, ""),
        id=number,
        name=name,
        url=f"http://{name}",
        enabled=True,
        draining=False,
        **values(told),
    )
    spec = replace(spec, models=models_of(fleet, told.get("models", "" if model else "all"), spec))
    grown = fleet.with_nodes((*fleet.snapshot.nodes, spec))
    return replace(grown, learned=copied(fleet.learned, model.id, number)) if model else grown


def read(text: str) -> dict[str, str]:
    """The options of a node that is added. Raises ValueError."""
    told: dict[str, str] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        option, equals, value = (one.strip() for one in part.partition("="))
        if not equals or option not in KNOWN:
            raise ValueError(f"--add-node: {part!r} is not understood; options are {', '.join(KNOWN)}")
        told[option] = value
    return told


def values(told: Mapping[str, str]) -> dict[str, Any]:
    """Fields of a node's specification."""
    found: dict[str, Any] = {}
    for option, (field, convert) in READS.items():
        if option not in told:
            continue
        try:
            found[field] = convert(told[option])
        except ValueError:
            raise ValueError(f"--add-node: {option}={told[option]!r} is not a number") from None
        if field == "node_class" and found[field] not in CLASSES:
            raise ValueError(f"--add-node: class={told[option]!r} is neither of {', '.join(CLASSES)}")
        if field not in {"node_class", "cost_per_hour"} and not found[field] > 0:
            raise ValueError(f"--add-node: {option}={told[option]!r} must be above 0")
    return found


def models_of(fleet: Fleet, text: str, spec: NodeSpec) -> tuple[InstalledModel, ...]:
    """The models of a node that is added: its copy's, all of the fleet that fit, or those named."""
    if not text:
        return spec.models
    every = {model.key: model for node in fleet.snapshot.nodes for model in node.models if not model.remote}
    if text == "all":
        memory = spec.ram_bytes if spec.node_class == "cpu" else spec.vram_bytes
        return tuple(model for model in every.values() if memory is None or model.size * MEMORY_FACTOR <= memory)
    wanted = [name.strip() for name in text.split("+")]
    unknown = [name for name in wanted if canonical(name) not in every]
    if unknown:
        raise ValueError(f"--add-node: no node has {', '.join(unknown)}")
    return tuple(every[canonical(name)] for name in wanted)


def copied(learned: Learned, node_id: int, number: int) -> Learned:
    """What was learned, with one node's part once more for the new node."""
    return replace(
        learned,
        speeds=(*learned.speeds, *(replace(one, node_id=number) for one in learned.speeds if one.node_id == node_id)),
        nodes=(*learned.nodes, *(replace(one, node_id=number) for one in learned.nodes if one.node_id == node_id)),
    )
