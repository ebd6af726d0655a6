"""The synchronous state machine that holds requests, places them on nodes and takes the slots back; it never awaits."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from routing.core.affinity import NOTHING, Prefixes
from routing.core.decisions import Decision
from routing.core.errors import NoNode, QueueFull, Refusal, TooLate, WaitExpired
from routing.core.families import Family, standing
from routing.core.fleet import Fleet
from routing.core.learned import Learned
from routing.core.learner import OVERHEAD, Learner, Metrics
from routing.core.load import advance
from routing.core.pipeline import KEPT, LIKELY, NOWHERE, Choice, Kind, Sight, cheapest, decision, rejections
from routing.core.places import Place
from routing.core.requests import Profile, Route
from routing.core.shares import Flow, Shares, Team
from routing.core.snapshot import FleetSnapshot
from routing.core.state import Kept, NodeState, Reach, ResidentModel
from routing.core.strategies import BUILT_IN, FASTEST, Strategy, strategies
from routing.core.tickets import Lease, Ticket, TicketState

#: Requests of one family that one look considers; those behind them could at best start after these.
LOOKAHEAD = 16
#: Seconds after which all of the fleet is looked at again for those who wait, though nothing has changed.
LOOK_AGAIN_S = 0.25
#: Places that one `assign` judges at most, and what finding a held request unmoved counts for; what is left is done by
#: the next.
MOST_JUDGED, UNMOVED = 1000, 10
#: Seconds of waiting that one step of priority is worth, and seconds of waiting per second of expected work.
STEP_S, SIZE_FACTOR, LARGEST_S = 10.0, 10.0, 30.0
#: The part of the patience after which room is made for a team that wants little of a busy fleet.
SOONER = 0.25
#: Seconds for which the fastest speeds for a model are used again.
REFERENCE_S = 5.0


class Verdict(StrEnum):
    """What an attempt told about its node."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNREACHABLE = "unreachable"
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the queue; times in seconds.

    `patience`: a request that has waited twice as long keeps others from what is in its way, on one node at a time (one
    of a team that wants little of a busy fleet sooner), and batch work that has waited twice as long counts as
    interactive. `node_wait`: how long a request waits for a node that has just gone to come back.
    """

    queue: int = 2000
    wait: float = 600.0
    patience: float = 120.0
    node_wait: float = 10.0
    attempts: int = 3


@dataclass(slots=True)
class Dispatcher(Fleet):
    """Nodes, queue and leases of one gateway.

    `assign` returns leases to be confirmed by the slot store: the slot is already counted, `deny` gives it back and the
    ticket its place. `unfinished` tells that there was more to look at than one call may. Times are seconds of the
    injected clock.
    """

    limits: Limits = field(default_factory=Limits)
    learner: Learner = field(default_factory=Learner)
    shares: Shares = field(default_factory=Shares)
    families: dict[str, Family] = field(default_factory=dict)
    strategies: dict[str, Strategy] = field(default_factory=lambda: dict(BUILT_IN))
    strategy: str = FASTEST.name
    waiting: int = 0
    sequence: int = 0
    unfinished: bool = False
    kept: Ticket | None = None
    prefixes: Prefixes = field(default_factory=Prefixes)
    started: Flow = field(default_factory=Flow)
    _references: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    _judged: int = 0

    def apply(self, snapshot: FleetSnapshot) -> None:
        """Take the operator's nodes, teams and strategies."""
        self.shares.apply(snapshot.teams)
        self.strategies, self.strategy = strategies(snapshot.strategies), snapshot.strategy
        self._references.clear()
        self.families = {key: family for key, family in self.families.items() if family.waiting}
        before = self.nodes
        super(Dispatcher, self).apply(snapshot)
        for node_id, node in before.items():
            if self.nodes.get(node_id) is not node:
                self.prefixes.forget(node_id)

    def forget(self, node_id: int) -> None:
        super(Dispatcher, self).forget(node_id)
        self.prefixes.forget(node_id)

    def stirred(self, node: NodeState | None) -> None:
        for family in self.families.values():
            if node is None:
                family.looked_at = float("-inf")
            elif family.key in node.models or node.cloud:
                family.changed.add(node.spec.id)

    # A ticket's life

    def submit(self, ticket: Ticket, now: float) -> Lease | None:
        """Take a new ticket: placed at once where its best node is free and nobody before it wants that, else queued.

        Returns the lease, to be confirmed as those of `assign`, or None. Raises `QueueFull`; then nothing was queued.
        """
        self._room(ticket.request.team_id, now)
        self._enqueue(ticket, now)
        family = self.families[ticket.request.key]
        if family.waiting > LOOKAHEAD or self.shares.of(ticket.request.team_id).full:
            # Those in front have been looked at; only one that comes in among them changes anything.
            if self._among_first(family, ticket, now):
                family.looked_at = float("-inf")
            return None
        kind = self._kind(family, ticket.request)
        sight = self._sight(kind, ticket, now)
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

    def _room(self, team: Team, now: float) -> None:
        """Raise `QueueFull` where the queue is full, or is filling up and the team holds more than its share of it."""
        most = self.limits.queue
        if self.waiting >= most:
            raise QueueFull(f"the queue is full: {self.waiting} requests are waiting", self._drain_s(self.waiting, now))
        if 2 * self.waiting < most:
            return
        own, share = self.shares.of(team).waiting, self.shares.share(team)
        if own >= most * share:
            raise QueueFull(
                f"{own} requests of this team are waiting, as many as its share of the queue; "
                f"the last of them will start in about {self._drain_s(own / share, now)} s",
                self._drain_s(own / share, now),
            )

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
        done = now + place.wait_s(now) + place.later + place.run_s(learner.prompt_tokens(request), likely)
        if done > request.deadline:
            self._dequeue(ticket, now)
            ticket.state = TicketState.ENDED
            raise TooLate(
                f"the answer would probably take {done - now:.1f} s, its deadline is in {request.deadline - now:.1f} s",
                max(1, round(done - request.deadline)),
            )

    def _among_first(self, family: Family, ticket: Ticket, now: float) -> bool:
        for number, other in enumerate(family.in_order(self.shares, now - 2 * self.limits.patience)):
            if other is ticket:
                return True
            if number >= LOOKAHEAD:
                return False
        return False

    def order(self, request: Profile, arrived_at: float, work: float) -> float:
        """The key of a request within its team and family, in seconds of the clock; the lowest goes first.

        Arrival, later by 10 s for each step below the highest priority and by ten times the work expected; one with a
        deadline not later than it must begin to be in time.
        """
        order = arrived_at + STEP_S * (10 - request.priority) + SIZE_FACTOR * min(work, LARGEST_S)
        if request.deadline is None:
            return order
        return min(order, max(arrived_at, request.deadline - work))

    def expected_work(self, request: Profile, now: float) -> float:
        """Seconds alone on the fastest node in use that has the model: what the request's team is charged."""
        prompt_s, output_s = self.reference(request, now)
        return (
            OVERHEAD + self.learner.prompt_tokens(request) * prompt_s + self.learner.answer_tokens(request) * output_s
        )

    def reference(self, request: Profile, now: float) -> tuple[float, float]:
        """Seconds per prompt token and per answer token on the node that is fastest at this model."""
        found = self._references.get(request.key)
        if found is not None and now - found[0] < REFERENCE_S:
            return found[1], found[2]
        best = None
        for node in self.nodes.values():
            if node.offers(request):
                model = node.models.get(request.key)
                weights = f"remote {request.key}" if request.remote or model is None else model.digest or model.key
                speeds = self.learner.of(node.spec, weights, model)
                if best is None or speeds.output.value < best.output.value:
                    best = speeds
        if best is None:
            return 0.0, 0.0
        self._references[request.key] = (now, best.prompt.value, best.output.value)
        return best.prompt.value, best.output.value

    def assign(self, now: float) -> list[Lease]:
        """Place what can start now; the leases returned hold their slots.

        A family is looked at only where a node that it can use has changed for the better, or after a while. A request
        whose best node cannot start it yet is held, and its work is reserved there, so that those behind it see the
        node as busy and may find another one better.
        """
        leases: list[Lease] = []
        due = [
            one for one in self.families.values() if one.waiting and (one.changed or now - one.looked_at > LOOK_AGAIN_S)
        ]
        self.unfinished = False
        if not due:
            return leases
        self._judged = 0
        if self.kept is not None and (
            self.kept.state is not TicketState.WAITING
            or self.kept.held_at is None
            or self.kept.held_at.node.kept is None
            or self.shares.of(self.kept.request.team_id).full
        ):
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

    def _rank(self, family: Family, aged: float) -> tuple[float, float]:
        """Families by those who are next in them."""
        for ticket in family.in_order(self.shares, aged):
            return standing(self.shares.of(ticket.request.team_id).counter, ticket, aged), ticket.order
        return float("inf"), float("inf")

    def _look(self, family: Family, now: float, leases: list[Lease]) -> None:
        """Go through those who are next in a family, and place each that can start on its best node now."""
        whole = now - family.looked_at > LOOK_AGAIN_S
        changed, family.changed = family.changed, set()
        if whole:
            family.looked_at = now
        family.unreserve()
        judged, family.judged = family.judged, set()
        looked = 0
        stuck: set[tuple[Kind, Route]] = set()
        front: list[Ticket] = []
        for ticket in self._window(family, now):
            if looked >= LOOKAHEAD:
                break
            if self.shares.of(ticket.request.team_id).full:
                # Since this look began; those of other teams who are behind come into the next.
                family.looked_at, self.unfinished = float("-inf"), True
                continue
            kind, route = self._kind(family, ticket.request), ticket.request.route
            if (kind, route) in stuck and not ticket.tried:
                continue
            looked += not ticket.tried
            front.append(ticket)
            if (not whole or ticket in judged) and self._unmoved(kind, ticket, changed, now):
                self._reserve(family, ticket)
                continue
            if self._judged > MOST_JUDGED:
                # The next call goes on from here.
                family.judged = judged.union(front[:-1])
                family.looked_at, self.unfinished = float("-inf"), True
                break
            sight = self._sight(kind, ticket, now)
            choice = self._judge(kind, sight, now)
            place = self._pick(kind, choice)
            if place is not None:
                leases.append(self._lease(kind, sight, choice, place))
            elif choice.best is not None:
                self._hold(family, ticket, choice, now)
                if choice.ready is None and not ticket.tried:
                    stuck.add((kind, route))
        self._press(family, front)

    def _window(self, family: Family, now: float) -> list[Ticket]:
        """Those of a family who may be placed now, enough of them for one look; who has room made for it comes first.

        What it waits for is kept from all others, so that they could only hold it up.
        """
        tickets = list(window(family.in_order(self.shares, now - 2 * self.limits.patience), now))
        kept = self.kept
        if kept is not None and kept.state is TicketState.WAITING and kept.request.key == family.key:
            tickets = [kept, *(ticket for ticket in tickets if ticket is not kept)]
        return tickets

    def _unmoved(self, kind: Kind, ticket: Ticket, changed: set[int], now: float) -> bool:
        """Whether a held request would be held again: no changed node could begin it at less than it is held for."""
        held = ticket.held_at
        if held is None or ticket.tried or held.node.reach is Reach.DOWN:
            return False
        places = [place for node_id in changed if (place := kind.by_node.get(node_id)) is not None]
        if not places:
            return True
        self._judged += len(places) + UNMOVED
        choice = cheapest(kind, self._sight(kind, ticket, now), self.learner, places)
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

    def _kind(self, family: Family, request: Profile) -> Kind:
        kind = family.kind(request, self.strategies.get(request.strategy or self.strategy, FASTEST))
        if kind.generation != self.generation:
            kind.build(self.nodes.values(), self.generation, request)
        return kind

    def _sight(self, kind: Kind, ticket: Ticket, now: float) -> Sight:
        request, learner, shares = ticket.request, self.learner, self.shares
        prompt, saved = learner.prompt_tokens(request), NOTHING
        if request.prefixes and kind.places:
            saved = self.prefixes.saved(kind.places[0].weights, request, prompt)
        lengths = learner.lengths_of(request)
        until = ticket.arrived_at + self.limits.wait
        if request.deadline is not None:
            until = min(until, request.deadline)
        return Sight(
            ticket,
            now,
            prompt,
            learner.answer_tokens(request),
            lengths.quantile(LIKELY),
            shares.before(request.team_id),
            shares.modest(request.team_id, now),
            until,
            saved,
            kind.drifted and (bool(ticket.tried) or not current(kind, request)),
        )

    def _choose(self, kind: Kind, sight: Sight) -> Choice:
        self._judged += len(kind.places)
        choice = cheapest(kind, sight, self.learner)
        ticket = sight.ticket
        if choice.best is None and ticket.tried:
            # Those on which it has failed are all there is.
            tried, ticket.tried = ticket.tried, set()
            choice = cheapest(kind, sight, self.learner)
            ticket.tried = tried
        return choice

    def _pick(self, kind: Kind, choice: Choice) -> Place | None:
        """The best place if it can begin now; where the strategy has no patience, the best of those that can."""
        return choice.ready if choice.best is choice.ready or not kind.strategy.patient else None

    def _hold(self, family: Family, ticket: Ticket, choice: Choice, now: float) -> None:
        """The ticket waits for its best place, and its work counts there; out of patience, it has room made there."""
        ticket.held_at, ticket.bound = choice.best, choice.cost
        self._reserve(family, ticket)
        place = choice.best
        if (
            self.kept is None
            and place is not None
            and place.blockers
            and now - ticket.arrived_at > self._patience(ticket, now)
            and self.shares.due(ticket.request.team_id)
        ):
            self.kept = ticket
            blocked = frozenset(lease.weights for lease in place.blockers)
            place.node.kept = Kept(place.weights, place.wanted, blocked)
            place.node.changes += 1

    def _press(self, family: Family, front: list[Ticket]) -> None:
        """Tell the nodes how many requests wait for them; those that were not looked at want what the others want."""
        counts: dict[int, float] = {}
        weights: dict[int, str] = {}
        held = [
            ticket.held_at for ticket in front if ticket.held_at is not None and ticket.state is TicketState.WAITING
        ]
        each = max(1.0, family.waiting / len(held)) if held else 0.0
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

    def _patience(self, ticket: Ticket, now: float) -> float:
        """Seconds after which room is made for a waiting request; fewer for a team that wants little."""
        return self.limits.patience * (SOONER if self.shares.light(ticket.request.team_id, now) else 2.0)

    def _keep_no_more(self) -> None:
        for node in self.nodes.values():
            if node.kept is not None:
                node.kept = None
                node.changes += 1
                self.stirred(node)
        self.kept = None

    def _reserve(self, family: Family, ticket: Ticket) -> None:
        """Count a held request's work at its place, for all kinds of the family that could be served there."""
        held = ticket.held_at
        if held is None:
            return
        request, learner = ticket.request, self.learner
        run = held.run_s(learner.prompt_tokens(request), learner.answer_tokens(request))
        node_id = held.node.spec.id
        for kind in family.kinds.values():
            place = kind.by_node.get(node_id)
            if place is not None:
                place.reserved += run

    def _refuse(self, ticket: Ticket, refusal: Refusal, now: float) -> None:
        """End a wait from inside; whoever waits for the ticket is told."""
        ticket.decision = self.explain(ticket, now)
        self._leave(ticket, now)
        ticket.state, ticket.refusal = TicketState.ENDED, refusal
        if ticket.wake:
            ticket.wake()

    def explain(self, ticket: Ticket, now: float, *, every: bool = False) -> Decision | None:
        """The decision that `assign` would make for a ticket now; changes nothing. None if it cannot be made.

        With `every` node that could serve it, not only the best few.
        """
        family = self.families.get(ticket.request.key) or Family(ticket.request.key)
        try:
            kind = self._kind(family, ticket.request)
            sight = self._sight(kind, ticket, now)
            choice = cheapest(kind, sight, self.learner)
            told = decision(kind, sight, choice, len(choice.scored) if every else KEPT)
        except Exception:  # noqa: BLE001 (a request that cannot be judged is still ended)
            return None
        return told

    def judge(self, ticket: Ticket, now: float) -> Choice:
        """Judge every node for a ticket, as `assign` does; changes nothing."""
        kind = self._kind(self.families.get(ticket.request.key) or Family(ticket.request.key), ticket.request)
        return cheapest(kind, self._sight(kind, ticket, now), self.learner)

    def rejected_nodes(self, ticket: Ticket, now: float) -> dict[str, str]:
        """The nodes that cannot serve a request now, by name, each with the filter that rejects it."""
        request = ticket.request
        kind = self._kind(self.families.get(request.key) or Family(request.key), request)
        sight = self._sight(kind, ticket, now)
        cheapest(kind, sight, self.learner)
        return rejections(kind, sight, self.nodes.values())

    def learn(self, learned: Learned, nodes: Collection[int] | None = None) -> None:
        """Read what was kept from before; with `nodes`, forget those first and read what is kept of them."""
        if nodes is not None:
            self.learner.forget(nodes)
        self.learner.take(learned, nodes)
        for node in self.nodes.values():
            node.changes += 1
        self._references.clear()
        self.stirred(None)

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
        prompt = sight.prompt - (sight.saved.get(node.spec.id, 0.0) if place.warm else 0.0)
        output = sight.output
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
        )
        if lease.cold:
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
        self.shares.begin(request.team_id, ticket.work, now)
        self.started.count(now)
        node.breaker.begin(lease, now)
        node.changes += 1
        self.sequence += 1
        node.last_sent = self.sequence
        ticket.state, ticket.lease = TicketState.LEASED, lease
        return lease

    def deny(self, lease: Lease, now: float) -> None:
        """The slot store did not grant the slot: the ticket goes back to its place."""
        self._free(lease, 0.0, now)
        lease.node.breaker.neutral(lease)
        self._enqueue(lease.ticket, now)

    def grant(self, lease: Lease) -> None:
        """The slot is ours: the attempt begins."""
        ticket = lease.ticket
        ticket.attempts += 1
        lease.node.requests += 1
        if ticket.wake:
            ticket.wake()

    def answered(self, lease: Lease, now: float | None = None) -> None:
        """The first byte came: the model is loaded, and whoever wants it next will find it warm."""
        node, key = lease.node, lease.ticket.request.key
        if lease.cold:
            node.loaded_with[lease.weights] = lease.num_ctx
        if now is not None:
            advance(node, now, self.learner.pace(node.spec).alpha)
            # It is loaded and has read its prompt.
            lease.prompt_left = 0.0
        lease.answered = True
        closed = node.breaker.success(lease)
        fresh = not lease.remote and lease.weights not in node.resident and (model := node.models.get(key)) is not None
        if fresh:
            assert model is not None  # noqa: S101 (as just seen)
            size = int(lease.size)
            node.resident[lease.weights] = ResidentModel(key, model.name, model.digest, size, size)
        if fresh or closed or lease.cold:
            node.changes += 1
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
        if verdict is Verdict.SUCCESS:
            node.breaker.success(lease)
            if metrics is not None:
                self._learn(lease, metrics, now)
            if not lease.remote:
                slots = node.slots_of(lease.ticket.request.key)
                self.prefixes.remember(node.spec.id, lease.weights, slots, lease.ticket.request)
        elif verdict is Verdict.NEUTRAL:
            node.breaker.neutral(lease)
        else:
            node.count_failure(now)
            opened = node.breaker.failure(lease, now, weight=3 if verdict is Verdict.UNREACHABLE else 1)
            if opened:
                node.changes += 1
                self.stirred(None)

    def _used(self, lease: Lease, verdict: Verdict, now: float, metrics: Metrics | None) -> float:
        """What the attempt cost its team, in solo-seconds: by its tokens, else what ran; nothing if the node failed."""
        if verdict in {Verdict.FAILURE, Verdict.UNREACHABLE}:
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
        self.learner.learn(node.spec, lease.speeds, request, metrics, now, share, mean)
        if lease.cold and metrics.load_s > 0:
            lease.speeds.load.take(metrics.load_s)

    def alternatives(self, ticket: Ticket) -> bool:
        """Whether a node is left on which the ticket has not failed and which may serve it."""
        return any(
            node.offers(ticket.request) and node.spec.id not in ticket.tried and node.reach is not Reach.DOWN
            for node in self.nodes.values()
        )

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

    def lane_of(self, ticket: Ticket) -> list[Ticket]:
        """The waiting tickets for a ticket's model, in their order."""
        family = self.families.get(ticket.request.key)
        return list(family.in_order(self.shares, float("-inf"), everyone=True)) if family else []

    def queued(self) -> Iterable[Ticket]:
        """All that wait, in no order."""
        for family in self.families.values():
            yield from family.tickets()

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

    # Books

    def _enqueue(self, ticket: Ticket, now: float) -> None:
        request = ticket.request
        ticket.state, ticket.lease, ticket.queued_at = TicketState.WAITING, None, now
        ticket.work = self.expected_work(request, now)
        ticket.order = self.order(request, ticket.arrived_at, ticket.work)
        ticket.held_at = None
        self.sequence += 1
        ticket.sequence = self.sequence
        family = self.families.get(request.key)
        if family is None:
            family = self.families[request.key] = Family(request.key)
        family.add(ticket)
        if ticket.attempts:
            family.looked_at = float("-inf")
        self.shares.queue(request.team_id)
        self.waiting += 1

    def _dequeue(self, ticket: Ticket, now: float) -> None:
        family = self.families[ticket.request.key]
        family.remove(ticket)
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

    def _free(self, lease: Lease, used: float, now: float) -> None:
        node = lease.node
        advance(node, now, self.learner.pace(node.spec).alpha)
        lease.released = True
        node.leases.discard(lease)
        node.remote_leases.discard(lease)
        users = node.by_weights.get(lease.weights)
        if users is not None:
            users.discard(lease)
            if not users:
                del node.by_weights[lease.weights]
        if lease.ticket.lease is lease:
            lease.ticket.lease = None
        team = lease.ticket.request.team_id
        full = self.shares.of(team).full
        self.shares.end(team, lease.charged, used)
        node.changes += 1
        self.stirred(None if full else node)


def window(tickets: Iterable[Ticket], now: float) -> Iterable[Ticket]:
    """Those who may be placed now, enough of them to fill one look."""
    found = 0
    for ticket in tickets:
        if ticket.not_before <= now:
            yield ticket
            found += not ticket.tried
            if found >= LOOKAHEAD:
                return


def current(kind: Kind, request: Profile) -> bool:
    """Whether some node has the weights that count, and the route."""
    return any(not place.outdated and request.route not in place.node.missing for place in kind.places)
