"""The synchronous state machine that holds requests, places them on nodes and takes the slots back; it never awaits."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from routing.core.breaker import THRESHOLD
from routing.core.errors import NoNode
from routing.core.families import Family
from routing.core.judging import Limits
from routing.core.learner import OVERHEAD, Metrics
from routing.core.load import advance, progress
from routing.core.pipeline import NOWHERE, Choice, Kind, Sight, cheapest, decision
from routing.core.places import Place
from routing.core.queueing import LOOKAHEAD, Queue
from routing.core.requests import EMBEDDING_ROUTES, Route
from routing.core.retries import RetryBudget
from routing.core.state import Reach, ResidentModel
from routing.core.tickets import Lease, Ticket, TicketState

#: Seconds after which all of the fleet is looked at again for those who wait, though nothing has changed.
LOOK_AGAIN_S = 0.25
#: Places that one `assign` judges at most; what is left is done by the next.
MOST_JUDGED = 1000
#: How many of those working out a place anew counts for, and finding a held request unmoved.
REFRESHED, UNMOVED = 15, 5

#: Answers from which on a speed is known, tokens that an answer must have to be judged by it, and how many times faster
#: than known is not believed.
SURE, SOME_TOKENS, TOO_FAST = 8, 16, 20.0

__all__ = ["Dispatcher", "Limits", "Verdict"]


class Verdict(StrEnum):
    """What an attempt told about its node.

    `failure`: the model failed there; `broken`: the node did (no connection came about, an answer that it is busy);
    `cut`: one of them did, of what had been sent nothing or not all came back;
    `unreachable`: nobody answers there; `neutral`: nothing; `doubtful`: nothing, unless it is so again and again.
    """

    SUCCESS = "success"
    FAILURE = "failure"
    BROKEN = "broken"
    CUT = "cut"
    UNREACHABLE = "unreachable"
    NEUTRAL = "neutral"
    DOUBTFUL = "doubtful"


FAILURES = frozenset({Verdict.FAILURE, Verdict.BROKEN, Verdict.CUT, Verdict.UNREACHABLE})


@dataclass(slots=True)
class Dispatcher(Queue):
    """Nodes, queue and leases of one gateway.

    `assign` returns leases to be confirmed by the slot store: the slot is already counted, `deny` gives it back and the
    ticket its place. `unfinished` tells that there was more to look at than one call may. Times are seconds of the
    injected clock.
    """

    unfinished: bool = False
    budget: RetryBudget = field(default_factory=RetryBudget)
    _judged: int = 0

    # Into the queue, and out of it

    def submit(self, ticket: Ticket, now: float) -> Lease | None:
        """Take a new ticket: placed at once where its best node is free and nobody before it wants that, else queued.

        Returns the lease, to be confirmed as those of `assign`, or None. Raises `QueueFull`; then nothing was queued.
        """
        self.budget.came(now)
        self._room(ticket.request, now)
        if not ticket.request.bulk:
            self.urgent_at = now
        self._enqueue(ticket, now)
        family = self.families[ticket.request.key]
        if family.waiting > LOOKAHEAD or self.shares.of(ticket.request.team_id).full:
            # Those in front have been looked at; only one that comes in among them changes anything.
            self._kind(family, ticket.request)
            family.joined = family.joined or self._among_first(family, ticket, now)
            return None
        kind = self._kind(family, ticket.request)
        if self._spares(kind, ticket, now):
            return None
        sight = self._sight(kind, ticket, now, anew=False)
        choice = self._choose(kind, sight)
        place = self._pick(kind, choice)
        if choice.best is not None and ticket.request.deadline is not None:
            self._in_time(ticket, place or choice.best, now)
        if place is not None:
            return self._lease(kind, sight, choice, place)
        if choice.best is not None:
            self._hold(family, ticket, choice, now)
            if family.waiting == 1:
                self._press(family, [ticket])
        return None

    def assign(self, now: float) -> list[Lease]:
        """Place what can start now; the leases returned hold their slots.

        A family is looked at only where a node that it can use has changed for the better, or after a while. A request
        whose best node cannot start it yet is held, and its work is reserved there, so that those behind it see the
        node as busy and may find another one better.
        """
        leases: list[Lease] = []
        due = [
            one
            for one in self.families.values()
            if one.waiting and (one.changed or one.joined or now - one.looked_at > LOOK_AGAIN_S)
        ]
        self.unfinished = False
        if not due:
            return leases
        self._judged = 0
        if self.kept is not None and not self._still_kept():
            self._keep_no_more()
        aged = now - 2 * self.limits.patience
        if len(due) > 1:
            due.sort(key=lambda family: self._rank(family, aged))
        for family in due:
            if self._judged > MOST_JUDGED:
                self.unfinished = True
                break
            self._look(family, now, leases)
        return leases

    def _look(self, family: Family, now: float, leases: list[Lease]) -> None:
        """Go through those who are next in a family, and place each that can start on its best node now.

        Where nothing can begin on any of the nodes that have changed, nobody's turn can have come.
        """
        whole = now - family.looked_at > LOOK_AGAIN_S
        changed, family.changed = family.changed, set()
        joined, family.joined = family.joined, False
        if whole:
            family.looked_at = now
        judged, family.judged = family.judged, set()
        window = self._window(family, now)
        openings: dict[Kind, list[int]] = {}
        if judged or not whole:
            kinds = {self._kind(family, ticket.request) for ticket in window}
            openings = {kind: kind.openings(changed, now) for kind in kinds}
        if not (whole or joined or any(openings.values())):
            return
        family.unreserve()
        looked: Counter[tuple[Kind, bool]] = Counter()
        stuck: set[tuple[Kind, Route, bool]] = set()
        front: list[Ticket] = []
        for ticket in window:
            if self.shares.of(ticket.request.team_id).full:
                # Since this look began; those of other teams who are behind come into the next.
                family.looked_at, self.unfinished = float("-inf"), True
                continue
            kind, like = self._kind(family, ticket.request), (ticket.request.route, ticket.request.bulk)
            if (kind, *like) in stuck and not ticket.tried:
                continue
            if self._passed_over(kind, ticket, looked, now):
                continue
            front.append(ticket)
            if (not whole or ticket in judged) and self._unmoved(kind, ticket, openings, now):
                self._reserve(family, ticket)
                continue
            if self._judged > MOST_JUDGED:
                # The next call goes on from here.
                family.judged = judged.union(front[:-1])
                family.looked_at, self.unfinished = float("-inf"), True
                break
            choice = self._turn(family, kind, ticket, now, leases)
            if ticket.lease is not None:
                openings = {one: one.openings(changed, now) for one in openings}
            elif choice.best is not None and choice.ready is None and not ticket.tried:
                stuck.add((kind, *like))
        self._press(family, front)

    def _passed_over(self, kind: Kind, ticket: Ticket, looked: Counter[tuple[Kind, bool]], now: float) -> bool:
        """Whether enough requests like this one were looked at, or as much bulk work runs as may."""
        bulk = ticket.request.bulk
        if bulk and self._spares(kind, ticket, now):
            return True
        if not ticket.tried:
            looked[kind, bulk] += 1
        return looked[kind, bulk] > LOOKAHEAD and not ticket.tried

    def _turn(self, family: Family, kind: Kind, ticket: Ticket, now: float, leases: list[Lease]) -> Choice:
        """Judge the fleet for a ticket whose turn it is, and place it or hold it."""
        sight = self._sight(kind, ticket, now)
        choice = self._judge(kind, sight, now)
        place = self._pick(kind, choice)
        if place is not None:
            leases.append(self._lease(kind, sight, choice, place))
        elif choice.best is not None:
            self._hold(family, ticket, choice, now)
        return choice

    def _unmoved(self, kind: Kind, ticket: Ticket, openings: Mapping[Kind, list[int]], now: float) -> bool:
        """Whether a held request would be held again: no changed node could begin it at less than it is held for."""
        held = ticket.held_at
        if held is None or ticket.tried or held.node.reach is Reach.DOWN:
            return False
        open_places = openings.get(kind)
        if not open_places:
            return True
        self._judged += len(open_places) + UNMOVED
        choice = cheapest(kind, self._sight(kind, ticket, now, anew=False), open_places)
        if choice.ready is None:
            return True
        # Its own place is free now, whatever it is expected to cost by now.
        return choice.ready is not held and choice.ready_cost > ticket.bound and kind.strategy.patient

    def _judge(self, kind: Kind, sight: Sight, now: float) -> Choice:
        """The choice for a waiting ticket; one that cannot be judged is refused alone, whatever is wrong with it."""
        try:
            return self._choose(kind, sight)
        except Exception as error:  # noqa: BLE001 (one request must not keep others from being placed)
            self._refuse(sight.ticket, NoNode(f"no node could be chosen: {error!r}"), now)
            return NOWHERE

    def _choose(self, kind: Kind, sight: Sight) -> Choice:
        self._judged += len(kind.places) + REFRESHED * kind.make_ready(sight.now)
        choice = cheapest(kind, sight)
        ticket = sight.ticket
        if choice.best is None and ticket.tried:
            # Those on which it has failed are all there is.
            tried, ticket.tried = ticket.tried, set()
            choice = cheapest(kind, sight)
            ticket.tried = tried
        return choice

    def _pick(self, kind: Kind, choice: Choice) -> Place | None:
        """The best place if it can begin now; where the strategy has no patience, the best of those that can."""
        return choice.ready if choice.best is choice.ready or not kind.strategy.patient else None

    def _hold(self, family: Family, ticket: Ticket, choice: Choice, now: float) -> None:
        """The ticket waits for its best place, and its work counts there; out of patience, it has room made there."""
        ticket.held_at, ticket.bound = choice.best, choice.cost
        self._reserve(family, ticket)
        self._keep(ticket, now)

    # An attempt

    def _lease(self, kind: Kind, sight: Sight, choice: Choice, place: Place) -> Lease:
        ticket, now, learner, node = sight.ticket, sight.now, self.learner, place.node
        request = ticket.request
        told = decision(kind, sight, choice)
        told.node = node.spec.name
        told.score = choice.cost if place is choice.best else choice.ready_cost
        told.reason = "retry" if ticket.attempts else place.condition
        ticket.decision = told
        self._dequeue(ticket, now)
        advance(node, now, learner.pace(node.spec).alpha)
        prompt, output = sight.prompt_at(place), sight.tokens.output
        lease = Lease(
            ticket,
            node,
            place.weights,
            place.speeds,
            started_at=now,
            ends_at=now + place.later + place.run_s(prompt, output),
            cold=not place.warm,
            size=place.size,
            num_ctx=place.wanted,
            decision=told,
            prompt_left=OVERHEAD + prompt * place.prompt_s,
            output_work=output * place.output_s,
            output_s=place.output_s,
            lengths=learner.kept_lengths(request),
            remote=place.remote,
            charged=ticket.work,
            prompt_at=node.clock.prompt,
            output_at=node.clock.output,
        )
        if lease.cold:
            node.cold.add(lease)
            # A runner that begins has nothing in its caches.
            self.prefixes.forget(node.spec.id, lease.weights)
        for victim in place.victims:
            node.resident.pop(victim, None)
        if place.remote:
            node.remote_leases.add(lease)
        else:
            node.leases.add(lease)
            node.by_weights.setdefault(place.weights, set()).add(lease)
            node.used_at[place.weights] = now
            node.count_use(place.weights, now)
        if request.bulk:
            self.bulk[request.key] += 1
        self.shares.begin(request.team_id, ticket.work, now)
        self.started.count(now)
        node.health.begin(lease, now)
        self.sequence += 1
        node.last_sent = self.sequence
        node.touch()
        ticket.state, ticket.lease = TicketState.LEASED, lease
        return lease

    def deny(self, lease: Lease, now: float) -> None:
        """The slot store did not grant the slot: the ticket goes back to its place."""
        self._free(lease, 0.0, now)
        lease.node.health.neutral(lease)
        self._enqueue(lease.ticket, now)

    def grant(self, lease: Lease) -> None:
        """The slot is ours: the attempt begins."""
        ticket = lease.ticket
        ticket.attempts += 1
        lease.node.requests += 1
        if ticket.wake:
            ticket.wake()

    def carry(self, carrier: Ticket, lease: Lease, riders: Iterable[Ticket], now: float) -> None:
        """One call for several requests: the lease becomes `carrier`'s, and riders leave the queue without one.

        The carrier's request is all of them together, so that the team is charged, and the node judged, by the sum.
        """
        learner, node = self.learner, lease.node
        lease.ticket.lease, lease.ticket = None, carrier
        carrier.state, carrier.lease = TicketState.LEASED, lease
        for ticket in riders:
            self._leave(ticket, now)
            self.started.count(now)
            ticket.state = TicketState.LEASED
            ticket.attempts += 1
        advance(node, now, learner.pace(node.spec).alpha)
        work = OVERHEAD + learner.prompt_tokens(carrier.request) * learner.solo(node.spec, lease.speeds)[0]
        lease.ends_at += max(0.0, work - lease.prompt_left)
        lease.prompt_left = max(work, lease.prompt_left)
        node.touch()

    def answered(self, lease: Lease, now: float | None = None) -> None:
        """The first byte came: the model is loaded, and whoever wants it next will find it warm."""
        node, key = lease.node, lease.ticket.request.key
        if lease.cold:
            node.loaded_with[lease.weights] = lease.num_ctx
        if now is not None:
            advance(node, now, self.learner.pace(node.spec).alpha)
            # It has read its prompt.
            progress(lease, node.clock)
            lease.prompt_left = 0.0
        node.loaded(lease)
        closed = node.health.answered(lease)
        fresh = not lease.remote and lease.weights not in node.resident and (model := node.models.get(key)) is not None
        if fresh:
            assert model is not None  # noqa: S101 (as just seen)
            size = int(lease.size)
            node.resident[lease.weights] = ResidentModel(key, model.name, model.digest, size, size)
        if fresh or closed or lease.cold:
            node.touch()
            self.stirred(node)

    def release(self, lease: Lease, verdict: Verdict, now: float, metrics: Metrics | None = None) -> None:
        """An attempt is over: its slot is free, and what it told is learned. Releasing twice does nothing."""
        if lease.released:
            return
        node = lease.node
        used = self._used(lease, verdict, now, metrics)
        self._free(lease, used, now)
        if not lease.remote:
            node.used_at[lease.weights] = now
        believed = verdict in {Verdict.SUCCESS, Verdict.DOUBTFUL}
        if believed and metrics is not None and implausible(lease, metrics, now):
            verdict, metrics = Verdict.FAILURE, None
        opened = False
        if verdict is Verdict.SUCCESS:
            node.health.success(lease, lease.started_at)
            if metrics is not None:
                self._learn(lease, metrics, now)
            if not lease.remote:
                slots = node.slots_of(lease.ticket.request.key)
                self.prefixes.remember(node.spec.id, lease.weights, slots, lease.ticket.request)
        elif verdict is Verdict.NEUTRAL:
            node.health.neutral(lease)
        elif verdict is Verdict.DOUBTFUL:
            opened = node.health.doubtful(lease, now)
            if opened:
                node.count_failure(now)
        else:
            node.count_failure(now)
            weight = THRESHOLD if verdict is Verdict.UNREACHABLE else 1
            whole, sent = verdict is not Verdict.FAILURE, verdict is Verdict.CUT
            opened = node.health.failure(lease, now, whole=whole, sent=sent, weight=weight)
        if opened:
            node.touch()
            self.stirred(None)

    def _used(self, lease: Lease, verdict: Verdict, now: float, metrics: Metrics | None) -> float:
        """What the attempt cost its team, in solo-seconds: by its tokens, else what ran; nothing if the node failed."""
        if verdict in FAILURES:
            return 0.0
        if metrics is not None:
            prompt_s, output_s = self.reference(lease.ticket.request, now)
            return OVERHEAD + metrics.prompt_tokens * prompt_s + metrics.output_tokens * output_s
        begun, ends = lease.started_at, max(lease.ends_at, now)
        return lease.charged * min(1.0, (now - begun) / (ends - begun)) if ends > begun else 0.0

    def _learn(self, lease: Lease, metrics: Metrics, now: float) -> None:
        node, request = lease.node, lease.ticket.request
        share, mean = (1.0, 1.0), 1.0
        if not lease.remote:
            begun = max(lease.started_at, now - metrics.prompt_s - metrics.output_s)
            share = node.clock.share(begun, now)
            alpha = self.learner.pace(node.spec).alpha
            mean = share[1] ** (-1.0 / (1.0 - alpha)) if alpha < 1.0 else 1.0
        self.learner.speeds.setdefault((node.spec.id, lease.weights), lease.speeds)
        self.learner.learn(node.spec, lease.speeds, request, metrics, now, share, mean)
        if lease.cold and metrics.load_s > 0:
            lease.speeds.load.take(metrics.load_s)

    def _free(self, lease: Lease, used: float, now: float) -> None:
        node = lease.node
        advance(node, now, self.learner.pace(node.spec).alpha)
        lease.released = True
        node.leases.discard(lease)
        node.cold.discard(lease)
        node.remote_leases.discard(lease)
        users = node.by_weights.get(lease.weights)
        if users is not None:
            users.discard(lease)
            if not users:
                del node.by_weights[lease.weights]
        if lease.ticket.lease is lease:
            lease.ticket.lease = None
        if lease.ticket.request.bulk:
            key = lease.ticket.request.key
            self.bulk[key] -= 1
            if not self.bulk[key]:
                del self.bulk[key]
        team = lease.ticket.request.team_id
        full = self.shares.of(team).full
        self.shares.end(team, lease.charged, used)
        node.touch()
        self.stirred(None if full else node)

    # After an attempt

    def alternatives(self, ticket: Ticket) -> bool:
        """Whether a node is left on which the ticket has not failed and which may serve it."""
        return any(
            node.offers(ticket.request) and node.spec.id not in ticket.tried and node.reach is not Reach.DOWN
            for node in self.nodes.values()
        )

    def may_try_again(self, ticket: Ticket, now: float) -> bool:
        """Whether the ticket may have a further attempt: it has not had too many, and the budget has one left."""
        return ticket.attempts < self.limits.attempts and self.budget.spend(now)

    def retry(self, ticket: Ticket, now: float, pause: float = 0.0) -> None:
        """Queue a ticket again after a failed attempt; it keeps its first arrival, so it goes before later ones."""
        ticket.not_before = now + pause
        self._enqueue(ticket, now)

    def end(self, ticket: Ticket, now: float) -> None:
        """The ticket's one end.

        Out of the queue if it waits, its slot back if it holds one. Ending twice does nothing.
        """
        if ticket.state is TicketState.WAITING:
            ticket.decision = self.explain(ticket, now)
            self._leave(ticket, now)
        if ticket.lease is not None:
            self.release(ticket.lease, Verdict.NEUTRAL, now)
        ticket.state = TicketState.ENDED


def implausible(lease: Lease, metrics: Metrics, now: float) -> bool:
    """Whether an answer came so much faster than the model can work that the node has not worked.

    Fast answers of a node that fails would draw the next requests to it. Prompts tell nothing, they may be cached.
    A node that tells of as much time as is known draws nobody, even if its time passes faster, as a simulated one's.
    """
    request, known = lease.ticket.request, lease.speeds.output
    if request.route in EMBEDDING_ROUTES or request.loads_only or not metrics.counted or known.seen < SURE:
        return False
    took = max(now - lease.started_at, metrics.total_s)
    if metrics.output_tokens == 0:
        return request.max_tokens != 0 and took < known.value
    return metrics.output_tokens >= SOME_TOKENS and took * TOO_FAST < metrics.output_tokens * known.value
