"""The fleets, mixes of tasks, faults and teams of the routing benchmark."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from routing.core.requests import Task
from routing.core.snapshot import TeamPolicy
from routing.whatif.capacity import capacity
from routing.whatif.faults import CALM, Fault, Pattern, faults
from routing.whatif.machines import GIB, Hardware, Machine, ModelFile, machine
from routing.whatif.simulation import Scenario, preloaded, snapshot_of
from routing.whatif.traffic import Asked, Kind, Mix, traffic
from routing.whatif.world import Rules

FILES = (
    ModelFile("embed", 0.3 * GIB, 0.14, 0.2 * GIB, ("embedding",)),
    ModelFile("3b", 2.0 * GIB, 3.2, 0.9 * GIB),
    ModelFile("8b", 4.9 * GIB, 8.0, 1.3 * GIB),
    ModelFile("14b", 9.0 * GIB, 14.8, 1.8 * GIB),
    ModelFile("32b", 20.0 * GIB, 32.8, 2.5 * GIB),
    ModelFile("70b", 40.0 * GIB, 70.6, 5.0 * GIB),
)
#: What is loaded at the start where it fits, in this order.
AT_START = ("embed", "3b", "8b", "14b", "32b", "70b")

GPU80 = Hardware("gpu", 80 * GIB, 1700e9, 140_000.0, 3.0e9, 8, 0.75)
GPU24 = Hardware("gpu", 24 * GIB, 560e9, 44_000.0, 2.2e9, 4, 0.70)
GPU16 = Hardware("gpu", 16 * GIB, 390e9, 27_000.0, 1.4e9, 4, 0.65)
GPU8 = Hardware("gpu", 8 * GIB, 240e9, 17_000.0, 0.6e9, 2, 0.60)
CPU64 = Hardware("cpu", 192 * GIB, 125e9, 1300.0, 1.0e9, 4, 0.35)
CPU32 = Hardware("cpu", 96 * GIB, 68e9, 700.0, 0.5e9, 2, 0.30)

FLEETS: dict[str, tuple[str, Sequence[Hardware]]] = {
    "mixed": ("GPUs of 24, 16 and 8 GB, CPU machines of 64 and 32 cores", (GPU24, GPU16, GPU8, CPU64, CPU32)),
    "even": ("five equal GPUs of 16 GB, two models and embeddings, always loaded", (GPU16,) * 5),
    "large": (
        "24 machines: 6 GPUs of 24 GB, 8 of 16, 6 of 8, 4 CPU",
        (GPU24,) * 6 + (GPU16,) * 8 + (GPU8,) * 6 + (CPU64,) * 4,
    ),
    "lopsided": ("one GPU of 80 GB and eight of 8 GB", (GPU80,) + (GPU8,) * 8),
}

OFFICE = (
    Kind(Task.EMBEDDING, 0.34, (130.0, 0.8), (0.0, 0.0), {"embed": 1.0}),
    Kind(Task.CLASSIFICATION, 0.15, (200.0, 0.6), (4.0, 0.5), {"3b": 0.8, "8b": 0.2}),
    Kind(Task.EXTRACTION, 0.10, (600.0, 0.7), (80.0, 0.6), {"3b": 0.4, "8b": 0.6}),
    Kind(Task.CHAT, 0.20, (500.0, 1.0), (200.0, 0.8), {"3b": 0.2, "8b": 0.6, "14b": 0.2}, 8),
    Kind(Task.GENERATION, 0.08, (150.0, 0.8), (400.0, 0.7), {"8b": 0.5, "14b": 0.4, "32b": 0.1}),
    Kind(Task.SUMMARIZATION, 0.08, (2500.0, 0.6), (180.0, 0.5), {"8b": 0.7, "14b": 0.3}, 3),
    Kind(Task.ANALYSIS, 0.05, (1500.0, 0.7), (600.0, 0.6), {"14b": 0.7, "32b": 0.3}, 1),
)
ASSISTANT = (
    Kind(Task.CHAT, 0.80, (700.0, 1.0), (250.0, 0.8), {"8b": 0.7, "14b": 0.3}, 8),
    Kind(Task.GENERATION, 0.20, (150.0, 0.8), (500.0, 0.7), {"14b": 0.7, "32b": 0.3}),
)
RETRIEVAL = (
    Kind(Task.EMBEDDING, 0.75, (250.0, 0.6), (0.0, 0.0), {"embed": 1.0}),
    Kind(Task.CHAT, 0.15, (3000.0, 0.4), (150.0, 0.6), {"8b": 1.0}, 8),
    Kind(Task.CLASSIFICATION, 0.10, (200.0, 0.6), (4.0, 0.5), {"3b": 1.0}),
)
RESIDENT = (
    Kind(Task.EMBEDDING, 0.35, (130.0, 0.8), (0.0, 0.0), {"embed": 1.0}),
    Kind(Task.EXTRACTION, 0.25, (600.0, 0.7), (80.0, 0.6), {"3b": 1.0}),
    Kind(Task.CHAT, 0.40, (500.0, 1.0), (200.0, 0.8), {"8b": 1.0}, 8),
)
MIXES: dict[str, tuple[str, Mix]] = {
    "office": ("seven kinds of task, five models", OFFICE),
    "assistant": ("chats and long texts, three models", ASSISTANT),
    "retrieval": ("three quarters embeddings, answers from long prompts", RETRIEVAL),
    "resident": ("embeddings and two models that fit everywhere", RESIDENT),
}
FAULTS: dict[str, tuple[str, Pattern]] = {
    "none": ("nothing fails", CALM),
    "crashes": (
        "each node dies every 10 min on average for 1 min, 0.2 % of attempts fail",
        Pattern(crash_every_s=600.0, crash_s=60.0, errors=0.002),
    ),
    "brown-outs": (
        "each node is at 0.4 of its speed for 1 min every 5 min on average",
        Pattern(slow_every_s=300.0, slow_s=60.0),
    ),
}

#: Teams as (name, load, priority or None for that of the task, share weight).
TEAMS: dict[str, tuple[tuple[str, float, int | None, float], ...]] = {
    "alone": (("bees", 0.12, None, 1.0), ("cats", 0.12, None, 1.0), ("dogs", 0.12, None, 1.0)),
    "flood": (
        ("bees", 0.12, None, 1.0),
        ("cats", 0.12, None, 1.0),
        ("dogs", 0.12, None, 1.0),
        ("flooders", 1.2, 10, 1.0),
    ),
    "share": (("greedy", 1.3, 10, 1.0), ("modest", 0.65, None, 1.0)),
    "weighted": (("double", 0.9, None, 2.0), ("single", 0.9, None, 1.0)),
    "ageing": (("urgent", 1.1, 9, 1.0), ("batch", 0.1, 1, 1.0)),
}


@dataclass(frozen=True)
class Case:
    """A line of the benchmark's plan; `load` 1.0 is the best rate that the fleet could carry."""

    fleet: str
    mix: str
    faults: str
    load: float


