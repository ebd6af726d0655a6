"""The plot of the routing benchmark: the mean time as a ratio to random by load, a panel for each fleet."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

from benchmarks.routing_report import NAMES, USUAL, Row
from benchmarks.scenarios import FLEETS

OURS = {"linewidth": 2.6, "marker": "o", "color": "#c2410c"}
THEIRS = {"linewidth": 1.2, "marker": "."}


def plot(rows: Sequence[Row], path: Path) -> None:
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "sollol"  # the same figures make the same file
    from matplotlib import pyplot as plt  # noqa: PLC0415 (after the choice of what draws)

    figure, panels = plt.subplots(1, len(FLEETS), figsize=(3.1 * len(FLEETS), 3.4), sharey=True, layout="constrained")
    for fleet, panel in zip(FLEETS, panels, strict=True):
        for routing, name in NAMES.items():
            points = ratios(rows, fleet, routing)
            panel.plot(list(points), list(points.values()), label=name, **(THEIRS if routing else OURS))
        panel.set(title=fleet, xlabel="load")
        panel.grid(alpha=0.25)
    panels[0].set(ylabel="mean time / random", ylim=(0.0, None))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(NAMES), frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def ratios(rows: Sequence[Row], fleet: str, routing: str) -> dict[float, float]:
    """The median ratio of mean times to random, paired by seed, by load."""
    some = [row for row in rows if row.case.fleet == fleet and row.case.mix in USUAL and row.case.faults == "none"]
    chance = {(row.case, row.seed): row.mean for row in some if row.routing == "random"}
    by_load: dict[float, list[float]] = {}
    for row in some:
        if row.routing == routing:
            by_load.setdefault(row.case.load, []).append(row.mean / chance[row.case, row.seed])
    return {load: statistics.median(by_load[load]) for load in sorted(by_load)}
