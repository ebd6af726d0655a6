"""Runs of a past through a fleet and a policy, and what is told of each."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fleet.services.replay.changes import Fleet
from fleet.services.replay.past import Happened, Past
from routing.core.dispatcher import Limits
from routing.core.requests import Profile
from routing.core.snapshot import FleetSnapshot
from routing.whatif.balancers import BALANCERS
from routing.whatif.faults import Fault
from routing.whatif.figures import Spread, quantile, spread
from routing.whatif.profiles import machines_of
from routing.whatif.simulation import Scenario, simulate
from routing.whatif.traffic import Asked

#: Points of the curve of times that is kept: their quantiles from 0 to 100 %.
POINTS = 100
Filter = Callable[[Happened], bool]


@dataclass(frozen=True, slots=True)
class Variant:
    """What is to be tried: a fleet, a strategy of the gateway or a balancer ("" as configured), denser arrivals."""

    label: str
    fleet: Fleet
    routing: str = ""
    load_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What is told of some requests; times in seconds, `shares` by node name of those that were served.

    `curve` holds the quantiles of the total times at equal steps; `loads` is per 1000 requests, None where not known.
    """

    total: Spread
    queue: Spread
    served: float
    shares: Mapping[str, float]
    curve: tuple[float, ...]
    models: Mapping[str, tuple[Spread, Spread]]
    loads: float | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """A variant's runs, one for each seed."""

    variant: Variant
    runs: Sequence[Seen]

    def median(self, value: Callable[[Seen], float]) -> float:
        return statistics.median(map(value, self.runs))


def really(past: Past, wanted: Filter, names: Mapping[int, str]) -> Seen:
    """What happened, of the requests that were served."""
    some = [one for one in past.happened if wanted(one)]
    served = [one for one in some if one.served]
    times = [(one.model, one.total_s, one.queue_s) for one in served]
    nodes = Counter(names.get(one.node_id or 0, "nodes that are gone") for one in served)
    return seen(times, nodes, len(served) / len(some) if some else 0.0)


def tried(
    variant: Variant, past: Past, wanted: Filter, seed: int, limits: Limits, progress: Callable[[float], None]
) -> Seen:
    """One run. Times are of those requests that were really served, so that the same ones are compared everywhere.

    Requests for a model that no node of the variant has count as not served.
    """
    scenario = scenario_of(variant, past, limits)
    run = simulate(scenario, variant.routing, seed, progress)
    names = {spec.id: spec.name for spec in variant.fleet.snapshot.nodes}
    kept = [one for one in past.happened if one.asked.profile.key in offered(variant.fleet)]
    pairs = [(one, call) for one, call in zip(kept, run.calls, strict=True) if wanted(one) and one.served]
    nodes = Counter(names[call.node_id] for _, call in pairs if call.served and call.node_id is not None)
    times = [(one.model, call.total_s, call.queue_s) for one, call in pairs]
    all_of_them = sum(wanted(one) and one.served for one in past.happened)
    rate = sum(call.served for _, call in pairs) / all_of_them if all_of_them else 0.0
    return replace(seen(times, nodes, rate), loads=1000.0 * run.loads / max(1, len(run.calls)))


def seen(times: Sequence[tuple[str, float, float]], nodes: Mapping[str, int], served: float) -> Seen:
    """Of (model, total, queue) times, counts by node and the part served."""
    models: dict[str, list[tuple[float, float]]] = {}
    for model, total, queue in times:
        models.setdefault(model, []).append((total, queue))
    ordered = sorted(total for _, total, _ in times)
    count = sum(nodes.values())
    return Seen(
        spread(ordered),
        spread(queue for _, _, queue in times),
        served,
        {name: nodes[name] / count for name in sorted(nodes)},
        tuple(quantile(ordered, point / POINTS) for point in range(POINTS + 1)) if ordered else (),
        {
            model: (spread(total for total, _ in some), spread(queue for _, queue in some))
            for model, some in sorted(models.items())
        },
    )


def scenario_of(variant: Variant, past: Past, limits: Limits) -> Scenario:
    """The past as a scenario: denser by the load factor, with the outages of the nodes that are still there."""
    fleet, factor = variant.fleet, variant.load_factor
    kept = [one for one in past.happened if one.asked.profile.key in offered(fleet)]
    rules = fleet.snapshot if not variant.routing else FleetSnapshot()
    return Scenario(
        machines_of(fleet.snapshot, fleet.learned),
        [again(one.asked, number, factor, rules) for number, one in enumerate(kept)],
        [Fault(one.node_id, one.at / factor, one.until / factor) for one in past.outages],
        fleet.snapshot,
        fleet.learned,
        limits,
        preload=at_start(fleet, kept),
    )


def again(asked: Asked, number: int, factor: float, rules: FleetSnapshot) -> Asked:
    return Asked(number, asked.at / factor, ruled(asked.profile, rules), asked.output_tokens, asked.patience_s)


def ruled(profile: Profile, snapshot: FleetSnapshot) -> Profile:
    """The profile with the strategy and the labels that the operator's rules have for it."""
    fitting = [
        rule for rule in snapshot.rules if rule.team_id in {None, profile.team_id} and rule.model in {"", profile.key}
    ]
    strategy = next((rule.strategy for rule in fitting if rule.strategy), "")
    labels = next((tuple(rule.labels.items()) for rule in fitting if rule.labels), ())
    return replace(profile, strategy=strategy, labels=labels) if strategy or labels else profile


def at_start(fleet: Fleet, happened: Iterable[Happened]) -> dict[int, list[str]]:
    """What was loaded at the start: on each node the models that it used first; what is usual on a new node."""
    first: dict[int, dict[str, None]] = {spec.id: {} for spec in fleet.nodes}
    usual: Counter[str] = Counter()
    for one in happened:
        key = one.asked.profile.key
        usual[key] += 1
        if one.served and one.node_id in first:
            first[one.node_id][key] = None
    return {
        spec.id: [
            key
            for key in list(first[spec.id]) or [key for key, _ in usual.most_common()]
            if any(model.key == key and not model.remote for model in spec.models)
        ]
        for spec in fleet.nodes
    }


def offered(fleet: Fleet) -> set[str]:
    """The models that nodes in use have."""
    return {model.key for spec in fleet.nodes for model in spec.models if not model.remote}


def routings(snapshot: FleetSnapshot, built_in: Iterable[str]) -> list[str]:
    """Everything that a strategy may be called."""
    return list(dict.fromkeys([*built_in, *snapshot.strategies, *BALANCERS]))


def change(before: float, after: float) -> float:
    """By which part a value has grown; 0 where both are nothing."""
    if before <= 0.0:
        return 0.0 if after <= 0.0 else math.inf
    return after / before - 1.0
