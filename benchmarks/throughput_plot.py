"""The plot of the throughput benchmark: requests per second by nodes, beside the ideal and by the gateway's core."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

from benchmarks.throughput_report import Row

OURS = {"linewidth": 2.6, "marker": "o", "color": "#c2410c"}
IDEAL = {"linewidth": 1.2, "linestyle": "--", "color": "#57534e"}


def plot(slow: Sequence[Row], fast: Sequence[Row], path: Path) -> None:
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "sollol"  # the same figures make the same file
    from matplotlib import pyplot as plt  # noqa: PLC0415 (after the choice of what draws)

    figure, (left, right) = plt.subplots(1, 2, figsize=(8.0, 3.4), layout="constrained")
    counts = [row.nodes for row in slow]
    left.plot(counts, [slow[0].rate / slow[0].nodes * count for count in counts], label="ideal", **IDEAL)
    left.plot(counts, [row.rate for row in slow], label="measured", **OURS)
    left.set(title="nodes with service time", ylabel="requests/s")
    counts = [row.nodes for row in fast]
    right.plot(counts, [row.rate_per_core for row in fast], label="per second of the gateway's CPU", **IDEAL)
    right.plot(counts, [row.rate for row in fast], label="measured", **OURS)
    right.set(title="nodes that answer at once")
    for panel in (left, right):
        panel.set(xlabel="nodes", xticks=counts, ylim=(0.0, None))
        panel.grid(alpha=0.25)
        panel.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
