"""The synchronous state machine that holds requests, places them on nodes and takes the slots back; it never awaits."""

import math
from bisect import insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from routing.core.decisions import Decision
from routing.core.drift import Rule, preferred
from routing.core.errors import NoNode, QueueFull, Refusal, WaitExpired
from routing.core.learner import Learner, Metrics, slowdown
from routing.core.pipeline import FASTEST, NOTHING_RESERVED, Ranked, Strategy, decide
from routing.core.requests import Profile
from routing.core.scorers import Candidate, Reserved
from routing.core.snapshot import FleetSnapshot, InstalledModel
from routing.core.state import NodeState, Reach, ResidentModel
from routing.core.tickets import Lease, Ticket, TicketState

#: Requests of one lane that one pass looks at; those behind them could at best start after these.
LOOKAHEAD = 16
#: Seconds of waiting that one step of priority is worth, and seconds of waiting per second of expected work.
STEP_S, SIZE_FACTOR, LARGEST_S = 10.0, 10.0, 30.0

#: The route that a server has if it knows of accounts.
ACCOUNT = "/api/me"

LaneKey = tuple[str, int | None]
#: (batch class last, order, sequence, ticket): sorts as the queue does, and never compares tickets.
Entry = tuple[bool, float, int, Ticket]


class Verdict(StrEnum):
    """What an attempt told about its node."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNREACHABLE = "unreachable"
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the queue; times in seconds.

    `patience`: a request that has waited twice this long takes any free slot instead of the best. `node_wait`: how long
    a request waits for a node that has just gone to come back.
    """

    queue: int = 2000
    wait: float = 600.0
    patience: float = 120.0
    node_wait: float = 10.0
    attempts: int = 3


