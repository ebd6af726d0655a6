"""What metrics tell of the gateway beside its view: learned speeds, breakers of models, quotas, speeds by model."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from routing.core.dispatcher import Dispatcher
from routing.core.names import display
from routing.core.quotas import Quotas
from routing.core.snapshot import TeamPolicy
from routing.gateway.tally import Histogram, Tally
from routing.gateway.view import Distribution

#: Learned speeds that are told, by node and model; what has been seen most comes first.
MOST_SPEEDS = 5000


#: An event loop that was not looked at yet.
NO_LAG = Distribution((), 0.0)


class Speed(NamedTuple):
    """A model on a node, alone: tokens per second of prompts and answers, seconds of a load (None: not measured).

    `loads` counts the loads that were measured.
    """

    node: str
    model: str
    prompt: float | None
    output: float | None
    load_s: float | None
    loads: int


class QuotaUse(NamedTuple):
    """How much of a quota is used; `from_priority` is "" where it is for all priorities."""

    team: str
    measure: str
    window: str
    from_priority: str
    used: float
    amount: float


@dataclass(frozen=True, slots=True)
class Gauges:
    """What was measured at one moment; whoever holds it may read it from any thread.

    `breakers` holds the states of nodes' breakers under (node, "") and of those models' that are not closed under
    (node, model); `first_bytes` and `rates` tell by model the seconds to the first byte, and the tokens per second of
    streams from there on; `lag` is how late the event loop came to what was due.
    """

    speeds: tuple[Speed, ...] = ()
    breakers: Mapping[tuple[str, str], str] = field(default_factory=dict)
    quotas: tuple[QuotaUse, ...] = ()
    first_bytes: Mapping[str, Distribution] = field(default_factory=dict)
    rates: Mapping[str, Distribution] = field(default_factory=dict)
    lag: Distribution = NO_LAG
    pending: int = 0


def gauges_of(
    dispatcher: Dispatcher,
    quotas: Quotas,
    teams: Iterable[TeamPolicy],
    tally: Tally,
    wall: float,
    lag: Histogram,
    pending: int,
) -> Gauges:
    """The gauges at this moment; `wall` in epoch seconds, `pending` are the history's rows that wait to be written."""
    return Gauges(
        speeds_of(dispatcher),
        breakers_of(dispatcher),
        tuple(quotas_of(quotas, teams, wall)),
        {display(key): fixed(one) for key, one in tally.first_bytes.items()},
        {display(key): fixed(one) for key, one in tally.rates.items()},
        fixed(lag),
        pending,
    )


def fixed(histogram: Histogram) -> Distribution:
    return Distribution(tuple(histogram.counts), histogram.total)


def speeds_of(dispatcher: Dispatcher) -> tuple[Speed, ...]:
    """What was measured; of several weights with one name on a node, the one that was seen most."""
    nodes = {node_id: node.spec.name for node_id, node in dispatcher.nodes.items()}
    known = [
        (nodes[node_id], display(speeds.model) if speeds.model else weights[:19], speeds)
        for (node_id, weights), speeds in dispatcher.learner.speeds.items()
        if node_id in nodes and speeds.measured
    ]
    known.sort(key=lambda one: one[2].output.seen, reverse=True)
    told: dict[tuple[str, str], Speed] = {}
    for node, model, speeds in known[:MOST_SPEEDS]:
        told.setdefault(
            (node, model),
            Speed(
                node,
                model,
                1.0 / speeds.prompt.value if speeds.prompt.seen else None,
                1.0 / speeds.output.value if speeds.output.seen else None,
                speeds.load.value if speeds.load.seen else None,
                speeds.load.seen,
            ),
        )
    return tuple(told.values())


def breakers_of(dispatcher: Dispatcher) -> dict[tuple[str, str], str]:
    states: dict[tuple[str, str], str] = {}
    for node in dispatcher.nodes.values():
        states[node.spec.name, ""] = node.health.node.state.value
        names = {model.digest or key: display(key) for key, model in node.models.items()}
        for weights, breaker in node.health.models.items():
            if breaker.state.value != "closed":
                states[node.spec.name, names.get(weights, display(weights))] = breaker.state.value
    return states


def quotas_of(quotas: Quotas, teams: Iterable[TeamPolicy], wall: float) -> list[QuotaUse]:
    told = []
    for team in teams:
        if not team.quotas:
            continue
        report: dict[str, Any] = quotas.used(team.id, wall)
        told += [
            QuotaUse(
                team.name,
                quota["measure"],
                quota["window"],
                "" if quota["from_priority"] is None else str(quota["from_priority"]),
                float(quota["used"]),
                float(quota["amount"]),
            )
            for quota in report["quotas"]
        ]
    return told
