"""The router's core behind a line protocol: one JSON event a line in, placements out, in the time that the events tell.

Run as `python -m benchmarks.yardstick_router`, it is the dispatcher that the gateway uses, with the gateway's own
settings; this file translates between its calls and the events of a simulated fleet, and decides nothing. Events come
on the standard input: `fleet`, `arrival`, `sent`, `done`, `cancel`, `poll`, and `decide`, which alone is answered, with
`{"send": [[request id, node index], ...]}`.
"""

import json
import sys
from collections.abc import Iterable
from typing import Any

from routing.core.dispatcher import Dispatcher, Verdict
from routing.core.learner import Metrics
from routing.core.requests import Complexity, Profile, Route, Task
from routing.core.residency import MEMORY_FACTOR
from routing.core.snapshot import FleetSnapshot, InstalledModel, NodeSpec, TeamPolicy
from routing.core.state import ResidentModel
from routing.core.tickets import Lease, Ticket, TicketState

GIB = 1 << 30
Event = dict[str, Any]


class Router:
    """One dispatcher and the requests it knows by the numbers that the events give them."""

    def __init__(self) -> None:
        self.dispatcher = Dispatcher()
        self.tickets: dict[int, Ticket] = {}
        self.numbers: dict[str, int] = {}
        self.chosen: list[Lease] = []
        self.residents: dict[str, ResidentModel] = {}
        self.teams: dict[str, int] = {}

    def take(self, event: Event) -> list[list[int]] | None:
        """One event; the placements where it asks for them."""
        handler = getattr(self, event["ev"])
        answer: list[list[int]] | None = handler(event, event["t"])
        return answer

    def fleet(self, event: Event, now: float) -> None:
        models = {
            name: InstalledModel(
                name, name, name, int(told["gb"] * GIB / MEMORY_FACTOR), capabilities_of(name), told["params_b"]
            )
            for name, told in event["models"].items()
        }
        self.residents = {
            name: ResidentModel(name, name, name, int(told["gb"] * GIB), int(told["gb"] * GIB))
            for name, told in event["models"].items()
        }
        self.teams = {name: number for number, name in enumerate(event["teams"], 1)}
        self.dispatcher.apply(
            FleetSnapshot(
                1,
                tuple(node_of(told, models) for told in event["nodes"]),
                {
                    self.teams[name]: TeamPolicy(self.teams[name], name, share_weight=w)
                    for name, w in event["teams"].items()
                },
            )
        )
        for told in event["nodes"]:
            self.dispatcher.observe_reach(told["i"], None, now)

    def arrival(self, event: Event, now: float) -> None:
        """A new request, or one whose attempt has failed."""
        number = event["id"]
        ticket = self.tickets.get(number)
        if ticket is not None:
            self.dispatcher.retry(ticket, now)
            return
        profile = Profile(
            Route.EMBED if event["task"] == "embedding" else Route.CHAT,
            event["model"],
            event["model"],
            stream=True,
            task=Task(event["task"]),
            complexity=Complexity.SIMPLE,
            needs_gpu=False,
            prompt_tokens=event["prompt_tokens"],
            max_tokens=event["max_tokens"],
            priority=event["prio"],
            team_id=self.teams.get(event["team"]),
        )
        ticket = self.tickets[number] = Ticket(str(number), profile, event["first_t"])
        self.numbers[ticket.id] = number
        lease = self.dispatcher.submit(ticket, now)
        if lease is not None:
            self.chosen.append(lease)

    def decide(self, event: Event, now: float) -> list[list[int]]:
        leases = self.chosen + self.dispatcher.assign(now)
        self.chosen = []
        return [[self.numbers[lease.ticket.id], lease.node.spec.id] for lease in leases]

    def sent(self, event: Event, now: float) -> None:
        lease = self.tickets[event["id"]].lease
        if lease is not None:
            self.dispatcher.grant(lease)

    def done(self, event: Event, now: float) -> None:
        """An attempt's end: what an answer of a node tells, or that it gave none."""
        ticket = self.tickets[event["id"]]
        lease = ticket.lease
        if lease is None:
            return
        if not event["ok"]:
            ticket.tried.add(lease.node.spec.id)
            worked = event["prompt_eval_s"] or event["load_s"]
            self.dispatcher.release(lease, Verdict.FAILURE if worked else Verdict.UNREACHABLE, now)
            return
        self.dispatcher.answered(lease)
        self.dispatcher.release(
            lease,
            Verdict.SUCCESS,
            now,
            Metrics(
                ticket.request.prompt_tokens,
                event["eval_count"],
                event["prompt_eval_s"],
                event["eval_s"],
                event["load_s"],
                event["total_s"],
            ),
        )
        self.dispatcher.end(ticket, now)
        self.forget(event["id"])

    def cancel(self, event: Event, now: float) -> None:
        ticket = self.tickets.get(event["id"])
        if ticket is not None:
            self.dispatcher.end(ticket, now)
            self.chosen = [lease for lease in self.chosen if lease.ticket is not ticket]
            self.forget(event["id"])

    def poll(self, event: Event, now: float) -> None:
        for told in event["nodes"]:
            node = told["i"]
            if told["up"]:
                self.dispatcher.observe_reach(node, None, now)
                self.dispatcher.observe_residents(node, [self.residents[name] for name in told["loaded"]])
            else:
                self.dispatcher.observe_reach(node, "down", now, certain=True)

    def forget(self, number: int) -> None:
        ticket = self.tickets.pop(number)
        self.numbers.pop(ticket.id, None)
        assert ticket.state is TicketState.ENDED


def node_of(told: Event, models: dict[str, InstalledModel]) -> NodeSpec:
    memory = int(told["mem_gb"] * GIB)
    gpu = told["kind"] == "gpu"
    return NodeSpec(
        told["i"],
        told["name"],
        f"http://{told['name']}:11434",
        node_class="gpu" if gpu else "cpu",
        slots=told["slots"],
        vram_bytes=memory if gpu else None,
        ram_bytes=None if gpu else memory,
        cost_per_hour=told["cost_h"],
        region=told["region"],
        models=tuple(models[name] for name in told["models"]),
        max_loaded=len(models),
    )


def capabilities_of(name: str) -> frozenset[str]:
    """Embedding models are told by their names here; their slots are those of the fleet's other models."""
    return frozenset({"completion"})


def main(lines: Iterable[str] = sys.stdin) -> None:
    router = Router()
    for line in lines:
        answer = router.take(json.loads(line))
        if answer is not None:
            sys.stdout.write(json.dumps({"send": answer}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
