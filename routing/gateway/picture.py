"""All that the dashboard shows, in sections, worked out when somebody looks."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from routing.core.names import display
from routing.core.state import NodeState, Reach
from routing.core.tickets import Ticket, TicketState
from routing.gateway.access import Access
from routing.gateway.alerts import Alert, alerts, span
from routing.gateway.condition import nothing
from routing.gateway.inference import Inference
from routing.gateway.inquiry import Inquiry, ended_view
from routing.gateway.pulse import Pulse, Sample
from routing.gateway.series import STEP_S
from routing.gateway.view import node_view, request_view
from routing.ports import Clock

#: Requests under way that are told one by one, the newest; the counts are of all.
UNDER_WAY = 25
#: Seconds for which the learned speeds are told again as they were.
SPEEDS_AGE = 5.0

Json = dict[str, Any]


class Work(Protocol):
    """What is known of scheduled work: alerts by the names of `Alert`'s fields, and what is shown, JSON-ready."""

    def alerts(self) -> Iterable[Mapping[str, Any]]: ...

    def told(self) -> Mapping[str, Any]: ...


class NoWork:
    """Where nobody schedules any."""

    def alerts(self) -> Iterable[Mapping[str, Any]]:
        return ()

    def told(self) -> Mapping[str, Any]:
        return {}


