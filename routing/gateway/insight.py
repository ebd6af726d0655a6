"""What a caller may look into: the queue, its own use, and what would become of a request."""

from collections import Counter
from typing import Any

from routing.core.analysis import analyse
from routing.core.decisions import Decision
from routing.core.errors import BadRequest, NoNode, Refusal
from routing.core.requests import EMBEDDING_ROUTES, Profile, Route
from routing.core.shares import Team
from routing.core.snapshot import TeamPolicy
from routing.core.tickets import Ticket
from routing.gateway import bodies
from routing.gateway.access import Access, Caller
from routing.gateway.exchange import Exchange
from routing.gateway.inquiry import Inquiry, rounded
from routing.gateway.lists import json
from routing.gateway.terms import Desk
from routing.ports import Clock

#: Waiting requests that are told one by one; the counts are of all.
MOST_TOLD = 500
ROUTES = {route.value: route for route in Route if route is not Route.V1_TRANSCRIPTIONS}


class Insight:
    """`GET /api/queue`, `GET /api/usage` and `POST /api/explain`."""

    def __init__(self, access: Access, desk: Desk, inquiry: Inquiry, max_body: int, clock: Clock) -> None:
        self.access, self.desk, self.inquiry, self.max_body, self.clock = access, desk, inquiry, max_body, clock
        self.dispatcher = desk.dispatcher

    async def queue(self, exchange: Exchange) -> None:
        """Who waits, in order, with place and predictions; a team is told its own requests, and counts of all."""
        caller = self.access.caller_for(exchange.scope, exchange.headers)
        now = self.clock()
        tickets = sorted(self.dispatcher.queued(), key=lambda ticket: (ticket.order, ticket.sequence))
        everything = "manage" in caller.scopes
        mine = caller.team.id if caller.team else None
        told = [ticket for ticket in tickets if everything or ticket.request.team_id == mine]
        await json(
            exchange,
            {
                "depth": len(tickets),
                "in_flight": self.dispatcher.in_flight(),
                "oldest_s": rounded(max((now - ticket.arrived_at for ticket in tickets), default=0.0)),
                "by_priority": counted(tickets),
                "requests": [self.row(ticket, now) for ticket in told[:MOST_TOLD]],
                "requests_told": min(len(told), MOST_TOLD),
                "requests_of_caller": len(told),
                "teams": [self.team(team, now) for team in self.teams(caller)],
            },
        )

    def row(self, ticket: Ticket, now: float) -> dict[str, Any]:
        request = ticket.request
        return {
            "id": ticket.id,
            "model": request.model,
            "task": request.task.value,
            "team": self.name_of(request.team_id),
            "priority": request.priority,
            "attempts": ticket.attempts,
            "waiting_s": rounded(now - ticket.arrived_at),
            "deadline_s": None if request.deadline is None else rounded(request.deadline - now),
            "held_for": ticket.held_at.node.spec.name if ticket.held_at is not None else "",
            **self.inquiry.expected(ticket),
        }

    def teams(self, caller: Caller) -> list[Team]:
        """The teams whose shares a caller may see."""
        accounts = self.dispatcher.shares.accounts
        if "manage" in caller.scopes:
            return sorted(accounts, key=lambda team: (team is None, team))
        mine = caller.team.id if caller.team else None
        return [mine] if mine in accounts else []

    def team(self, team: Team, now: float) -> dict[str, Any]:
        """A team's fair share: `served_s` is its counter, in seconds of work on the fastest node by weight."""
        account = self.dispatcher.shares.of(team)
        return {
            "team": self.name_of(team),
            "weight": account.weight,
            "waiting": account.waiting,
            "running": account.running,
            "most_running": account.limit,
            "served_s": rounded(account.counter),
        }

    def name_of(self, team: Team) -> str:
        known = self.access.snapshot.teams.get(team) if team is not None else None
        return known.name if known else ""

    async def usage(self, exchange: Exchange) -> None:
        """What the caller's team has used of its quotas; who manages the fleet sees all teams."""
        caller = self.access.caller_for(exchange.scope, exchange.headers)
        teams = self.access.snapshot.teams
        if "manage" in caller.scopes:
            await json(exchange, {"teams": [self.used(team) for team in teams.values()]})
        elif caller.team is None:
            await json(exchange, {"team": "", "quotas": [], "detail": "requests without a key belong to no team"})
        else:
            await json(exchange, self.used(caller.team))

    def used(self, team: TeamPolicy) -> dict[str, Any]:
        told = self.desk.quotas.used(team.id, self.desk.wall())
        account = self.dispatcher.shares.of(team.id)
        return {
            "team": team.name,
            "priorities": {
                "default": team.default_priority,
                "highest": team.highest_priority,
                "batch": team.batch_priority,
            },
            "share_weight": team.share_weight,
            "max_concurrent": team.max_concurrent,
            "running": account.running,
            "waiting": account.waiting,
            **told,
        }

    async def explain(self, exchange: Exchange) -> None:
        """What would become of a request: its analysis, its priority, and every node with its cost or its fault.

        The body is a request's, and may name its path in `route`. Nothing is run and nothing is charged.
        """
        caller = self.access.caller_for(exchange.scope, exchange.headers)
        now = self.clock()
        body = await bodies.decoded(await exchange.body(self.max_body))
        if body is None:
            raise BadRequest('send the body of a request, for example {"model": "llama3.2:3b", "messages": []}')
        profile = analyse(route_of(body), body)
        if not profile.key:
            raise BadRequest("model is required")
        terms = self.desk.prepare(profile, exchange.headers, caller, now)
        refused = ""
        try:
            self.desk.admit(profile, terms, caller, now).cancel(self.desk.wall())
        except Refusal as refusal:
            refused = refusal.message
        ticket = Ticket("", profile, now)
        decision = self.dispatcher.explain(ticket, now, every=True)
        if decision is None:
            raise NoNode("no node could be judged for this request")
        await json(
            exchange,
            {
                "profile": profile_view(profile),
                "demoted": terms.demoted,
                "refused": refused,
                "would": verdict(decision),
                "decision": decision.as_dict(),
                "rejected_nodes": self.dispatcher.rejected_nodes(ticket, now),
            },
        )


def counted(tickets: list[Ticket]) -> dict[str, int]:
    return dict(
        sorted(Counter(str(ticket.request.priority) for ticket in tickets).items(), key=lambda one: int(one[0]))
    )


def route_of(body: Any) -> Route:
    """The inference route that a body is for: as it says, else by what is in it."""
    named = body.get("route")
    if named is not None:
        route = ROUTES.get(named) if isinstance(named, str) else None
        if route is None:
            raise BadRequest(f"route must be one of {', '.join(ROUTES)}")
        return route
    if "messages" in body:
        return Route.CHAT
    return Route.EMBED if "input" in body else Route.GENERATE


def verdict(decision: Decision) -> str:
    """In a sentence what the router would do now."""
    if not decision.best:
        return "no node can serve it now"
    best = decision.best[0]
    return f"start at once on {best.node}" if best.starts_now else f"wait for {best.node}"


def profile_view(profile: Profile) -> dict[str, Any]:
    return {
        "route": profile.route.value,
        "model": profile.model,
        "task": profile.task.value,
        "complexity": profile.complexity.value,
        "priority": profile.priority,
        "needs_gpu": profile.needs_gpu,
        "prompt_tokens": profile.prompt_tokens,
        "max_tokens": None if profile.route in EMBEDDING_ROUTES else profile.max_tokens,
        "num_ctx": profile.num_ctx,
        "strategy": profile.strategy,
        "labels": dict(profile.labels),
    }
