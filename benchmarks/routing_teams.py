"""The team scenarios of the routing benchmark: a flood, unequal demand, shares by weight, ageing."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from benchmarks.routing_report import NAMES
from benchmarks.scenarios import TEAMS, machines, team_scenario
from routing.whatif.figures import figures, jain, service, worst_overtake
from routing.whatif.simulation import simulate

#: The part of the horizon after which service counts, once the queues have filled.
WARM = 1 / 3
TEXT = """## Teams, mixed fleet

Three teams at 0.12 each, alone and then with a fourth that asks for 1.2 times the fleet at priority 10: the mean time
of the three.

{flood}

Jain's index of the service that two teams got by their weights while the fleet was overloaded (1: fair). *share*: 1.3
at priority 10 and 0.65, equal weights; *weighted*: 0.9 each, weights 2 and 1.

{fairness}

Ageing: 1.1 times the fleet at priority 9 beside batch work (priority 1) at 0.1. *Worst overtake*: the most seconds by
which a request came after another for the same model and was sent before it. The worst of all seeds.

{ageing}"""

VICTIMS = [name for name, *_ in TEAMS["alone"]]


class TeamRow(NamedTuple):
    """One run: mean times and longest queue times in seconds by team, Jain's index of service by weight, overtaking."""

    kind: str
    seed: int
    routing: str
    means: dict[str, float]
    longest: dict[str, float]
    jain: float
    overtake: float
    unsent: int

    @property
    def victims(self) -> float:
        """The mean time of the teams that do not flood."""
        return statistics.mean(self.means[name] for name in VICTIMS)


def team_row(kind: str, seed: int, routing: str, horizon: float) -> TeamRow:
    """One run of a team scenario."""
    calls = simulate(team_scenario(kind, seed, horizon), routing, seed).calls
    reference = machines("mixed")[0]
    means, longest, got = {}, {}, []
    for number, (name, _, _, weight) in enumerate(TEAMS[kind], 1):
        own = [call for call in calls if call.asked.profile.team_id == number]
        means[name] = figures(own).total.mean
        longest[name] = max((call.queue_s for call in own), default=0.0)
        got.append(service(own, reference, horizon * WARM, horizon) / weight)
    unsent = sum(call.sent_at < 0.0 for call in calls)
    return TeamRow(kind, seed, routing, means, longest, jain(got), worst_overtake(calls), unsent)


def team_report(rows: Sequence[TeamRow]) -> str:
    """The report's part about teams."""
    return TEXT.format(
        flood=table(("alone s", "flooded s", "flooded / alone"), flood, rows),
        fairness=table(("share", "weighted"), fairness, rows),
        ageing=table(("worst overtake s", "longest wait of batch s", "of urgent s", "never sent"), ageing, rows),
    )


Runs = dict[str, list[TeamRow]]


def table(columns: Sequence[str], cells: Callable[[Runs], Iterable[str]], rows: Sequence[TeamRow]) -> str:
    """A line for each router; `cells` makes it of the router's runs by kind, in the order of their seeds."""
    lines = [f"| router | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for routing, name in NAMES.items():
        own = sorted((row for row in rows if row.routing == routing), key=lambda row: row.seed)
        if own:
            runs = {kind: [row for row in own if row.kind == kind] for kind in TEAMS}
            lines.append(f"| {name} | {' | '.join(cells(runs))} |")
    return "\n".join(lines)


def flood(runs: Runs) -> Iterable[str]:
    yield f"{statistics.median(row.victims for row in runs['alone']):.1f}"
    yield f"{statistics.median(row.victims for row in runs['flood']):.1f}"
    pairs = zip(runs["flood"], runs["alone"], strict=True)
    yield f"{statistics.median(flooded.victims / alone.victims for flooded, alone in pairs):.1f}"


def fairness(runs: Runs) -> Iterable[str]:
    for kind in ("share", "weighted"):
        yield f"{statistics.median(row.jain for row in runs[kind]):.3f}"


def ageing(runs: Runs) -> Iterable[str]:
    told = runs["ageing"]
    yield f"{max(row.overtake for row in told):.0f}"
    yield f"{max(row.longest['batch'] for row in told):.0f}"
    yield f"{max(row.longest['urgent'] for row in told):.0f}"
    yield f"{sum(row.unsent for row in told)}"
