"""The cast of the model's tests: a machine or two, and requests whose work is told in seconds."""

import random

from routing.core.requests import Complexity, Profile, Route, Task
from routing.core.snapshot import InstalledModel, NodeSpec
from routing.whatif.faults import CALM, Fault, faults
from routing.whatif.machines import GIB, OVERHEAD_S, Hardware, Machine, ModelFile, Runnable, machine
from routing.whatif.node import Node
from routing.whatif.simulation import Scenario, preloaded
from routing.whatif.timeline import Timeline
from routing.whatif.traffic import Asked, Kind, traffic
from routing.whatif.world import Rules

#: Tokens that make one second of work on a `plain` machine.
SECOND = 1000
STEADY = Rules(noise=0.0)

FILES = (
    ModelFile("embed", 0.3 * GIB, 0.14, 0.2 * GIB, ("embedding",)),
    ModelFile("small", 2.0 * GIB, 3.2, 0.9 * GIB),
    ModelFile("medium", 4.9 * GIB, 8.0, 1.3 * GIB),
    ModelFile("large", 9.0 * GIB, 14.8, 1.8 * GIB),
)
ANT = Hardware("gpu", 12 * GIB, 500e9, 40_000.0, 2.0e9, 3, 0.65)
BEE = Hardware("gpu", 8 * GIB, 240e9, 18_000.0, 0.6e9, 2, 0.6)
CAT = Hardware("cpu", 64 * GIB, 80e9, 900.0, 0.6e9, 2, 0.35)
KINDS = {"ant": ANT, "bee": BEE, "cat": CAT}
MIX = (
    Kind(Task.EMBEDDING, 0.4, (120.0, 0.8), (0.0, 0.0), {"embed": 1.0}),
    Kind(Task.CHAT, 0.4, (300.0, 0.8), (100.0, 0.8), {"small": 0.5, "medium": 0.5}, 8),
    Kind(Task.ANALYSIS, 0.2, (900.0, 0.5), (200.0, 0.5), {"large": 1.0}, 1),
)


def fleet() -> list[Machine]:
    return [machine(number, name, kind, FILES) for number, (name, kind) in enumerate(KINDS.items(), 1)]


def scenario(seed=1, rate=1.0, horizon=120.0, pattern=CALM, patience=600.0, **more) -> Scenario:
    machines = fleet()
    drawn = [fault for one in machines for fault in faults(pattern, one.spec.id, horizon, seed)]
    return Scenario(
        machines,
        traffic(MIX, rate, horizon, seed, patience=patience),
        drawn,
        preload=preloaded(machines, ["embed", "small", "medium"]),
        **more,
    )


def plain(slots=1, alpha=1.0, names=("m",), memory=8.0, load_s=2.0, most_loaded=3, **more) -> Machine:
    """A machine whose models take 4 bytes of memory each, read prompts in no time, and answer a token in a ms."""
    models = {name: Runnable(name, name, slots, 0.0, 1.0 / SECOND, load_s, 4.0) for name in names}
    spec = NodeSpec(
        1, "ant", "http://ant:11434", slots=slots, models=tuple(InstalledModel(name, name, name, 4) for name in names)
    )
    return Machine(spec, models, memory, alpha, most_loaded=most_loaded, rtt_s=0.0, **more)


def asked(number: int, at: float, seconds: float, model="m", patience=1e9) -> Asked:
    profile = Profile(Route.CHAT, model, model, True, Task.CHAT, Complexity.SIMPLE, False, 0)
    return Asked(number, at, profile, round((seconds - OVERHEAD_S) * SECOND), patience)


def poisson(rate: float, count: int, seconds, seed=5) -> list[Asked]:
    """`count` requests at random moments; `seconds` draws the work of each."""
    rng, now, made = random.Random(seed), 0.0, []
    for number in range(count):
        now += rng.expovariate(rate)
        made.append(asked(number, now, max(OVERHEAD_S, seconds(rng))))
    return made


class Watched:
    """A lone node, and what it has said so far as (moment, owner, word)."""

    def __init__(self, machine: Machine) -> None:
        self.timeline = Timeline()
        self.said = []
        self.node = Node(machine, self.timeline, self.hear, random.Random(1))

    def hear(self, work, word):
        self.said.append((round(self.timeline.now, 3), work.owner, word.value))

    def until(self, moment: float) -> list[tuple[float, object, str]]:
        """Everything said up to a moment."""
        over = []
        self.timeline.at(moment, over.append, True)
        while not over:
            self.timeline.step()
        return self.said


__all__ = ["Fault", "Watched", "asked", "fleet", "plain", "poisson", "scenario"]
