"""SOLLOL's routing against other balancers in virtual time: the same requests, faults and noise for each.

The dispatcher is the gateway's own; nodes and clients are those of `routing.whatif`. Writes a report with tables, and a
plot beside it.
"""

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

from benchmarks.routing_plot import plot
from benchmarks.routing_report import NAMES, Row, report
from benchmarks.routing_teams import TeamRow, team_report, team_row
from benchmarks.scenarios import TEAMS, Case, machines, scenario
from routing.whatif.figures import figures
from routing.whatif.simulation import simulate

RESULTS = Path(__file__).resolve().parent / "results" / "routing.md"
LOADS = (0.3, 0.6, 0.8, 0.9)
QUICK_LOADS = (0.6, 0.9)
#: The routers that run the team scenarios.
TEAM_ROUTINGS = ("", "least_connections")


class Job(NamedTuple):
    """One run: a case or the name of a team scenario, a seed, a router, seconds of arrivals."""

    case: Case | str
    seed: int
    routing: str
    horizon: float

    @property
    def weight(self) -> tuple[bool, float]:
        """How long it will take, compared with others: the dispatcher thinks more than a balancer."""
        nodes, load = (5, 2.0) if isinstance(self.case, str) else (len(machines(self.case.fleet)), self.case.load)
        return not self.routing, nodes * load


def plan(loads: Sequence[float], *, quick: bool) -> list[Case]:
    """Every fleet at every load; every mix and every kind of fault at one load."""
    cases = [Case("mixed", "office", "none", load) for load in loads]
    cases += [Case("even", "resident", "none", load) for load in loads]
    cases += [Case("large", "office", "none", load) for load in (loads[-1:] if quick else loads)]
    cases += [Case("lopsided", "office", "none", load) for load in loads]
    cases += [Case("mixed", mix, "none", 0.8) for mix in ("office", "assistant", "retrieval")]
    cases += [Case("mixed", "office", faults, 0.6) for faults in ("none", "crashes", "brown-outs")]
    return list(dict.fromkeys(cases))


def run(job: Job) -> Row | TeamRow:
    if isinstance(job.case, str):
        return team_row(job.case, job.seed, job.routing, job.horizon)
    told = scenario(job.case, job.seed, job.horizon)
    begun = time.process_time()
    done = simulate(told, job.routing, job.seed)
    cpu, count, seen = time.process_time() - begun, len(done.calls), figures(done.calls)
    return Row(
        job.case,
        job.seed,
        job.routing,
        count,
        seen.total.mean,
        seen.total.p50,
        seen.total.p95,
        seen.served,
        1000.0 * done.loads / count,
        cpu / count,
    )


def carried_out(jobs: Sequence[Job], processes: int | None) -> list[Row | TeamRow]:
    """All runs, the longest first so that no processor is left with one at the end."""
    rows: list[Row | TeamRow] = []
    alive = sys.stderr.isatty()
    with Pool(processes) as pool:
        for row in pool.imap_unordered(run, sorted(jobs, key=lambda job: job.weight, reverse=True), chunksize=1):
            rows.append(row)
            if alive or len(rows) == len(jobs):
                end = "\n" if len(rows) == len(jobs) else ""
                print(f"\r{len(rows)} of {len(jobs)} runs", end=end, file=sys.stderr, flush=True)
    return rows


def jobs_of(options: argparse.Namespace) -> list[Job]:
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    routings = [(case, routing) for case in plan(options.loads, quick=options.quick) for routing in NAMES]
    teams = [(kind, routing) for kind in TEAMS for routing in TEAM_ROUTINGS]
    return [Job(case, seed, routing, options.horizon) for case, routing in (*routings, *teams) for seed in seeds]


def options_of(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="One seed, 300 s of arrivals, fewer loads: a minute or two."
    )
    parser.add_argument("--seeds", type=int, help="Runs of each case with different requests; default 5.")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--horizon", type=float, help="Seconds of arrivals in virtual time; default 900.")
    parser.add_argument("--loads", type=float, nargs="+", help=f"Loads of the fleets; default {LOADS}.")
    parser.add_argument("--processes", type=int, help="Default: one for each processor.")
    parser.add_argument("--output", type=Path, default=RESULTS, help="Where the report goes; the plot goes beside it.")
    options = parser.parse_args(words)
    options.seeds = options.seeds or (1 if options.quick else 5)
    options.horizon = options.horizon or (300.0 if options.quick else 900.0)
    options.loads = options.loads or (QUICK_LOADS if options.quick else LOADS)
    return options


def conditions_of(options: argparse.Namespace, seconds: float) -> str:
    date, python = f"{datetime.now(UTC):%Y-%m-%d}", platform.python_version()
    runs = f"{options.seeds} seeds, {options.horizon:g} s of arrivals each"
    return f"{runs}; {date}, Python {python}, {seconds / 60:.1f} minutes in all"


def main(words: Sequence[str] | None = None) -> None:
    options, begun = options_of(words), time.monotonic()
    rows = carried_out(jobs_of(options), options.processes)
    cases = [row for row in rows if isinstance(row, Row)]
    picture = options.output.with_suffix(".svg")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    plot(cases, picture)
    text = report(
        cases,
        team_report([row for row in rows if isinstance(row, TeamRow)]),
        picture=picture.name,
        conditions=conditions_of(options, time.monotonic() - begun),
    )
    options.output.write_text(text)
    print(f"{text}\nwritten to {options.output} and {picture}")


if __name__ == "__main__":
    main()
