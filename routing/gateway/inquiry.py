"""What became of a request: `GET /api/requests/{id}`, while it waits, while it runs, and after its end."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from routing.core.forecast import Forecast, forecasts
from routing.core.records import RequestRecord
from routing.core.requests import Api
from routing.core.tickets import Ticket, TicketState
from routing.gateway.access import Access, Caller
from routing.gateway.envelopes import NATIVE_JSON, error_body
from routing.gateway.exchange import Exchange
from routing.gateway.inference import Inference
from routing.gateway.journey import Journey
from routing.gateway.lists import json
from routing.ports import Clock, History

PREFIX = "/api/requests/"
NOT_FOUND = 404
#: Seconds that a lane's forecast is used again: many may ask for theirs at once.
FORECAST_AGE = 0.5


class Inquiry:
    """Answers from the gateway's memory, else from the history."""

    def __init__(self, access: Access, inference: Inference, history: History, clock: Clock) -> None:
        self.access, self.inference, self.history, self.clock = access, inference, history, clock
        self._forecasts: dict[str, tuple[float, dict[str, Forecast]]] = {}

    async def answer(self, exchange: Exchange) -> None:
        """One request as JSON; a 404 if it is unknown or another team's."""
        caller = self.access.caller_for(exchange.scope, exchange.headers)
        request_id = exchange.scope["path"].removeprefix(PREFIX)
        told = self.told(request_id) or self._ended(request_id)
        if told is None or not may_see(caller, told):
            # An older request of the same id may be the caller's.
            told = await self.history.find(request_id)
        if told is None or not may_see(caller, told):
            body = error_body(Api.OLLAMA, NOT_FOUND, f"request {request_id!r} is not known")
            await exchange.respond(NOT_FOUND, [(b"content-type", NATIVE_JSON)], body)
            return
        await json(exchange, {name: value for name, value in told.items() if name != "team_id"})

    def _ended(self, request_id: str) -> dict[str, Any] | None:
        ended = self.inference.tally.ended.get(request_id)
        return None if ended is None else ended_view(*ended)

    def told(self, request_id: str) -> dict[str, Any] | None:
        """A request that has not ended: what it is, where it is, and when it will probably start and end."""
        journey = self.inference.live.get(request_id)
        if journey is None:
            return None
        ticket = journey.ticket
        waiting = ticket.state is TicketState.WAITING
        view = {**request_view(journey), "state": "waiting" if waiting else "running"}
        if waiting:
            return view | self.expected(ticket)
        return view | running_view(journey)

    def expected(self, ticket: Ticket) -> dict[str, Any]:
        """Place in the lane, from 1, and the seconds from now to its start and its end; None where nobody can tell."""
        found = self._lane(ticket).get(ticket.id)
        return {
            "position": found.position if found else None,
            "predicted_start_s": rounded(found.start_s) if found else None,
            "predicted_finish_s": rounded(found.finish_s) if found else None,
        }

    def _lane(self, ticket: Ticket) -> dict[str, Forecast]:
        key, now = ticket.request.key, self.clock()
        made, lane = self._forecasts.get(key, (-math.inf, {}))
        if now - made > FORECAST_AGE or ticket.id not in lane:
            dispatcher = self.inference.admission.dispatcher
            lane = forecasts(dispatcher, dispatcher.lane_of(ticket), now)
            self._forecasts = {one: kept for one, kept in self._forecasts.items() if now - kept[0] <= FORECAST_AGE}
            self._forecasts[key] = (now, lane)
        return lane


def request_view(journey: Journey) -> dict[str, Any]:
    """What is known of a request from its arrival on."""
    ticket, request, team = journey.ticket, journey.ticket.request, journey.caller.team
    return {
        "id": ticket.id,
        "state": "",
        "started_at": stamp(journey.arrived_wall),
        "route": request.route.value,
        "model": request.model,
        "task": request.task.value,
        "complexity": request.complexity.value,
        "priority": request.priority,
        "stream": request.stream,
        "team": team.name if team else "",
        "team_id": request.team_id,
        "attempts": ticket.attempts,
        "resumed": journey.resumed,
    }


def running_view(journey: Journey) -> dict[str, Any]:
    ticket, lease = journey.ticket, journey.ticket.lease or journey.lease
    first = journey.first_byte_at
    return {
        "node": lease.node.spec.name if lease else "",
        "queue_ms": rounded(ticket.queue_s * 1000),
        "first_byte_ms": None if first is None else rounded((first - ticket.arrived_at) * 1000),
        "decision": lease.decision.as_dict() if lease else {},
    }


def ended_view(
    record: RequestRecord, team: str, node: str, decision: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A request after its end, from the record that the history keeps of it; `decision` if the record has none."""
    return {
        "id": record.request_id,
        "state": "ended",
        "started_at": stamp(record.started_at),
        "route": record.route,
        "model": record.model,
        "task": record.task_type,
        "complexity": record.complexity,
        "priority": record.priority,
        "stream": record.stream,
        "team": team,
        "team_id": record.team_id,
        "attempts": record.attempts,
        "resumed": record.resumed,
        "node": node,
        "outcome": record.outcome.value,
        "status": record.status,
        "queue_ms": rounded(record.queue_ms),
        "first_byte_ms": None if record.first_byte_ms is None else rounded(record.first_byte_ms),
        "total_ms": rounded(record.total_ms),
        "prompt_tokens": record.prompt_tokens,
        "output_tokens": record.output_tokens,
        "error": record.error,
        "decision": record.decision.as_dict() if record.decision else dict(decision or {}),
    }


def may_see(caller: Caller, told: Mapping[str, Any]) -> bool:
    """A team sees its own requests, the anonymous those that were anonymous, who manages the fleet all."""
    mine = caller.team.id if caller.team else None
    if "manage" in caller.scopes:
        return True
    # A team that was deleted has no id any more, but its name is told.
    return told.get("team_id") == mine and (mine is not None or not told.get("team"))


def stamp(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rounded(value: float) -> float:
    return round(value, 1)
