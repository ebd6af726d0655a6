"""The queue: who waits for what in which order, within which bounds, and who has waited too long."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from routing.core.errors import NoNode, QueueFull, Refusal, TooLate, WaitExpired
from routing.core.families import Family, standing
from routing.core.judging import Judge
from routing.core.pipeline import Kind
from routing.core.places import Place
from routing.core.requests import Profile
from routing.core.shares import Flow
from routing.core.state import Kept, Reach
from routing.core.tickets import Ticket, TicketState

#: Requests of one kind that one look considers; those behind them could at best start after these.
LOOKAHEAD = 16
#: Requests among which those of other kinds are looked for.
SCANNED = 400
#: The parts of the queue that requests up to a priority may fill, the lower ones counted: (priority, part).
PARTS = ((1, 0.5), (3, 0.75))
#: Waiting requests of one priority among which one to be shed is looked for.
SHED_AMONG = 200
#: Families that are kept though nobody waits in them: any client can name models that ollama.com may have.
FAMILIES = 1000
#: Seconds of waiting that one step of priority is worth, and seconds of waiting per second of expected work.
STEP_S, SIZE_FACTOR, LARGEST_S = 10.0, 10.0, 30.0
#: The part of the patience after which room is made for a team that wants little of a busy fleet.
SOONER = 0.25


@dataclass(slots=True)
class Queue(Judge):
    """Everything that waits, by family and (`levels`) by priority, in the order in which it came.

    `waiting` counts it; `kept` is the ticket that room is being made for. `bulk` counts the bulk requests that run,
    by model.
    """

    waiting: int = 0
    sequence: int = 0
    kept: Ticket | None = None
    levels: dict[int, dict[Ticket, None]] = field(default_factory=dict)
    started: Flow = field(default_factory=Flow)
    bulk: Counter[str] = field(default_factory=Counter)

    # Who may come in

    def _room(self, request: Profile, now: float) -> None:
        """Raise `QueueFull` where there is no room in the queue for a request; one less urgent may be shed for it.

        Work of low priority may fill a part of the queue only. Once half of it is full, a team may hold its share. One
        that is shed is of the same team, or of a team that holds more than its share.
        """
        most, team = self.limits.queue, request.team_id
        for highest, part in PARTS:
            depth = self._at_most(highest)
            if request.priority <= highest and depth >= part * most:
                raise QueueFull(
                    f"{depth} requests of priority {highest} or less are waiting, as many as may",
                    self._drain_s(depth, now),
                )
        if 2 * self.waiting < most:
            return
        own, share = self.shares.of(team).waiting, self.shares.share(team)
        crowded = own >= most * share
        if not crowded and self.waiting < most:
            return
        victim = self._less_urgent(request, own=crowded)
        if victim is not None:
            reason = "the queue is filling up, and a more urgent request has come; send this one again later"
            self._refuse(victim, QueueFull(reason, self._drain_s(self.waiting, now)), now)
        elif crowded:
            after = self._drain_s(own / share, now)
            raise QueueFull(
                f"{own} requests of this team are waiting, as many as its share of the queue; "
                f"the last of them will start in about {after} s",
                after,
            )
        else:
            after = self._drain_s(self.waiting, now)
            raise QueueFull(f"the queue is full: {self.waiting} requests are waiting", after)

    def _at_most(self, priority: int) -> int:
        """How many wait at this priority or a lower one."""
        return sum(len(tickets) for level, tickets in self.levels.items() if level <= priority)

    def _less_urgent(self, request: Profile, *, own: bool) -> Ticket | None:
        """The newest one of the lowest priority below this one's that may be shed; with `own`, of its team.

        Not one that has been tried: its client may have a part of its answer.
        """
        most = self.limits.queue
        for level in sorted(self.levels):
            if level >= request.priority:
                break
            for number, ticket in enumerate(reversed(self.levels[level])):
                team = ticket.request.team_id
                mine = team == request.team_id
                if ticket.attempts:
                    continue
                if mine or (not own and self.shares.of(team).waiting > most * self.shares.share(team)):
                    return ticket
                if number >= SHED_AMONG:
                    break
        return None

    def _drain_s(self, requests: float, now: float) -> int:
        """Whole seconds in which so many requests will probably have left the queue, at the rate of late."""
        return max(1, min(600, round(requests / max(self.started.rate(now), 0.1))))

    def _in_time(self, ticket: Ticket, place: Place, now: float) -> None:
        """Raise `TooLate`, the ticket no longer queued, where nine of ten such answers would come too late."""
        request, learner = ticket.request, self.learner
        assert request.deadline is not None  # noqa: S101 (asked for those that have one)
        likely = learner.lengths_of(request).quantile(0.9)
        if request.max_tokens is not None:
            likely = min(likely, float(request.max_tokens))
        reserved = self._kind(self.families[request.key], request).reserved[place.number]
        done = now + place.wait_s(now, reserved) + place.later + place.run_s(learner.prompt_tokens(request), likely)
        if done > request.deadline:
            self._dequeue(ticket, now)
            ticket.state = TicketState.ENDED
            raise TooLate(
                f"the answer would probably take {done - now:.1f} s, its deadline is in {request.deadline - now:.1f} s",
                max(1, round(done - request.deadline)),
            )

    # In what order

    def order(self, request: Profile, arrived_at: float, work: float) -> float:
        """The key of a request within its team and family, in seconds of the clock; the lowest goes first.

        Arrival, later by 10 s for each step below the highest priority and by ten times the work expected; one with a
        deadline not later than it must begin to be in time. A part of a batch job is as if it came later, too.
        """
        order = arrived_at + STEP_S * (10 - request.priority) + SIZE_FACTOR * min(work, LARGEST_S)
        if request.bulk:
            order += 2 * self.limits.patience
        if request.deadline is None:
            return order
        return min(order, max(arrived_at, request.deadline - work))

    def _among_first(self, family: Family, ticket: Ticket, now: float) -> bool:
        if len(family.kinds) > 1:
            return True
        for number, other in enumerate(family.in_order(self.shares, now - 2 * self.limits.patience)):
            if other is ticket:
                return True
            if number >= LOOKAHEAD:
                return False
        return False

    def _spares(self, kind: Kind, ticket: Ticket, now: float) -> bool:
        """Whether a request does not begin now because bulk work runs in as many slots for its model as it may."""
        return self.yields(ticket, now) and self.sparing(kind, now) and self.bulk[kind.key] >= self.bulk_slots(kind)

    def _rank(self, family: Family, aged: float) -> tuple[float, float]:
        """Families by those who are next in them."""
        for ticket in family.in_order(self.shares, aged):
            return standing(self.shares.of(ticket.request.team_id).counter, ticket, aged), ticket.order
        return float("inf"), float("inf")

    def _window(self, family: Family, now: float) -> list[Ticket]:
        """Those of a family who may be placed now, enough of them for one look; who has room made for it comes first.

        What it waits for is kept from all others, so that they could only hold it up.
        """
        tickets = list(window(family.in_order(self.shares, now - 2 * self.limits.patience), now, len(family.kinds)))
        kept = self.kept
        if kept is not None and kept.state is TicketState.WAITING and kept.request.key == family.key:
            tickets = [kept, *(ticket for ticket in tickets if ticket is not kept)]
        return tickets

    def lane_of(self, ticket: Ticket) -> list[Ticket]:
        """The waiting tickets for a ticket's model, in their order."""
        family = self.families.get(ticket.request.key)
        return list(family.in_order(self.shares, float("-inf"), everyone=True)) if family else []

    def queued(self) -> Iterable[Ticket]:
        """All that wait, in no order."""
        for family in self.families.values():
            yield from family.tickets()

    # Who is in whose way

    def _press(self, family: Family, front: list[Ticket]) -> None:
        """Tell the nodes how many requests wait for them; those that were not looked at want what the others want.

        Bulk work is not counted: nobody is to make way for it.
        """
        counts: dict[int, float] = {}
        weights: dict[int, str] = {}
        held = [
            ticket.held_at
            for ticket in front
            if ticket.held_at is not None and ticket.state is TicketState.WAITING and not ticket.request.bulk
        ]
        each = max(1.0, (family.waiting - family.bulk) / len(held)) if held else 0.0
        for place in held:
            node_id = place.node.spec.id
            counts[node_id] = counts.get(node_id, 0.0) + each
            weights[node_id] = place.weights
        for node_id, one in family.pressed.items():
            if weights.get(node_id) != one and node_id in self.nodes:
                self.nodes[node_id].held.pop(one, None)
        for node_id, count in counts.items():
            if node_id in self.nodes:
                self.nodes[node_id].held[weights[node_id]] = count
        family.pressed = weights

    def _reserve(self, family: Family, ticket: Ticket) -> None:
        """Count a held request's work at its place, for all kinds of the family that could be served there."""
        held = ticket.held_at
        if held is None:
            return
        tokens, node_id = ticket.expected or self.learner.expectation(ticket.request), held.node.spec.id
        run = held.run_s(tokens.prompt, tokens.output)
        for kind in family.kinds.values():
            kind.reserve(node_id, run)

    def _keep(self, ticket: Ticket, now: float) -> None:
        """Make room for a ticket that has no patience left: nothing new begins on what is in its way."""
        place = ticket.held_at
        if (
            self.kept is None
            and place is not None
            and place.blockers
            and now - ticket.arrived_at > self._patience(ticket, now)
            and self.shares.due(ticket.request.team_id)
            and not self.yields(ticket, now)
        ):
            self.kept = ticket
            blocked = frozenset(lease.weights for lease in place.blockers)
            place.node.kept = Kept(place.weights, place.wanted, blocked)
            place.node.touch()

    def _still_kept(self) -> bool:
        """Whether room is still to be made for the ticket that it is made for."""
        kept = self.kept
        return (
            kept is not None
            and kept.state is TicketState.WAITING
            and kept.held_at is not None
            and kept.held_at.node.kept is not None
            and not self.shares.of(kept.request.team_id).full
        )

    def _patience(self, ticket: Ticket, now: float) -> float:
        """Seconds after which room is made for a waiting request; fewer for a team that wants little."""
        return self.limits.patience * (SOONER if self.shares.light(ticket.request.team_id, now) else 2.0)

    def _keep_no_more(self) -> None:
        for node in self.nodes.values():
            if node.kept is not None:
                node.kept = None
                node.touch()
                self.stirred(node)
        self.kept = None

    # Who has waited too long

    def refuse_hopeless(self, now: float) -> None:
        """End the wait of those that waited too long, or whose nodes have all been gone for too long."""
        for family in list(self.families.values()):
            for ticket in list(family.tickets()):
                refusal: Refusal | None = None
                deadline = ticket.request.deadline
                if deadline is not None and now >= deadline:
                    refusal = TooLate("the deadline has passed while the request was waiting", 1)
                elif ticket.queue_s + now - ticket.queued_at > self.limits.wait:
                    refusal = WaitExpired(f"no slot came free within {self.limits.wait:.0f} s")
                elif not self.hope(ticket, now):
                    refusal = NoNode("no node that has the model is up")
                if refusal is not None:
                    self._refuse(ticket, refusal, now)

    def hope(self, ticket: Ticket, now: float) -> bool:
        """Whether a node with the model is in use and up, or went so lately that it may be back in a moment."""
        patience = self.limits.node_wait
        return any(
            node.offers(ticket.request)
            and (node.reach is not Reach.DOWN or now - max(node.down_since, ticket.arrived_at) < patience)
            for node in self.nodes.values()
        )

    def _refuse(self, ticket: Ticket, refusal: Refusal, now: float) -> None:
        """End a wait from inside; whoever waits for the ticket is told."""
        ticket.decision = self.explain(ticket, now)
        self._leave(ticket, now)
        ticket.state, ticket.refusal = TicketState.ENDED, refusal
        if ticket.wake:
            ticket.wake()

    # Books

    def _enqueue(self, ticket: Ticket, now: float) -> None:
        request = ticket.request
        ticket.state, ticket.lease, ticket.queued_at = TicketState.WAITING, None, now
        ticket.expected = self.learner.expectation(request)
        ticket.work = self.work_of(request, ticket.expected, now)
        ticket.order = self.order(request, ticket.arrived_at, ticket.work)
        ticket.held_at = None
        if not ticket.sequence:
            # One that was denied its slot, or comes again, keeps its place among equals.
            self.sequence += 1
            ticket.sequence = self.sequence
        family = self.families.get(request.key)
        if family is None:
            if len(self.families) >= FAMILIES:
                self.families = {key: one for key, one in self.families.items() if one.waiting}
            family = self.families[request.key] = Family(request.key)
        family.add(ticket)
        self.levels.setdefault(request.priority, {})[ticket] = None
        if ticket.attempts:
            family.looked_at = float("-inf")
        self.shares.queue(request.team_id)
        self.waiting += 1

    def _dequeue(self, ticket: Ticket, now: float) -> None:
        family = self.families[ticket.request.key]
        family.remove(ticket)
        del self.levels[ticket.request.priority][ticket]
        ticket.held_at = None
        if ticket is self.kept:
            self._keep_no_more()
        if not family.waiting and family.pressed:
            self._press(family, [])
        self.shares.unqueue(ticket.request.team_id)
        self.waiting -= 1
        ticket.queue_s += now - ticket.queued_at

    def _leave(self, ticket: Ticket, now: float) -> None:
        """Out of the queue without a slot: what was reserved for it must not turn others away from its place."""
        family, held = self.families[ticket.request.key], ticket.held_at
        self._dequeue(ticket, now)
        if held is not None:
            family.unreserve()
            family.looked_at = float("-inf")


def window(tickets: Iterable[Ticket], now: float, kinds: int) -> Iterator[Ticket]:
    """Those who may be placed now, enough of each kind to fill one look; `kinds` is how many kinds there are at most.

    Requests that may run on few nodes only must not hide those behind them that may run on others.
    """
    found: Counter[object] = Counter()
    for number, ticket in enumerate(tickets):
        if ticket.not_before > now:
            continue
        if ticket.tried:
            yield ticket
            continue
        request = ticket.request
        # Nor must bulk work, which leaves nodes to people, hide those.
        like = (request.num_ctx, request.strategy, request.labels) if kinds > 1 else None
        kind = (like, request.bulk)
        found[kind] += 1
        if found[kind] <= LOOKAHEAD:
            yield ticket
        if number >= SCANNED or (kinds == 1 and not request.bulk and found[kind] >= LOOKAHEAD):
            return
