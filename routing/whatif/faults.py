"""What goes wrong on nodes and when; drawn before a run, so that every router meets the same faults."""

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """Node `node_id` from `at` to `until` (seconds): gone where `speed` is 0, else at that part of its speed."""

    node_id: int
    at: float
    until: float
    speed: float = 0.0


@dataclass(frozen=True, slots=True)
class Pattern:
    """Mean seconds between crashes of a node and of their length, the same for brown-outs; 0: none.

    `errors` is the part of all attempts that fail for no visible reason.
    """

    crash_every_s: float = 0.0
    crash_s: float = 60.0
    slow_every_s: float = 0.0
    slow_s: float = 60.0
    slow_speed: float = 0.4
    errors: float = 0.0


CALM = Pattern()


def faults(pattern: Pattern, node_id: int, horizon: float, seed: int) -> list[Fault]:
    """The faults of one node that begin before the horizon."""
    rng = random.Random(seed * 7919 + node_id)
    spans = [
        *((at, until, 0.0) for at, until in spells(rng, pattern.crash_every_s, pattern.crash_s, horizon)),
        *((at, until, pattern.slow_speed) for at, until in spells(rng, pattern.slow_every_s, pattern.slow_s, horizon)),
    ]
    return [Fault(node_id, at, until, speed) for at, until, speed in spans]


def spells(rng: random.Random, every: float, long: float, horizon: float) -> Iterator[tuple[float, float]]:
    """(begin, end) of one kind of fault after the other, exponential in both."""
    if not every:
        return
    now = rng.expovariate(1.0 / every)
    while now < horizon:
        until = now + rng.expovariate(1.0 / long)
        yield now, until
        now = until + rng.expovariate(1.0 / every)