class Picture:
    """Draws the gateway's state; one event loop owns it.

    `wall` tells epoch seconds, `around` how it stands with what the gateway depends on (`Condition.around`), `work`
    with what is done on schedule.
    """

    def __init__(
        self,
        inference: Inference,
        inquiry: Inquiry,
        access: Access,
        clock: Clock,
        wall: Clock,
        around: Callable[[], Mapping[str, Any]] = nothing,
        work: Work | None = None,
    ) -> None:
        self.inference, self.inquiry, self.access, self.around = inference, inquiry, access, around
        self.work = work or NoWork()
        self.clock, self.wall = clock, wall
        self.dispatcher, self.tally = inference.admission.dispatcher, inference.tally
        self.pulse = Pulse(self.dispatcher, self.tally, inference.live)
        self._speeds: tuple[float, list[Json]] = (float("-inf"), [])

    def sections(self) -> Json:
        """The whole picture, JSON-ready; `nodes` and `series` are keyed, so that parts of them can be sent alone."""
        now, wall = self.clock(), self.wall()
        samples = self.pulse.samples(now)
        nodes = {str(node_id): self.node(node, samples[node_id]) for node_id, node in self.dispatcher.nodes.items()}
        return {
            "summary": self.summary(nodes, wall),
            "nodes": nodes,
            "queue": self.queue(now, wall),
            "under_way": self.under_way(),
            "requests": [request_view(*entry) for entry in self.tally.recent],
            "series": {str(number): point for number, point in self.tally.series.points(wall).items()},
            "alerts": [alert._asdict() for alert in self.alerts(samples, now, wall)],
            "speeds": self.speeds(now),
            "work": self.work.told(),
        }

    def alerts(self, samples: dict[int, Sample], now: float, wall: float) -> list[Alert]:
        found = alerts(self.pulse, samples, self.inference.desk.quotas, self.access.snapshot.teams, now, wall)
        around = self.around()
        if around.get("database", "ok") != "ok":
            since, waiting = span(around["database_away_s"]), around["unrecorded"]
            text = f"the database has been away for {since}: changes are not seen, {waiting:,} rows wait"
            if around["database"] == "unwritable":
                text = (
                    f"the database has taken nothing for {since} (is a disk full?): {waiting:,} rows wait; see the log"
                )
            found.insert(0, Alert("database", "error", "database", text))
        if around.get("channels", "ok") != "ok":
            text = "Redis does not answer; requests and dashboards of this gateway do without it"
            found.append(Alert("channels", "warning", "channels", text))
        if lost := around.get("dropped"):
            found.append(Alert("history", "warning", "history", f"the history has lost {lost:,} rows; see the log"))
        for alert in (Alert(**one) for one in self.work.alerts()):
            found.insert(0 if alert.severity == "error" else len(found), alert)
        return found

    def summary(self, nodes: dict[str, Json], wall: float) -> Json:
        recent, tally = self.tally.series.recent(wall), self.tally
        used = [node for node in nodes.values() if node["state"] in {"up", "suspect"}]
        return {
            "up": len(used),
            "nodes": len(nodes),
            "in_flight": self.dispatcher.in_flight(),
            "slots": sum(node["slots"] for node in used),
            "waiting": self.dispatcher.waiting,
            "requests_s": round(recent.requests / STEP_S, 2),
            "tokens_s": round(sum(node["tokens_s"] for node in nodes.values()), 1),
            "first_byte_ms": recent.first_byte.quantiles(),
            "total_ms": recent.total.quantiles(),
            "requests": sum(tally.outcomes.values()),
            "outcomes": {outcome.value: count for outcome, count in tally.outcomes.items()},
            "retries": tally.retries,
        }

    def node(self, node: NodeState, sample: Sample) -> Json:
        success = self.pulse.success(sample, node.spec.id)
        return {
            **node_view(node),
            "class": node.spec.node_class,
            "loading": node.loading,
            "success": None if success is None else round(success, 3),
            "tokens_s": round(self.pulse.writing(sample, node.spec.id), 1),
        }

    def queue(self, now: float, wall: float) -> list[Json]:
        """How many wait and since when the oldest does, by priority and team."""
        lines: dict[tuple[int, int | None], tuple[int, float]] = {}
        for ticket in self.dispatcher.queued():
            line = ticket.request.priority, ticket.request.team_id
            count, oldest = lines.get(line, (0, now))
            lines[line] = count + 1, min(oldest, ticket.arrived_at)
        return [
            {
                "priority": priority,
                "team": self.name_of(team),
                "waiting": count,
                "oldest_at": round(wall + oldest - now),
            }
            for (priority, team), (count, oldest) in sorted(lines.items(), key=lambda one: (-one[0][0], one[1][1]))
        ]

    def under_way(self) -> list[Json]:
        """The newest requests that have not ended."""
        journeys = list(self.inference.live.values())[: -UNDER_WAY - 1 : -1]
        told = []
        for journey in journeys:
            ticket, request = journey.ticket, journey.ticket.request
            node = journey.lease.node.spec.name if journey.lease else ""
            told.append(
                {
                    "id": ticket.id,
                    "at": round(journey.arrived_wall, 3),
                    "model": request.model,
                    "task": request.task.value,
                    "priority": request.priority,
                    "team": self.name_of(request.team_id),
                    "node": node,
                    "outcome": "waiting" if ticket.state is TicketState.WAITING else "running",
                    "attempts": ticket.attempts,
                }
            )
        return told

    def speeds(self, now: float) -> list[Json]:
        """What is learned of each model on each node; tokens per second alone, and how many answers that rests on."""
        made, told = self._speeds
        if now - made > SPEEDS_AGE:
            told = list(self._learned())
            self._speeds = (now, told)
        return told

    def _learned(self) -> Iterator[Json]:
        nodes = self.dispatcher.nodes
        for (node_id, weights), speeds in self.dispatcher.learner.speeds.items():
            node = nodes.get(node_id)
            if node is None or not speeds.output.seen:
                continue
            model = node.models.get(speeds.model)
            if model is not None and model.digest and model.digest != weights:
                continue  # weights that were replaced
            yield {
                "node": node.spec.name,
                "model": display(speeds.model),
                "output": float(f"{1 / speeds.output.value:.3g}"),
                "prompt": float(f"{1 / speeds.prompt.value:.3g}") if speeds.prompt.seen else None,
                "load_s": float(f"{speeds.load.value:.2g}") if speeds.load.seen else None,
                "seen": speeds.output.seen,
            }

    def name_of(self, team: int | None) -> str:
        known = self.access.snapshot.teams.get(team) if team is not None else None
        return known.name if known else ""

    # What is asked for one by one

    def request(self, request_id: str) -> Json | None:
        """A request that has not ended or has ended lately, as `GET /api/requests/{id}` tells it.

        While it has not, `rejected_nodes` tells by name the nodes that could not take it now, each with the filter.
        """
        told = self.inquiry.told(request_id)
        if told is not None:
            ticket: Ticket = self.inference.live[request_id].ticket
            return {**told, "rejected_nodes": self.dispatcher.rejected_nodes(ticket, self.clock())}
        ended = self.tally.ended.get(request_id)
        return None if ended is None else ended_view(*ended)

    def models(self) -> list[Json]:
        """The models that answer in words, by name: on which nodes in use they are, and on which of those loaded."""
        told: dict[str, Json] = {}
        for node in self.dispatcher.nodes.values():
            if not node.used or node.reach is Reach.DOWN:
                continue
            resident = {model.key for model in node.resident.values()}
            for key, model in node.models.items():
                if model.capabilities and "completion" not in model.capabilities:
                    continue
                row = told.setdefault(key, {"name": display(key), "nodes": [], "loaded": []})
                row["nodes"].append(node.spec.name)
                if key in resident:
                    row["loaded"].append(node.spec.name)
        return sorted(told.values(), key=lambda row: row["name"])
