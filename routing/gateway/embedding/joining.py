"""Small embedding requests that wait for one model go along in the call of the first of them that gets a slot.

Nobody waits for company: the window in which others can join is the time for which all slots are taken anyway.
"""

import asyncio
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from routing.core.dispatcher import Dispatcher
from routing.core.requests import Route
from routing.core.state import Reach
from routing.core.tickets import Lease, Ticket, TicketState
from routing.gateway.admission import Admission, waker
from routing.gateway.embedding.asked import Wanted, sorted_json
from routing.gateway.embedding.calls import Call, Share
from routing.gateway.journey import Journey

#: What a small request has at most: texts, and tokens as the analysis guesses them.
TEXTS, TOKENS = 8, 1024
#: What one call has at most: requests, and seconds of work that are expected of it on its node.
REQUESTS, WORK_S = 64, 0.25

#: Requests of one key ask for the same of the same model, on the same terms, for the same team.
Key = tuple[object, ...]


@dataclass(slots=True, eq=False)
class Member:
    """One request that waits, or is carried; `answer` is its share of the call's."""

    journey: Journey
    wanted: Wanted
    key: Key
    texts: list[int]
    answer: "asyncio.Future[Share]"
    call: Call | None = None


@dataclass(slots=True)
class Joining:
    """Who waits, by key, in the order of arrival. `calls` and `requests` count calls that carried several requests."""

    admission: Admission
    waiting: dict[Key, dict[Member, None]] = field(default_factory=dict)
    calls: int = 0
    requests: int = 0

    def member(self, journey: Journey, target: str) -> Member | None:
        """The request as one that may be joined; None where it goes alone."""
        wanted, request = journey.wanted, journey.ticket.request
        if wanted is None or request.deadline is not None or request.remote or wanted.route is Route.EMBEDDINGS:
            return None
        texts = wanted.missing()
        rest = sorted_json(wanted.rest)
        if rest is None or len(texts) > TEXTS or request.prompt_tokens > TOKENS:
            return None
        key = (target, rest, request.team_id, request.priority, request.bulk, request.strategy, request.labels)
        return Member(journey, wanted, key, texts, asyncio.get_running_loop().create_future())

    async def place(self, member: Member) -> Lease | None:
        """Wait for a slot, or for a call that takes the request along: then None.

        Raises the refusal that ended the wait.
        """
        ticket = member.journey.ticket
        if ticket.lease is None and ticket.state is TicketState.WAITING:
            woken = asyncio.get_running_loop().create_future()
            ticket.wake = waker(woken)
            group = self.waiting.setdefault(member.key, {})
            group[member] = None
            try:
                await woken
            finally:
                ticket.wake = None
                group.pop(member, None)
                if not group and self.waiting.get(member.key) is group:
                    del self.waiting[member.key]
        if member.call is not None:
            return None
        if ticket.refusal is not None:
            raise ticket.refusal
        assert ticket.lease is not None  # noqa: S101 (woken with a lease, a refusal or a call)
        return ticket.lease

    def company(self, member: Member, lease: Lease) -> list[Member]:
        """Those who wait and may come along to this node: its part of them by its speed, and not too much at once."""
        group = self.waiting.get(member.key)
        if not group or member.wanted.weights not in {"", lease.weights}:
            return []
        dispatcher, node = self.admission.dispatcher, lease.node
        now, prompt_s = self.admission.clock(), dispatcher.learner.solo(node.spec, lease.speeds)[0]
        waiting = [one for one in group if able(one, lease, now)]
        most = min(REQUESTS, math.ceil((len(waiting) + 1) * part_of(dispatcher, member.journey.ticket, lease)))
        left = WORK_S - dispatcher.learner.prompt_tokens(member.journey.ticket.request) * prompt_s
        taken: list[Member] = []
        for one in waiting[: most - 1]:
            left -= dispatcher.learner.prompt_tokens(one.journey.ticket.request) * prompt_s
            if left < 0.0:
                break
            taken.append(one)
        return taken

    def begin(self, members: list[Member], lease: Lease, call: Call) -> None:
        """Turn a lease and those who share it into one call; the others are woken."""
        now = self.admission.clock()
        first, *riders = (one.journey.ticket for one in members)
        tokens = sum(one.journey.ticket.request.prompt_tokens for one in members)
        carrier = Ticket(f"{first.id}+", replace(first.request, prompt_tokens=tokens), now, attempts=1, work=first.work)
        self.admission.dispatcher.carry(carrier, lease, riders, now)
        self.calls += 1
        self.requests += len(members)
        for member in members:
            member.call = call
            member.journey.lease = lease
            if member.journey.ticket.wake is not None:
                member.journey.ticket.wake()


def able(member: Member, lease: Lease, now: float) -> bool:
    ticket = member.journey.ticket
    waits = ticket.state is TicketState.WAITING and ticket.not_before <= now and member.call is None
    same = member.wanted.weights in {"", lease.weights}
    return waits and same and lease.node.spec.id not in ticket.tried


def part_of(dispatcher: Dispatcher, ticket: Ticket, lease: Lease) -> float:
    """This node's part of the speed of all nodes that have the model loaded and are up."""
    request, own = ticket.request, 0.0
    rates: list[float] = []
    for node in dispatcher.nodes.values():
        if node is lease.node or (
            node.offers(request) and node.reach is not Reach.DOWN and lease.weights in node.resident
        ):
            speeds = dispatcher.learner.of(node.spec, lease.weights, node.models.get(request.key))
            rates.append(1.0 / dispatcher.learner.solo(node.spec, speeds)[0])
            own = rates[-1] if node is lease.node else own
    return own / sum(rates) if rates else 1.0


def texts_of(members: Iterable[Member]) -> list[str]:
    return [member.wanted.texts[i] for member in members for i in member.texts]
