"""What deciding costs: one decision with a full queue, and one pass over 1000 waiting requests, in CPU time.

`python -m benchmarks.decisions` writes benchmarks/results/decisions.md. The floor beside each figure is a plain loop in
the same run that touches each node once and adds five numbers: what no decision over all nodes can be quicker than.
"""

import argparse
import gc
import random
import time
from pathlib import Path

from routing.core.dispatcher import Dispatcher, Limits, Verdict
from routing.core.learner import GIB, Metrics
from routing.core.requests import Complexity, Profile, Route, Task
from routing.core.snapshot import FleetSnapshot, InstalledModel, NodeSpec
from routing.core.state import ResidentModel
from routing.core.tickets import Lease, Ticket

RESULT = Path(__file__).parent / "results" / "decisions.md"
MODELS = tuple(
    InstalledModel(f"m{i}", f"m{i}", f"digest{i}", int(size * GIB), parameters_b=size * 1.6)
    for i, size in enumerate((0.3, 2, 2, 5, 5, 5, 9, 9, 20, 20))
)
SHARES = (8, 5, 5, 10, 10, 10, 4, 4, 1, 1)
TASKS = (Task.CHAT, Task.EXTRACTION, Task.SUMMARIZATION, Task.GENERATION, Task.ANALYSIS)


class Clock:
    """Virtual seconds."""

    now = 0.0


def spec_of(number: int) -> NodeSpec:
    memory, slots, kind = ((24, 4, "gpu"), (16, 4, "gpu"), (8, 2, "gpu"), (128, 4, "cpu"))[number % 4]
    room = memory * GIB
    fitting = tuple(model for model in MODELS if model.size * 1.15 < room)
    return NodeSpec(
        number,
        f"node{number}",
        f"http://node{number}:11434",
        node_class=kind,
        slots=slots,
        vram_bytes=room if kind == "gpu" else None,
        ram_bytes=room,
        max_loaded=6,
        models=fitting,
    )


class Fleet:
    """A dispatcher over many nodes, in steady work: requests come as fast as they go."""

    def __init__(self, nodes: int, waiting: int, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.dispatcher = Dispatcher(limits=Limits(queue=waiting * 2 + 1000, wait=1e9))
        self.dispatcher.apply(FleetSnapshot(1, tuple(spec_of(i) for i in range(nodes))))
        self.waiting, self.running, self.number = waiting, [], 0
        for i in range(nodes):
            self.dispatcher.observe_reach(i, None, 0.0)
            held = self.random.sample(spec_of(i).models, 2)
            self.dispatcher.observe_residents(i, [ResidentModel(m.key, m.name, m.digest, m.size) for m in held])
        while self.dispatcher.waiting < waiting:
            self.take(self.dispatcher.submit(self.ticket(), Clock.now))
            Clock.now += 0.001
        self.place()

    def ticket(self) -> Ticket:
        self.number += 1
        model = self.random.choices(MODELS, SHARES)[0]
        profile = Profile(
            Route.CHAT,
            model.name,
            model.key,
            stream=True,
            task=self.random.choice(TASKS),
            complexity=Complexity.SIMPLE,
            needs_gpu=False,
            prompt_tokens=self.random.randint(20, 4000),
            priority=self.random.randint(1, 10),
        )
        return Ticket(str(self.number), profile, Clock.now)

    def take(self, lease: Lease | None) -> None:
        if lease is not None:
            self.dispatcher.grant(lease)
            self.dispatcher.answered(lease)
            self.running.append(lease)

    def place(self) -> float:
        """One pass; its CPU seconds."""
        began = time.thread_time()
        leases = self.dispatcher.assign(Clock.now)
        took = time.thread_time() - began
        for lease in leases:
            self.take(lease)
        return took

    def finish(self) -> None:
        """A running request ends, and new ones come until as many wait as before."""
        lease = self.running.pop(self.random.randrange(len(self.running)))
        told = Metrics(lease.ticket.request.prompt_tokens, 200, 0.5, 4.0, 0.0, 4.5)
        self.dispatcher.release(lease, Verdict.SUCCESS, Clock.now, told)
        self.dispatcher.end(lease.ticket, Clock.now)

    def decide(self) -> float:
        """One new request, with the queue as full as it is; its CPU seconds."""
        ticket = self.ticket()
        began = time.thread_time()
        lease = self.dispatcher.submit(ticket, Clock.now)
        took = time.thread_time() - began
        self.take(lease)
        return took


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def floor(nodes: int, rounds: int) -> float:
    """CPU seconds, median, of a loop that adds five numbers for each node."""
    rows, took = [(0.1, 0.2, 0.3, 0.4, 0.5)] * nodes, []
    for _ in range(rounds):
        began = time.thread_time()
        least = 1e9
        for a, b, c, d, e in rows:
            cost = a + b + c + d + e
            if cost < least:  # noqa: PLR1730 (as the loop that it is the floor of)
                least = cost
        took.append(time.thread_time() - began)
    return quantile(took, 0.5)


def measure(nodes: int, waiting: int, rounds: int) -> dict[str, float]:
    """Times in milliseconds of CPU: a decision for a new request, and the pass after a slot came free."""
    fleet = Fleet(nodes, waiting)
    decisions, passes, explained = [], [], []
    gc.collect()
    gc.freeze()
    for turn in range(rounds):
        Clock.now += 0.01
        fleet.finish()
        passes.append(fleet.place())
        if fleet.dispatcher.waiting < waiting:
            decisions.append(fleet.decide())
        if turn % 4 == 0:
            one = next(iter(fleet.dispatcher.queued()))
            began = time.thread_time()
            fleet.dispatcher.judge(one, Clock.now)
            explained.append(time.thread_time() - began)
    return {
        "nodes": nodes,
        "waiting": waiting,
        "floor": 1000 * floor(nodes, 300),
        "one_p50": 1000 * quantile(explained, 0.5),
        "one_p99": 1000 * quantile(explained, 0.99),
        "submit_p99": 1000 * quantile(decisions, 0.99) if decisions else 0.0,
        "pass_p50": 1000 * quantile(passes, 0.5),
        "pass_p99": 1000 * quantile(passes, 0.99),
        "pass_p999": 1000 * quantile(passes, 0.999),
    }


HEAD = """# What deciding costs

Milliseconds of CPU of pure Python, written by `make bench-decisions` ({rounds} rounds each; ten models, four kinds of
nodes, the queue kept full). *decision*: all nodes judged for one waiting request. *submit*: a new request comes.
*pass*: one `assign` after a slot came free. *floor*: a loop in the same run that adds five numbers for each node.

| nodes | waiting | floor | decision p50 | decision p99 | over floor | submit p99 | pass p50 | pass p99 | pass p99.9 |
|---|---|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4000)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    asked = parser.parse_args()
    text = HEAD.format(rounds=asked.rounds)
    for nodes, waiting in ((10, 200), (100, 1000), (1000, 1000)):
        row = measure(nodes, waiting, asked.rounds)
        text += (
            f"| {nodes} | {waiting} | {row['floor']:.4f} | {row['one_p50']:.3f} | {row['one_p99']:.3f} "
            f"| {row['one_p50'] / row['floor']:.0f} | {row['submit_p99']:.3f} | {row['pass_p50']:.3f} "
            f"| {row['pass_p99']:.3f} | {row['pass_p999']:.3f} |\n"
        )
    print(text)
    if asked.write:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
