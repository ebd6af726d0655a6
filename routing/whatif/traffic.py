"""Requests with hidden answer lengths, and where they come from: a mix of tasks that arrives in bursts."""

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from routing.core.requests import Complexity, Profile, Route, Task

#: Tokens that a prompt and an answer have at most.
LONGEST_PROMPT, LONGEST_ANSWER = 8000, 2048
#: How arrivals swing in bursts: factor and mean seconds of the busy and of the calm state.
BUSY, CALM = (2.2, 15.0), (0.7, 45.0)
#: How far the rate swings once over the horizon.
SWING = 0.4
#: From so many tokens on a prompt is complex work.
COMPLEX_TOKENS = 2000


@dataclass(slots=True, eq=False)
class Asked:
    """One request: `at` in seconds of virtual time, the client leaves `patience_s` later.

    No router knows `output_tokens`. `number` counts from 0 in the order of arrival.
    """

    number: int
    at: float
    profile: Profile
    output_tokens: int
    patience_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of task: its share of all requests, and (median, sigma) of the lognormal prompt and answer lengths.

    `models` tells which part of these requests asks for which model.
    """

    task: Task
    share: float
    prompt: tuple[float, float]
    answer: tuple[float, float]
    models: Mapping[str, float]
    priority: int = 5


Mix = Sequence[Kind]


def traffic(
    mix: Mix, rate: float, horizon: float, seed: int, *, bursts: bool = True, patience: float = 600.0
) -> list[Asked]:
    """Poisson arrivals of `rate` requests per second for `horizon` seconds; with `bursts` of a rate that swings."""
    rng = random.Random(seed)
    factor, most = swing(random.Random(seed + 1), horizon) if bursts else (flat, 1.0)
    asked: list[Asked] = []
    now = rng.expovariate(rate * most)
    while now < horizon:
        if rng.random() * most <= factor(now):
            asked.append(draw(rng, mix, len(asked), now, patience))
        now += rng.expovariate(rate * most)
    return asked


def flat(now: float) -> float:
    return 1.0


def swing(rng: random.Random, horizon: float) -> tuple[Callable[[float], float], float]:
    """A factor of mean one that varies with time, and its largest value."""
    starts, states, now = [0.0], [CALM], 0.0
    while now < horizon:
        now += rng.expovariate(1.0 / states[-1][1])
        starts.append(now)
        states.append(BUSY if states[-1] is CALM else CALM)
    mean = (BUSY[0] * BUSY[1] + CALM[0] * CALM[1]) / (BUSY[1] + CALM[1])

    def factor(moment: float) -> float:
        day = 1.0 + SWING * math.sin(2 * math.pi * (moment / horizon - 0.25))
        return day * states[bisect_right(starts, moment) - 1][0] / mean

    return factor, (1.0 + SWING) * BUSY[0] / mean


def draw(rng: random.Random, mix: Mix, number: int, at: float, patience: float) -> Asked:
    """One request of the mix."""
    kind = rng.choices(mix, [kind.share for kind in mix])[0]
    model = rng.choices(list(kind.models), list(kind.models.values()))[0]
    prompt = length(rng, kind.prompt, LONGEST_PROMPT)
    answer = length(rng, kind.answer, LONGEST_ANSWER) if kind.answer[0] else 0
    return Asked(number, at, profile(kind, model, prompt), answer, patience)


def length(rng: random.Random, shape: tuple[float, float], most: int) -> int:
    """A lognormal number of tokens."""
    median, sigma = shape
    return max(1, min(most, round(median * math.exp(sigma * rng.gauss(0.0, 1.0)))))


def profile(kind: Kind, model: str, prompt_tokens: int) -> Profile:
    """What a gateway sees of such a request."""
    heavy = prompt_tokens >= COMPLEX_TOKENS
    return Profile(
        Route.EMBED if kind.task is Task.EMBEDDING else Route.CHAT,
        model,
        model,
        stream=True,
        task=kind.task,
        complexity=Complexity.COMPLEX if heavy else Complexity.SIMPLE,
        needs_gpu=heavy and kind.task is not Task.EMBEDDING,
        prompt_tokens=prompt_tokens,
        max_tokens=LONGEST_ANSWER,
        priority=kind.priority,
    )