@cache
def machines(fleet: str) -> list[Machine]:
    return [machine(number, f"{fleet}-{number}", kind, FILES) for number, kind in enumerate(FLEETS[fleet][1], 1)]


@cache
def best_rate(fleet: str, mix: str) -> float:
    """Requests per second at load 1.0."""
    return capacity(machines(fleet), sample(mix))


@cache
def sample(mix: str) -> list[Asked]:
    """Some 10,000 requests of a mix, by whose lengths its capacity is told."""
    return traffic(MIXES[mix][1], 10.0, 1000.0, 1, bursts=False)


def start_of(fleet: str, mix: str) -> dict[int, list[str]]:
    """What is loaded at the start: of the models that the mix asks for, what fits."""
    wanted = {model for kind in MIXES[mix][1] for model in kind.models}
    return preloaded(machines(fleet), [name for name in AT_START if name in wanted])


def scenario(case: Case, seed: int, horizon: float) -> Scenario:
    """The requests and faults of one seed."""
    pattern = FAULTS[case.faults][1]
    some = machines(case.fleet)
    drawn: list[Fault] = [fault for one in some for fault in faults(pattern, one.spec.id, horizon, seed)]
    rate = case.load * best_rate(case.fleet, case.mix)
    asked = traffic(MIXES[case.mix][1], rate, horizon, 1000 + seed)
    return Scenario(some, asked, drawn, rules=Rules(errors=pattern.errors), preload=start_of(case.fleet, case.mix))


def team_scenario(kind: str, seed: int, horizon: float) -> Scenario:
    """Teams on the mixed fleet; a client waits for 900 s, nothing fails and no bursts hide the effect."""
    asked: list[Asked] = []
    for number, (_, load, priority, _) in enumerate(TEAMS[kind], 1):
        own = traffic(
            OFFICE, load * best_rate("mixed", "office"), horizon, 1000 * seed + number, bursts=False, patience=900.0
        )
        for one in own:
            one.profile = replace(one.profile, team_id=number, priority=priority or one.profile.priority)
        asked += own
    asked.sort(key=lambda one: one.at)
    for number, one in enumerate(asked):
        one.number = number
    policies = {
        number: TeamPolicy(number, name, share_weight=weight)
        for number, (name, _, _, weight) in enumerate(TEAMS[kind], 1)
    }
    some = machines("mixed")
    return Scenario(some, asked, snapshot=snapshot_of(some, policies), preload=start_of("mixed", "office"))
