"""A scenario and what comes of it under each router; the same seed means the same requests, faults and noise."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from routing.core.dispatcher import Limits
from routing.core.learned import Learned
from routing.core.snapshot import FleetSnapshot, TeamPolicy
from routing.whatif.balancers import BALANCERS, SendAtOnce
from routing.whatif.calls import Call
from routing.whatif.drive import Gateway
from routing.whatif.faults import Fault
from routing.whatif.machines import Machine
from routing.whatif.traffic import Asked
from routing.whatif.world import Router, Rules, World


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fleet, the requests that come to it, and what goes wrong.

    `snapshot` is what the gateway is told (None: the machines' own specs); `learned` what it knows from the start,
    `preload` the model keys by node that are loaded at the start.
    """

    machines: Sequence[Machine]
    asked: Sequence[Asked]
    faults: Sequence[Fault] = ()
    snapshot: FleetSnapshot | None = None
    learned: Learned | None = None
    limits: Limits | None = None
    rules: Rules = field(default_factory=Rules)
    preload: Mapping[int, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """What happened: every request's life, and what the nodes did."""

    calls: list[Call]
    loads: int
    evictions: int
    busy_s: Mapping[int, float]


def simulate(scenario: Scenario, routing: str, seed: int = 0, progress: Callable[[float], None] | None = None) -> Run:
    """Run a scenario; `routing` names a balancer of the model's, else a strategy of the gateway ("" for its own)."""
    router = router_of(scenario, routing, seed)
    world = World(scenario.machines, scenario.asked, router, seed, scenario.rules, scenario.faults, scenario.preload)
    calls = world.run(progress)
    nodes = world.nodes.values()
    return Run(
        calls,
        sum(node.loads for node in nodes),
        sum(node.evictions for node in nodes),
        {node.machine.spec.id: node.busy_s for node in nodes},
    )


def router_of(scenario: Scenario, routing: str, seed: int) -> Router:
    balancer = BALANCERS.get(routing)
    if balancer is not None:
        return SendAtOnce(balancer(), seed)
    snapshot = scenario.snapshot or snapshot_of(scenario.machines)
    if routing:
        snapshot = replace(snapshot, strategy=routing)
    return Gateway(snapshot, seed, scenario.limits, scenario.learned)


def snapshot_of(machines: Sequence[Machine], teams: Mapping[int, TeamPolicy] | None = None) -> FleetSnapshot:
    """What a gateway in front of these machines is told."""
    return FleetSnapshot(1, tuple(machine.spec for machine in machines), teams or {})


def preloaded(machines: Sequence[Machine], smallest_first: Sequence[str]) -> dict[int, list[str]]:
    """Everything in memory that there is room for, taken in this order."""
    return {machine.spec.id: [key for key in smallest_first if key in machine.models] for machine in machines}
