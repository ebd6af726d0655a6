"""What a run of the chaos benchmark tells, as Markdown."""

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.chaos_faults import FAULTS, Fault
from benchmarks.chaos_load import GOOD, End, Request
from benchmarks.chaos_run import BACK, QUIET, SPEED, Fleet, Seen, counted, good

#: Failures that are told one by one, by kind.
TOLD = 8


@dataclass(frozen=True)
class Run:
    """What was measured in so many seconds; `late_s`: how late this process was at most."""

    fleets: Sequence[Fleet]
    seconds: float
    late_s: float


REPORT = """# What clients see while nodes fail

Three simulated nodes behind each balancer, one of which fails at a time, under a steady load of chats (native and /v1,
streamed or not) and embeddings in equal parts. The balancers run side by side, each with nodes of its own that fail in
the same way at the same moment. Every fault strikes once in each round, in random order, at a random node. Each answer
is compared with the text that an undisturbed node gives for the same prompt. The chat model goes on with an unfinished
message, which the gateway has found out by its own probe. Made by `make bench-chaos`.

- {conditions}
- {seconds:.0f} s of load, {scaled:.0f} s of the nodes' time, which runs {speed:g} times as fast; this process, in which
  nodes and clients live, was late by {late_ms:.0f} ms at most
- nginx: `least_conn`, `max_fails=3 fail_timeout=5s`, `proxy_next_upstream` for errors, timeouts and 5xx with
  `non_idempotent`; HAProxy: `leastconn`, `retry-on all-retryable-errors`, redispatch, a health check every 2 s,
  `observe layer7` with `error-limit 3`; both with three tries
{missing}
*Continued*: of those that succeeded, streams that broke off and went on at another node. *Error*: told in the API's own
form: a status, an error line, on /v1 a broken connection, for which it has no other form. *Cut*: the connection broke
where there is such a form. *Lost*: no answer, or an answer that ends properly without its whole text. *Wrong*: tokens
doubled, missing, or not those that were to be said. *Left over*: requests that the balancer (only SOLLOL can be asked)
and the nodes still had when all clients had been answered.

## All faults together

{totals}
## Each fault

- *ejected after*: requests that the failing node got until it had none for {quiet:g} s, and after how long; *in all*
  counts those that it got while the fault lasted, probes included. What a dead node is sent is not seen there; for
  SOLLOL it is the failed attempts that it tells of. Of faults in the middle of answers only chats are counted, since
  embeddings are not struck and may go on.
- *usable*: from the end of the fault until the balancer would send the node a chat; only SOLLOL can be asked. The next
  fault waits for that up to {back:.0f} s, then the node's models are loaded.
- *used again*: from the end of the fault to the node's next request. A node that has lost its models, and is not
  needed while others have theirs, gets none for a while.
- Medians, and the worst in brackets, where there are several rounds.

{faults}"""

COLUMNS = "balancer | sent | succeeded | of these continued | error | cut | lost | wrong"


def report(run: Run, *, conditions: str, missing: Sequence[str]) -> str:
    left_out = "".join(f"- {name} was not installed and is left out\n" for name in missing)
    return REPORT.format(
        conditions=conditions,
        seconds=run.seconds,
        scaled=run.seconds * SPEED,
        speed=SPEED,
        late_ms=1000 * run.late_s,
        missing=left_out,
        totals=totals(run.fleets),
        back=BACK,
        quiet=QUIET,
        faults="\n".join(of_fault(fault, run.fleets) for fault in FAULTS),
    )


def totals(fleets: Sequence[Fleet]) -> str:
    lines = [
        f"| {COLUMNS} | p50 | p99 | left over |",
        "|---" * 11 + "|",
    ]
    for fleet in fleets:
        requests = fleet.load.requests
        took = sorted(request.seconds for request in requests if request.end in GOOD)
        left = f"{fleet.left_on_nodes} on nodes" + ("" if fleet.leaked is None else f", {fleet.leaked} at the gateway")
        half, most = (f"{quantile(took, share):.2f} s" for share in (0.5, 0.99))
        lines.append(f"| {fleet.name} | {cells(requests)} | {half} | {most} | {left} |")
    return "\n".join([*lines, "", *notes(fleets), ""])


def notes(fleets: Sequence[Fleet]) -> Iterable[str]:
    """The failures of each balancer, by what came."""
    for fleet in fleets:
        failures = Counter(
            f"{request.kind.name}: {request.end}" for request in fleet.load.requests if request.end not in GOOD
        )
        told = ", ".join(f"{count} {name}" for name, count in failures.most_common(TOLD))
        yield f"- {fleet.name}, what failed: {told or 'nothing'}"


def cells(requests: Sequence[Request]) -> str:
    ends, sent = counted(requests), len(requests)
    share = f"{good(requests)} ({percent(good(requests), sent)})"
    bad = (End.ERROR, End.CUT, End.LOST, End.WRONG)
    return " | ".join([str(sent), share, str(ends[End.CONTINUED]), *(str(ends[end]) for end in bad)])


def percent(part: int, whole: int) -> str:
    """A part in percent; only all of it is 100."""
    if not whole or part == whole:
        return "100%"
    return f"{min(99.99, 100 * part / whole):.2f}%"


def of_fault(fault: Fault, fleets: Sequence[Fleet]) -> str:
    lines = [
        f"### {fault.name}: {fault.told}",
        "",
        f"| {COLUMNS} | ejected after | in all | usable | used again |",
        "|---" * 12 + "|",
    ]
    for fleet in fleets:
        requests = fleet.met(fault)
        used = usage(fault, fleet, requests)
        lines.append(f"| {fleet.name} | {cells(requests)} | {used} |")
    return "\n".join([*lines, ""])


def usage(fault: Fault, fleet: Fleet, requests: Sequence[Request]) -> str:
    """When and after how many requests the node was left alone, how many it got in all, and when it was used again."""
    seen = fleet.of(fault)
    usable = "" if fleet.usable is None else worst([one.usable_s for one in fleet.struck if one.fault is fault], "s")
    back = f"{usable} | {worst([one.back_s for one in seen], 's', never='not yet')}"
    if fault.name == "killed":
        failed = sum(request.attempts - 1 for request in requests) if fleet.name == "SOLLOL" else None
        return f"{'not seen' if failed is None else f'{failed} requests'} | | {back}"
    during = worst([float(one.during) for one in seen], "")
    if not fault.ejects:
        return f"to be used | {during} | {back}"
    return f"{ejection(seen)} | {during} | {back}"


def ejection(seen: Sequence[Seen]) -> str:
    never = sum(one.ejected_s is None for one in seen)
    if never == len(seen):
        return "not ejected"
    found = [one for one in seen if one.ejected_s is not None]
    requests = worst([float(one.until_ejected) for one in found], "requests")
    told = f"{requests}, {worst([one.ejected_s for one in found], 's')}"
    return f"{told}; {never} of {len(seen)} not" if never else told


def worst(values: Sequence[float | None], unit: str, never: str = "never") -> str:
    """The median and, where there are several, the largest of some values; None is larger than all."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return never
    most = known[-1] if len(known) == len(values) else None
    shown = number(statistics.median(known), unit)
    if len(values) > 1:
        shown += f" ({never if most is None else number(most, unit)})"
    return f"{shown} {unit}".strip()


def number(value: float, unit: str) -> str:
    return f"{value:.1f}" if unit == "s" else f"{value:.0f}"


def quantile(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")
