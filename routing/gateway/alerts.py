"""What an operator should look at now: pure readings of the gateway's state, most urgent first."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from routing.core.breaker import BreakerState
from routing.core.dispatcher import Dispatcher
from routing.core.names import display
from routing.core.quotas import Quotas
from routing.core.snapshot import Breach, TeamPolicy
from routing.core.state import NodeState, Reach
from routing.gateway.pulse import Depth, Pulse, Sample

#: The part of a quota from which on it is nearly used, and the part of attempts below which a node is degraded.
NEARLY, WELL = 0.8, 0.9
#: Attempts that a rate of success must rest on.
ENOUGH = 5
#: The factor by which a node is slower than usual that is worth telling.
SLOWER = 1.5
#: The queue grows: so many wait at least, this many times as many as a minute ago.
CROWD, GROWTH, GROWTH_S = 5, 1.5, 60.0


class Alert(NamedTuple):
    """`kind` and `subject` together name it; `about` is the id of a node or a team, where there is one."""

    kind: str
    severity: str
    subject: str
    text: str
    about: int | None = None


def alerts(
    pulse: Pulse,
    samples: Mapping[int, Sample],
    quotas: Quotas,
    teams: Mapping[int, TeamPolicy],
    now: float,
    wall: float,
) -> list[Alert]:
    """All that hold now; `now` is the gateway's clock, `wall` epoch seconds, `samples` those of this moment."""
    dispatcher = pulse.dispatcher
    found = [
        *(
            alert
            for node in dispatcher.nodes.values()
            if node.spec.enabled
            for alert in of_node(node, dispatcher, pulse, samples[node.spec.id])
        ),
        *growing(pulse, dispatcher.waiting, now),
        *nearly_used(quotas, teams, wall),
        *drift(dispatcher),
    ]
    return sorted(found, key=lambda alert: alert.severity != "error")


def of_node(node: NodeState, dispatcher: Dispatcher, pulse: Pulse, sample: Sample) -> Iterator[Alert]:
    name, node_id, now = node.spec.name, node.spec.id, sample.at
    if node.reach is Reach.DOWN:
        since = f" for {span(now - node.down_since)}" if math.isfinite(node.down_since) else ""
        yield Alert(
            "down", "error", name, f"{name} has been down{since}: {node.error or 'it does not answer'}", node_id
        )
        return
    if node.reach is Reach.SUSPECT:
        yield Alert("degraded", "warning", name, f"{name} did not answer the last look: {node.error}", node_id)
    if node.breaker.state is not BreakerState.CLOSED:
        yield Alert(
            "breaker", "warning", name, f"{name} gets no requests after failures in a row; it is tried again", node_id
        )
    for model in node.broken_models():
        text = f"{display(model)} fails on {name} and is asked for elsewhere; it is tried again"
        yield Alert("model", "warning", f"{name}/{model}", text, node_id)
    attempts, failed = pulse.attempts(sample, node_id)
    if attempts >= ENOUGH and failed > (1 - WELL) * attempts:
        yield Alert(
            "failing", "warning", name, f"{name}: {failed / attempts:.0%} of attempts failed in five minutes", node_id
        )
    pace = dispatcher.learner.paces.get(node_id)
    factor = math.exp(pace.slower(now)) if pace else 1.0
    if factor > SLOWER:
        yield Alert("slow", "warning", name, f"{name} is {factor:.1f} times slower than usual", node_id)


def growing(pulse: Pulse, waiting: int, now: float) -> Iterator[Alert]:
    """The queue is longer than at any moment a minute ago or more."""
    before = [depth for depth in pulse.depths if depth.at <= now - GROWTH_S]
    past: Depth | None = before[-1] if before else None
    if past is not None and waiting >= CROWD and waiting > GROWTH * past.waiting:
        yield Alert(
            "queue", "warning", "queue", f"the queue is growing: {waiting} wait, a minute ago it was {past.waiting}"
        )


def nearly_used(quotas: Quotas, teams: Mapping[int, TeamPolicy], wall: float) -> Iterator[Alert]:
    for team_id, account in quotas.accounts.items():
        if not account.bounds:
            continue
        name = teams[team_id].name if team_id in teams else ""
        day, at = account.diary.at(wall), int(wall * 1000)
        for bound in account.bounds:
            report = bound.report(day, at)
            used = (report["used"] + report["reserved"]) / report["amount"]
            if used < NEARLY:
                continue
            hard = report["breach"] == Breach.REFUSE
            effect = "requests are refused" if hard else "requests run at a lower priority"
            state = f"used up, {effect}" if used >= 1 else f"{used:.0%} used"
            yield Alert(
                "quota",
                "error" if used >= 1 and hard else "warning",
                f"{team_id}/{report['quota_id']}",
                f"{name}: {report['amount']:,g} {bound.label()} {state}; resets in {span(report['resets_at'] - wall)}",
                team_id,
            )


def drift(dispatcher: Dispatcher) -> Iterator[Alert]:
    for key in dispatcher.drifted:
        others = sorted(node.spec.name for node in dispatcher.nodes.values() if key in node.outdated and node.used)
        if others:
            yield Alert(
                "drift",
                "warning",
                key,
                f"{display(key)} has other weights on {', '.join(others)}; pull it there again",
            )


def span(seconds: float) -> str:
    """A time in words, coarse enough not to change each second."""
    if seconds < 10:  # noqa: PLR2004
        return "a few seconds"
    if seconds < 90:  # noqa: PLR2004
        return f"{10 * round(seconds / 10)} s"
    if seconds < 5400:  # noqa: PLR2004
        return f"{round(seconds / 60)} min"
    return f"{round(seconds / 3600)} h" if seconds < 172_800 else f"{round(seconds / 86400)} days"  # noqa: PLR2004
