"""The report of the routing benchmark: tables of medians over seeds, with ratios paired by seed."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from benchmarks.scenarios import FAULTS, FLEETS, MIXES, Case, best_rate

NAMES = {
    "": "SOLLOL",
    "least_connections": "least connections",
    "fixed_score": "fixed score",
    "in_turn": "round robin",
    "random": "random",
}
#: The mixes of which each fleet is shown at every load.
USUAL = frozenset({"office", "resident"})

HEAD = """# Routing in virtual time

SOLLOL's own dispatcher and four balancers that send every request at once, in front of the same simulated Ollama nodes,
with the same requests, faults and noise for each (`routing/whatif`). Made by `make bench-routing`.

- {conditions}
- Load 1.0 is the largest rate that any router could sustain by a linear program over who gets which model's requests,
  model loads ignored and as many requests at work on a node as one model has slots there. Arrivals come in bursts.
- Medians over seeds. A ratio compares the mean times of the same seed, below 1 is better. A request that is not served
  (it failed three times, was refused, or its client left after 600 s) counts with 600 s, so ratios to an overloaded
  balancer flatter that balancer.
- Every router starts without knowledge of the nodes' speeds, tries a failed request twice more, and sees every 2 s
  which nodes are up and what is loaded there.
- *fixed score* multiplies success rate, mean latency, a bonus for GPUs and slots in use, as balancers that call
  themselves intelligent do.
- On equal nodes with everything loaded there is little to gain: read ratios with their fleet.
- Not modelled: prompt caches, partial offload to the CPU, `num_ctx` of requests, network bandwidth, streams resumed in
  their middle (an answer that breaks is begun anew).

![Mean time as a ratio to random, by load]({picture})"""

COLUMNS = (
    "router",
    "mean s",
    "p50",
    "p95",
    "mean / random",
    "mean / least connections",
    "p95 / random",
    "served %",
    "loads per 1000",
)


class Row(NamedTuple):
    """One run of a case: times in seconds, model loads per 1000 requests, and seconds of CPU per request."""

    case: Case
    seed: int
    routing: str
    requests: int
    mean: float
    p50: float
    p95: float
    served: float
    loads: float
    cpu_s: float


def report(rows: Sequence[Row], teams: str, *, picture: str, conditions: str) -> str:
    """The whole report; `teams` is its part about teams."""
    cases = sorted({row.case for row in rows}, key=place)
    own = [row.cpu_s for row in rows if not row.routing]
    parts = [
        HEAD.format(conditions=conditions, picture=picture),
        "## Fleets and loads",
        *fleet_parts(rows, [case for case in cases if case.faults == "none" and case.mix in USUAL]),
        "## Mixes of tasks, mixed fleet, load 0.8",
        *mix_parts(rows, [case for case in cases if at(case, 0.8) and case.faults == "none"]),
        "## Faults, mixed fleet, load 0.6",
        *fault_parts(rows, [case for case in cases if at(case, 0.6) and case.mix == "office"]),
        teams,
        f"Median CPU of SOLLOL's runs, nodes and clients included: {statistics.median(own) * 1e6:.0f} µs per request.",
    ]
    return "\n\n".join(parts) + "\n"


def place(case: Case) -> tuple[float, int, int]:
    """Where a case stands in the tables."""
    return case.load, list(MIXES).index(case.mix), list(FAULTS).index(case.faults)


def at(case: Case, load: float) -> bool:
    return case.fleet == "mixed" and case.load == load


def fleet_parts(rows: Sequence[Row], cases: Sequence[Case]) -> Iterable[str]:
    for fleet, (told, _) in FLEETS.items():
        some = [case for case in cases if case.fleet == fleet]
        mix = some[0].mix
        yield f"### {fleet}: {told}"
        yield f"Tasks: {MIXES[mix][0]}. Load 1.0 is {best_rate(fleet, mix):.2f} requests per second."
        yield table(rows, {f"{case.load:g}": case for case in some}, "load")


def mix_parts(rows: Sequence[Row], cases: Sequence[Case]) -> Iterable[str]:
    yield "\n".join(f"- {case.mix}: {MIXES[case.mix][0]}" for case in cases)
    yield table(rows, {case.mix: case for case in cases}, "mix")


def fault_parts(rows: Sequence[Row], cases: Sequence[Case]) -> Iterable[str]:
    yield "\n".join(f"- {case.faults}: {FAULTS[case.faults][0]}" for case in cases)
    yield table(rows, {case.faults: case for case in cases}, "faults")


def table(rows: Sequence[Row], cases: dict[str, Case], column: str) -> str:
    """Every router in every case, by the case's label."""
    lines = [f"| {column} | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for label, case in cases.items():
        of = {(row.routing, row.seed): row for row in rows if row.case == case}
        lines += [f"| {label} | {' | '.join(cells(routing, of))} |" for routing in NAMES]
    return "\n".join(lines)


def cells(routing: str, of: dict[tuple[str, int], Row]) -> Iterable[str]:
    """A router's cells of one case."""
    own = [row for (name, _), row in of.items() if name == routing]

    def median(value: Callable[[Row], float]) -> float:
        return statistics.median(map(value, own))

    def ratio(other: str, value: Callable[[Row], float]) -> float:
        return statistics.median(value(row) / value(of[other, row.seed]) for row in own)

    yield f"**{NAMES[routing]}**" if not routing else NAMES[routing]
    yield f"{median(lambda row: row.mean):.1f}"
    yield f"{median(lambda row: row.p50):.2f}"
    yield f"{median(lambda row: row.p95):.0f}"
    yield f"{ratio('random', lambda row: row.mean):.2f}"
    yield f"{ratio('least_connections', lambda row: row.mean):.2f}"
    yield f"{ratio('random', lambda row: row.p95):.2f}"
    yield f"{100 * median(lambda row: row.served):.2f}"
    yield f"{median(lambda row: row.loads):.0f}"
