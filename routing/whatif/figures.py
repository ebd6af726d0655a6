"""What is told of a run: times, shares, and how fair it was."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from routing.whatif.calls import Call
from routing.whatif.machines import Machine


@dataclass(frozen=True, slots=True)
class Spread:
    """Some times, in seconds; 0 where there are none."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Of some requests: how long they took in all, in the router's queue, and until a node began; the part served."""

    total: Spread
    queue: Spread
    wait: Spread
    served: float


def figures(calls: Sequence[Call]) -> Figures:
    served = sum(call.served for call in calls)
    return Figures(
        spread(call.total_s for call in calls),
        spread(call.queue_s for call in calls),
        spread(call.wait_s for call in calls),
        served / len(calls) if calls else 0.0,
    )


def spread(times: Iterable[float]) -> Spread:
    ordered = sorted(times)
    if not ordered:
        return Spread(0, 0.0, 0.0, 0.0, 0.0)
    mean = math.fsum(ordered) / len(ordered)
    return Spread(len(ordered), mean, *(quantile(ordered, part) for part in (0.5, 0.95, 0.99)))


def quantile(ordered: Sequence[float], part: float) -> float:
    """The value below which this part of the ordered values lies, interpolated."""
    place = part * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def node_shares(calls: Iterable[Call]) -> dict[int, float]:
    """The part of all requests that each node answered."""
    counts = Counter(call.node_id for call in calls if call.served and call.node_id is not None)
    total = counts.total()
    return {node_id: count / total for node_id, count in counts.items()}


def jain(services: Sequence[float]) -> float:
    """Jain's index of what several got: 1 where all got the same, 1/n where one got all."""
    squares = sum(one * one for one in services)
    return sum(services) ** 2 / (len(services) * squares) if squares else 0.0


def service(calls: Iterable[Call], reference: Machine, begin: float, end: float) -> float:
    """Seconds alone on a reference machine of the requests that were served within a time."""
    return sum(
        reference.models[call.asked.profile.key].seconds(call.asked.profile.prompt_tokens, call.asked.output_tokens)
        for call in calls
        if call.served and begin <= call.ended_at < end
    )


def worst_overtake(
    calls: Iterable[Call], lane: Callable[[Call], object] = lambda call: call.asked.profile.key
) -> float:
    """The most seconds by which a request arrived after one of its lane that was sent after it; never sent is last."""
    lanes: dict[object, list[Call]] = {}
    for call in calls:
        lanes.setdefault(lane(call), []).append(call)
    worst = 0.0
    for waiting in lanes.values():
        latest = -math.inf
        for call in sorted(waiting, key=lambda one: (one.sent_at if one.sent_at >= 0.0 else math.inf, one.asked.at)):
            worst = max(worst, latest - call.asked.at)
            latest = max(latest, call.asked.at)
    return worst
