"""Routing strategies as data: what a place costs is a weighted sum of terms, and a strategy is the weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from routing.core.snapshot import NodeSpec, StrategySpec

if TYPE_CHECKING:
    from routing.core.state import NodeState

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


class Weighing(NamedTuple):
    """The weight of each term of a place's cost.

    The terms, in seconds unless told otherwise: until the node can begin (`start`), the request itself (`run`), the
    delay of those who run there (`others`), loads that evicted models will cost (`evict`), a CPU where a GPU is wanted
    (`gpu`), what the node's time costs (`price`: money per hour times hours), and the way there (`distance`).
    """

    start: float = 0.0
    run: float = 0.0
    others: float = 0.0
    evict: float = 0.0
    gpu: float = 0.0
    price: float = 0.0
    distance: float = 0.0


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

    @cached_property
    def weighing(self) -> Weighing:
        """The operator's weights, and those of the kind where there are none."""
        return DEFAULTS[self.kind]._replace(**{name: self.weights[name] for name in self.weights if name in TERMS})

    @cached_property
    def constant(self) -> "Constant | None":
        """What the strategy adds for a node, whatever the request."""
        return CONSTANTS.get(self.kind)

    @cached_property
    def ordered(self) -> bool:
        """Whether the constant is no expectation, so that dividing it by success and preference would mean nothing."""
        return self.kind is Kind.ROUND_ROBIN


#: The weights that hold where the operator has set none.
FAST = Weighing(start=1.0, run=1.0, others=1.0, evict=0.5, gpu=0.25, distance=1.0)
DEFAULTS: Mapping[Kind, Weighing] = MappingProxyType(
    {
        Kind.FASTEST: FAST,
        Kind.PRIORITY_NODES: FAST,
        Kind.CHEAPEST: FAST._replace(price=36_000.0),
        Kind.LEAST_LOADED: Weighing(),
        Kind.ROUND_ROBIN: Weighing(),
    }
)
#: The names of the terms.
TERMS = Weighing._fields
PATIENT = frozenset({Kind.FASTEST, Kind.CHEAPEST})


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
