"""The report of the throughput benchmark: a table of nodes with service time, and one of nodes that answer at once."""

from collections.abc import Sequence
from typing import NamedTuple

#: From here on slots count as full, and a core as used up.
FULL = 0.95
USED_UP = 0.9
LINEAR = 0.9
#: How far from an equal share a node may be.
EVEN = 0.1


class Load(NamedTuple):
    """What a process took of a core over the span: CPU it got, and CPU its first thread got or stood in line for."""

    cpu: float
    wanted: float


class Row(NamedTuple):
    """One measured span; `answers` are counts, least first, and `slots` the mean of those in use."""

    nodes: int
    seconds: float
    answers: Sequence[int]
    slots: float | None
    slots_in_all: int
    gateway: Load
    generator: Load
    machines: Load

    @property
    def rate(self) -> float:
        return sum(self.answers) / self.seconds

    @property
    def rate_per_core(self) -> float:
        """Requests for each second of the gateway's CPU."""
        return self.rate / self.gateway.cpu if self.gateway.cpu else 0.0

    @property
    def spread(self) -> str:
        """The least and the most that a node did, as parts of an equal share."""
        least, most = self.ends
        return f"{least:.2f} to {most:.2f}"

    @property
    def ends(self) -> tuple[float, float]:
        equal = sum(self.answers) / self.nodes or 1.0
        return self.answers[0] / equal, self.answers[-1] / equal

    @property
    def limits(self) -> list[str]:
        """What there was no more of."""
        found = ["node slots"] if self.slots is not None and self.slots >= FULL * self.slots_in_all else []
        cores = {"gateway core": self.gateway, "generator core": self.generator, "nodes' core": self.machines}
        return found + [name for name, load in cores.items() if load.wanted >= USED_UP]

    @property
    def limit(self) -> str:
        """The limits in words; a closed loop always has requests for the slots that stay free."""
        return ", ".join(self.limits) or ("none found" if self.slots is None else "none: slots stayed free")


HEAD = """# How throughput grows with nodes

The gateway as `make run` starts it, in front of more and more equal nodes with the model resident, on real sockets.
Short chats (`POST /api/chat`, `stream: false`) in a closed loop: each connection asks anew when it has its answer. The
gateway, the load generator and the nodes are a process each. Made by `make bench-throughput`.

- {conditions}
- *ideal* is the number of nodes times the throughput of one node in the same run. *a node* is the least and the most
  that a node did, as parts of an equal share.
- CPU is a share of one core. In brackets is what the process would have had of a core of its own: the time that its
  event loop ran or stood in line to run. From {used_up:.0%} on, that core is the limit; slots are from {full:.0%} on.
"""

SLOW = """
## Nodes with service time

Simulated Ollama nodes of {slots} slots, which {one:.1f} requests/s saturate; {waiting} connections for each node.

{table}

{verdict}
"""

FAST = """
## Nodes that answer at once

The nodes take no time, so what limits is the gateway's core: more nodes add nothing, and cost little. *requests/s of a
core* is the requests for each second of CPU that the gateway got. {connections} connections in all.

{table}

{verdict}
"""

PICTURE = "\n![Requests per second by nodes]({name})\n"
CPU_COLUMNS = ("gateway CPU", "generator CPU", "nodes' CPU", "the limit")


def share(load: Load) -> str:
    return f"{load.cpu:.0%} ({load.wanted:.0%})"


def lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows))


def end(row: Row) -> list[str]:
    cores = [share(load) for load in (row.gateway, row.generator, row.machines)]
    return [*cores, row.limit]


def slow_table(rows: Sequence[Row]) -> str:
    columns = ("nodes", "requests/s", "of the ideal", "a node", "slots in use", *CPU_COLUMNS)
    cells = [
        [
            str(row.nodes),
            f"{row.rate:.1f}",
            f"{of_ideal(row, rows[0]):.0%}",
            row.spread,
            f"{row.slots or 0.0:.1f} of {row.slots_in_all}",
            *end(row),
        ]
        for row in rows
    ]
    return lines(columns, cells)


def fast_table(rows: Sequence[Row]) -> str:
    columns = ("nodes", "requests/s", "requests/s of a core", "a node", *CPU_COLUMNS)
    return lines(
        columns,
        [[str(row.nodes), f"{row.rate:.0f}", f"{row.rate_per_core:.0f}", row.spread, *end(row)] for row in rows],
    )


def of_ideal(row: Row, first: Row) -> float:
    ideal = first.rate / first.nodes * row.nodes
    return row.rate / ideal if ideal else 0.0


def slow_verdict(rows: Sequence[Row]) -> str:
    least = min(rows, key=lambda row: of_ideal(row, rows[0]))
    told = f"{of_ideal(least, rows[0]):.0%} of the ideal at {least.nodes} nodes is the least."
    bent = [row for row in rows if of_ideal(row, rows[0]) < LINEAR]
    if not bent:
        return f"**Linear within 10 %**: {told}"
    if any(limit.endswith("core") for limit in bent[0].limits):
        return f"**Linear within 10 % until a core was the limit**, at {bent[0].nodes} nodes: {told}"
    return f"**Not linear within 10 %**, from {bent[0].nodes} nodes on: {told}"


def fast_verdict(rows: Sequence[Row]) -> str:
    rates = [row.rate_per_core for row in rows]
    told = f"One core of the gateway serves {min(rates):.0f} to {max(rates):.0f} requests/s of this kind"
    others = [row.nodes for row in rows if "gateway core" not in row.limits]
    if not others:
        return f"**The gateway's core is the limit.** {told}."
    return f"{told}. Not shown to be the limit at {', '.join(map(str, others))} nodes."


def evenness(rows: Sequence[Row]) -> str:
    uneven = [f"{row.nodes} ({row.spread})" for row in rows if max(abs(part - 1.0) for part in row.ends) > EVEN]
    if not uneven:
        return "Requests were spread evenly within 10 %."
    return f"**Not spread evenly within 10 %** at {', '.join(uneven)} nodes."


def report(
    slow: Sequence[Row], fast: Sequence[Row], *, connections: tuple[int, int], conditions: str, picture: str
) -> str:
    """`connections`: for each node with service time, and in all for the others; no `picture` where none was drawn."""
    return (
        HEAD.format(conditions=conditions, used_up=USED_UP, full=FULL)
        + (PICTURE.format(name=picture) if picture else "")
        + SLOW.format(
            slots=slow[0].slots_in_all // slow[0].nodes,
            one=slow[0].rate / slow[0].nodes,
            waiting=connections[0],
            table=slow_table(slow),
            verdict=f"{slow_verdict(slow)} {evenness(slow)}",
        )
        + FAST.format(
            connections=connections[1], table=fast_table(fast), verdict=f"{fast_verdict(fast)} {evenness(fast)}"
        )
    )