@dataclass(slots=True)
class Dispatcher:
    """Nodes, lanes and leases of one gateway.

    A lane holds the waiting requests for one (model, num_ctx). `assign` returns leases to be confirmed by the slot
    store: the slot is already counted, `deny` gives it back and the ticket its place. `drifted` holds, for names under
    which the nodes have different weights, the digest that counts. Times are seconds of the injected clock.
    """

    limits: Limits = field(default_factory=Limits)
    strategy: Strategy = FASTEST
    learner: Learner = field(default_factory=Learner)
    nodes: dict[int, NodeState] = field(default_factory=dict)
    lanes: dict[LaneKey, list[Entry]] = field(default_factory=dict)
    waiting: int = 0
    sequence: int = 0
    drift: Rule = "newest"
    drifted: dict[str, str] = field(default_factory=dict)

    # What the outside tells

    def apply(self, snapshot: FleetSnapshot) -> None:
        """Take the operator's nodes; what is known of a node that stays is kept, unless it is another server now."""
        states: dict[int, NodeState] = {}
        lost: list[Callable[[], None]] = []
        for spec in snapshot.nodes:
            state = self.nodes.get(spec.id)
            if state is None or state.spec.url != spec.url:
                if state is not None:
                    lost += state.calls
                state = NodeState(spec, version=spec.version)
            state.spec = spec
            if state.inventory_at < 0:
                state.models = {model.key: model for model in spec.models}
            states[spec.id] = state
        for node_id, state in self.nodes.items():
            if node_id not in states and (state.in_flight or state.calls):
                # Gone from the configuration: nothing new, but what runs there is watched until it has ended.
                state.spec, state.gone = replace(state.spec, enabled=False), True
                states[node_id] = state
        self.nodes = states
        self._compare()
        for call in lost:
            call()

    def forget(self, node_id: int) -> None:
        """Drop a node that is gone from the configuration, now that nothing runs there any more."""
        self.nodes.pop(node_id, None)

    def _compare(self) -> None:
        """See which nodes differ from what counts, and which one stands for the account at ollama.com."""
        present = [node for node in self.nodes.values() if node.used and node.reach is not Reach.DOWN]
        self.drifted = preferred((model for node in present for model in node.models.values()), self.drift)
        signed_in = any(node.spec.enabled and node.spec.cloud for node in self.nodes.values())
        standing = [node for node in present if node.spec.cloud or not signed_in]
        cloud = min(standing, key=lambda node: (ACCOUNT in node.missing, node.spec.id), default=None)
        for node in self.nodes.values():
            node.cloud = node is cloud
            node.outdated = frozenset(
                key for key, digest in self.drifted.items() if key in node.models and node.models[key].digest != digest
            )

    def observe_inventory(self, node_id: int, models: Iterable[InstalledModel], at: float) -> bool:
        """A node's list of installed models, read at `at`; true if it changed."""
        state = self.nodes.get(node_id)
        if state is None:
            return False
        described = {(model.key, model.digest): model for model in state.spec.models}
        # Nodes before v0.30 list no capabilities; the sweep has asked for them model by model.
        known = (
            replace(model, capabilities=told.capabilities)
            if not model.capabilities and (told := described.get((model.key, model.digest)))
            else model
            for model in models
        )
        changed = state.set_inventory(known, at)
        if changed:
            self._compare()
        return changed

    def observe_residents(self, node_id: int, residents: Iterable[ResidentModel]) -> None:
        state = self.nodes.get(node_id)
        if state:
            state.set_residents(residents)

    def observe_reach(self, node_id: int, error: str | None, now: float, *, certain: bool = False) -> Reach | None:
        """A look at a node succeeded (`error` None) or failed; returns the new reach if it changed to or from down.

        One failed look makes a node suspect, the second one down; a `certain` failure (a refused connection) at once.
        """
        state = self.nodes.get(node_id)
        if state is None:
            return None
        before = state.reach
        if error is None:
            state.looks_failed, state.error, state.reach = 0, "", Reach.UP
            state.doubt(math.inf if before is Reach.DOWN else now)
            state.breaker.recovered(now)
        else:
            state.looks_failed += 1
            state.error = error
            state.reach = Reach.DOWN if certain or state.looks_failed > 1 or before is Reach.DOWN else Reach.SUSPECT
            if state.reach is Reach.DOWN and before is not Reach.DOWN:
                state.down_since = now
                state.resident.clear()
        if (before is Reach.DOWN) == (state.reach is Reach.DOWN):
            return None
        self._compare()
        return state.reach

    # A ticket's life

    def offered(self, request: Profile) -> bool:
        """Whether any node in use has the model and the route, reachable or not."""
        return any(node.offers(request) for node in self.nodes.values())

    def held(self, request: Profile) -> bool:
        """Whether any enabled node has them, if only one that is being emptied."""
        return any(node.holds(request) for node in self.nodes.values())

    def submit(self, ticket: Ticket, now: float) -> Lease | None:
        """Take a new ticket: placed at once where nobody waits and its best node is free, else queued.

        Returns the lease, to be confirmed as those of `assign`, or None. Raises `QueueFull`; then nothing was queued.
        """
        ticket.queued_at = now
        if not self.waiting:
            decision, ranked = self._decide(ticket, now, NOTHING_RESERVED)
            ticket.decision = decision
            if ranked and ranked[0][2].starts_now:
                return self._lease(ticket, ranked[0], now)
        elif self.waiting >= self.limits.queue:
            raise QueueFull(f"the queue is full: {self.waiting} requests are waiting")
        self._enqueue(ticket, now)
        return None

    def order(self, request: Profile, arrived_at: float) -> float:
        """The place in the lane.

        Arrival, later by 10 s for each step below the highest priority and by the work expected.
        """
        work = min(self.expected_work(request), LARGEST_S)
        return arrived_at + STEP_S * (10 - request.priority) + SIZE_FACTOR * work

    def expected_work(self, request: Profile) -> float:
        """Seconds alone on the fastest node in use that has the model."""
        solos = [
            request.prompt_tokens * speeds.prompt.value + self.learner.answer_tokens(request) * speeds.output.value
            for node in self.nodes.values()
            if node.offers(request) and (model := node.models.get(request.key)) is not None
            for speeds in (self.learner.of(node.spec, model.digest or model.key, model),)
        ]
        return min(solos, default=0.0)

    def assign(self, now: float) -> list[Lease]:
        """Place what can start now, interactive before batch, then by order; the leases returned hold their slots.

        A request whose best node cannot start it yet is held, and its work is reserved there, so that those behind it
        see the node as busy and may find another one better.
        """
        leases: list[Lease] = []
        reserved: dict[tuple[int, str], float] = {}
        for lane in self._lanes_in_order(now):
            looked = 0
            for entry in tuple(lane):
                ticket = entry[3]
                if ticket.not_before > now:
                    continue
                if not ticket.tried:
                    looked += 1
                    if looked > LOOKAHEAD:
                        break
                ranked = self._ranked(ticket, now, reserved)
                chosen = self._choose(ticket, ranked, now)
                if chosen is not None:
                    self._dequeue(ticket, now)
                    leases.append(self._lease(ticket, chosen, now))
                elif ranked:
                    self._reserve(ticket, ranked[0][2], reserved, now)
                    if not any(c.starts_now for _, _, c in ranked) and not ticket.tried:
                        break
        return leases

    def _decide(self, ticket: Ticket, now: float, reserved: Reserved) -> tuple[Decision, list[Ranked]]:
        request = ticket.request
        if request.key in self.drifted:
            ticket.any_weights = not any(
                node.offers(request) and request.key not in node.outdated for node in self.nodes.values()
            )
        return decide(self.strategy, ticket, self.nodes.values(), self.learner, now, reserved)

    def _ranked(self, ticket: Ticket, now: float, reserved: dict[tuple[int, str], float]) -> list[Ranked]:
        """The ticket's candidates; a ticket that cannot be judged is refused alone, whatever is wrong with it."""
        try:
            decision, ranked = self._decide(ticket, now, reserved)
        except Exception as error:  # noqa: BLE001 (one request must not keep others from being placed)
            self._refuse(ticket, NoNode(f"no node could be chosen: {error!r}"), now)
            return []
        ticket.decision = decision
        return ranked

    def _refuse(self, ticket: Ticket, refusal: Refusal, now: float) -> None:
        """End a wait from inside; whoever waits for the ticket is told."""
        self._dequeue(ticket, now)
        ticket.state, ticket.refusal = TicketState.ENDED, refusal
        if ticket.wake:
            ticket.wake()

    def _lanes_in_order(self, now: float) -> list[list[Entry]]:
        """Lanes by their heads, those out of patience first: others must not take what these wait for."""
        lanes = list(self.lanes.values())
        if len(lanes) > 1:
            late = now - self.limits.patience
            lanes.sort(key=lambda lane: (lane[0][0] or lane[0][3].arrived_at > late, lane[0][:3]))
        return lanes

    def _reserve(self, ticket: Ticket, best: Candidate, reserved: dict[tuple[int, str], float], now: float) -> None:
        """Count the work of a held request at its best node.

        One out of patience also keeps others from what is in its way.
        """
        node_id = best.node.spec.id
        places = [best.weights]
        if now - ticket.arrived_at > self.limits.patience:
            places += {lease.weights for lease in best.blockers}
        for weights in places:
            reserved[node_id, weights] = reserved.get((node_id, weights), 0.0) + best.solo

    def _choose(self, ticket: Ticket, ranked: list[Ranked], now: float) -> Ranked | None:
        """The best candidate if it can start now; after twice the patience, the best of those that can."""
        if not ranked:
            return None
        if ranked[0][2].starts_now:
            return ranked[0]
        if now - ticket.arrived_at > 2 * self.limits.patience:
            return next((entry for entry in ranked if entry[2].starts_now), None)
        return None

    def _lease(self, ticket: Ticket, chosen: Ranked, now: float) -> Lease:
        cost, _, c = chosen
        node = c.node
        running = len(node.leases)
        span = c.solo * slowdown(node.spec.node_class, running + 1) + (0.0 if c.warm else c.speeds.load.value)
        decision = ticket.decision
        assert decision is not None  # noqa: S101 (assign has just made it)
        decision.node, decision.score = node.spec.name, cost
        decision.reason = "retry" if ticket.attempts else c.condition
        lease = Lease(
            ticket,
            node,
            c.weights,
            c.speeds,
            now,
            now + span,
            not c.warm,
            running,
            c.size,
            c.num_ctx,
            decision,
            c.remote,
        )
        for victim in c.victims:
            node.resident.pop(victim, None)
        if c.remote:
            node.remote_leases.add(lease)
        else:
            node.leases.add(lease)
            node.by_weights.setdefault(c.weights, set()).add(lease)
            node.used_at[c.weights] = now
        node.breaker.begin(lease, now)
        self.sequence += 1
        node.last_sent = self.sequence
        ticket.state, ticket.lease = TicketState.LEASED, lease
        return lease

    def deny(self, lease: Lease, now: float) -> None:
        """The slot store did not grant the slot: the ticket goes back to its place."""
        self._free(lease)
        lease.node.breaker.neutral(lease)
        self._enqueue(lease.ticket, now)

    def grant(self, lease: Lease) -> None:
        """The slot is ours: the attempt begins."""
        ticket = lease.ticket
        ticket.attempts += 1
        lease.node.requests += 1
        if ticket.wake:
            ticket.wake()

    def answered(self, lease: Lease) -> None:
        """The first byte came: the model is loaded, and whoever wants it next will find it warm."""
        node, key = lease.node, lease.ticket.request.key
        if lease.cold:
            node.loaded_with[lease.weights] = lease.num_ctx
        lease.answered = True
        node.breaker.success(lease)
        if not lease.remote and lease.weights not in node.resident and (model := node.models.get(key)) is not None:
            node.resident[lease.weights] = ResidentModel(key, model.name, model.digest, model.size, model.size)

    def release(self, lease: Lease, verdict: Verdict, now: float, metrics: Metrics | None = None) -> None:
        """An attempt is over: its slot is free, and what it told is learned. Releasing twice does nothing."""
        if lease.released:
            return
        self._free(lease)
        node = lease.node
        if not lease.remote:
            node.used_at[lease.weights] = now
        if verdict is Verdict.SUCCESS:
            node.breaker.success(lease)
            if metrics is not None:
                self._learn(lease, metrics)
        elif verdict is Verdict.NEUTRAL:
            node.breaker.neutral(lease)
        else:
            node.count_failure(now)
            node.breaker.failure(lease, now, weight=3 if verdict is Verdict.UNREACHABLE else 1)

    def _learn(self, lease: Lease, metrics: Metrics) -> None:
        concurrency = 1.0 if lease.remote else (lease.running + 1 + len(lease.node.leases) + 1) / 2
        self.learner.learn(lease.speeds, lease.ticket.request, metrics, lease.node.spec.node_class, concurrency)
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
            self._dequeue(ticket, now)
        if ticket.lease is not None:
            self.release(ticket.lease, Verdict.NEUTRAL, now)
        ticket.state = TicketState.ENDED

    def lane_of(self, ticket: Ticket) -> list[Ticket]:
        """The waiting tickets of a ticket's lane, in their order."""
        return [entry[3] for entry in self.lanes.get((ticket.request.key, ticket.request.num_ctx), ())]

    def refuse_hopeless(self, now: float) -> None:
        """End the wait of those that waited too long, or whose nodes have all been gone for too long."""
        for lane in list(self.lanes.values()):
            for _, _, _, ticket in list(lane):
                if ticket.tried and not self.alternatives(ticket):
                    # The node it was to be tried on next has gone: those that failed are all there is.
                    ticket.tried.clear()
                refusal: NoNode | WaitExpired | None = None
                if ticket.queue_s + now - ticket.queued_at > self.limits.wait:
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
        ticket.state, ticket.lease, ticket.queued_at = TicketState.WAITING, None, now
        ticket.order = self.order(ticket.request, ticket.arrived_at)
        self.sequence += 1
        lane = self.lanes.setdefault((ticket.request.key, ticket.request.num_ctx), [])
        insort(lane, (ticket.request.batch, ticket.order, self.sequence, ticket))
        self.waiting += 1

    def _dequeue(self, ticket: Ticket, now: float) -> None:
        key = (ticket.request.key, ticket.request.num_ctx)
        lane = self.lanes[key]
        if len(lane) == 1:
            del self.lanes[key]
        else:
            lane[:] = [entry for entry in lane if entry[3] is not ticket]
        self.waiting -= 1
        ticket.queue_s += now - ticket.queued_at

    def _free(self, lease: Lease) -> None:
        lease.released = True
        lease.node.leases.discard(lease)
        lease.node.remote_leases.discard(lease)
        users = lease.node.by_weights.get(lease.weights)
        if users is not None:
            users.discard(lease)
            if not users:
                del lease.node.by_weights[lease.weights]
        if lease.ticket.lease is lease:
            lease.ticket.lease = None

    def in_flight(self) -> int:
        """Slots taken now, in all."""
        return sum(node.in_flight for node in self.nodes.values())
