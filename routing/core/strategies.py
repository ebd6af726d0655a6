"""Routing strategies as data: what a place costs is a weighted sum of terms, and a strategy is the weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from routing.core.snapshot import NodeSpec, StrategySpec

if TYPE_CHECKING:
    from routing.core.state import NodeState

#: The terms, in seconds unless told otherwise: until the node can begin, the request itself, the delay of those who
#: run there, loads that evicted models will cost, a CPU where a GPU is wanted, what the node's time costs (money per
#: hour times hours), and the way there.
TERMS = ("start", "run", "others", "evict", "gpu", "price", "distance")
#: What a rank of preference weighs: more than any wait.
RANK = 1e6


class Kind(StrEnum):
    """What a strategy goes by."""

    __hash__ = str.__hash__

    FASTEST = "fastest"
    LEAST_LOADED = "least_loaded"
    ROUND_ROBIN = "round_robin"
    PRIORITY_NODES = "priority_nodes"
    CHEAPEST = "cheapest"


Constant = Callable[["NodeState", "Strategy"], float]


@dataclass(frozen=True)
class Strategy:
    """Weights of the terms, and a constant of each node.

    `patient`: a request whose cheapest node cannot start it yet waits for that node; else the cheapest of those that
    can start it gets it.
    """

    name: str
    kind: Kind = Kind.FASTEST
    weights: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    preferred: tuple[str, ...] = ()

    @property
    def patient(self) -> bool:
        return self.kind in PATIENT

    def weight(self, term: str) -> float:
        found = self.weights.get(term)
        return DEFAULTS[self.kind].get(term, 0.0) if found is None else found

    def constant(self, node: "NodeState") -> float:
        """What the strategy adds for this node, whatever the request."""
        return CONSTANTS[self.kind](node, self)


#: The weights that hold where the operator has set none.
FAST = MappingProxyType({"start": 1.0, "run": 1.0, "others": 1.0, "evict": 0.5, "gpu": 0.25, "distance": 1.0})
DEFAULTS: Mapping[Kind, Mapping[str, float]] = MappingProxyType(
    {
        Kind.FASTEST: FAST,
        Kind.PRIORITY_NODES: FAST,
        Kind.CHEAPEST: MappingProxyType({**FAST, "price": 36_000.0}),
        Kind.LEAST_LOADED: MappingProxyType({}),
        Kind.ROUND_ROBIN: MappingProxyType({}),
    }
)
#: Strategies whose constant is no expectation, so that dividing it by success and preference would mean nothing.
ORDERED = frozenset({Kind.ROUND_ROBIN})
PATIENT = frozenset({Kind.FASTEST, Kind.CHEAPEST})


def nothing(node: "NodeState", strategy: Strategy) -> float:
    return 0.0


def load(node: "NodeState", strategy: Strategy) -> float:
    """Requests in flight per slot, the new one counted, so that preference and success count on idle nodes, too."""
    return (node.in_flight + 1) / max(1, node.spec.slots)


def turn(node: "NodeState", strategy: Strategy) -> float:
    """Who was sent something longest ago comes first."""
    return float(node.last_sent)


def rank(node: "NodeState", strategy: Strategy) -> float:
    """The place of the node among the preferred ones; all others come after those."""
    for place, wanted in enumerate(strategy.preferred):
        if is_meant(node.spec, wanted):
            return RANK * place
    return RANK * len(strategy.preferred)


def is_meant(spec: NodeSpec, wanted: str) -> bool:
    """Whether a node has this name, or this label as `name=value`."""
    label, equals, value = wanted.partition("=")
    return spec.labels.get(label) == value if equals else spec.name.lower() == wanted.lower()


CONSTANTS: Mapping[Kind, Constant] = MappingProxyType(
    {
        Kind.FASTEST: nothing,
        Kind.CHEAPEST: nothing,
        Kind.PRIORITY_NODES: rank,
        Kind.LEAST_LOADED: load,
        Kind.ROUND_ROBIN: turn,
    }
)

#: The strategies that exist without being defined.
BUILT_IN: Mapping[str, Strategy] = MappingProxyType({kind.value: Strategy(kind.value, kind) for kind in Kind})
FASTEST = BUILT_IN["fastest"]


def strategies(specs: Mapping[str, StrategySpec]) -> dict[str, Strategy]:
    """All strategies by name: the built-in ones, and over them those that the operator defined."""
    kinds = {kind.value: kind for kind in Kind}
    defined = {
        name: Strategy(name, kinds[spec.kind], spec.weights, spec.preferred)
        for name, spec in specs.items()
        if spec.kind in kinds
    }
    return {**BUILT_IN, **defined}
