"""What a request would meet in the fleet: every node judged for it, and the record of that."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from routing.core.affinity import NOTHING, Prefixes
from routing.core.decisions import Decision
from routing.core.families import Family
from routing.core.fleet import Fleet
from routing.core.learned import Learned
from routing.core.learner import OVERHEAD, Expectation, Learner
from routing.core.pipeline import KEPT, Choice, Kind, Sight, cheapest, decision, rejections
from routing.core.places import Place
from routing.core.requests import Profile
from routing.core.shares import Shares
from routing.core.snapshot import FleetSnapshot
from routing.core.state import NodeState, Reach
from routing.core.strategies import BUILT_IN, FASTEST, Strategy, strategies
from routing.core.tickets import Ticket

#: Seconds after a request in which bulk work leaves slots free for the next.
LATELY = 60.0
NOBODY: frozenset[int] = frozenset()
#: Seconds for which the fastest speeds for a model are used again, and models of which they are kept.
REFERENCE_S, REFERENCES = 5.0, 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the queue; times in seconds.

    `patience`: a request that has waited twice as long keeps others from what is in its way, on one node at a time (one
    of a team that wants little of a busy fleet sooner), and batch work that has waited twice as long counts as
    interactive. `node_wait`: how long a request waits for a node that has just gone to come back. `spared`: the part
    of the slots for a model, 0 to 1, that bulk work leaves free while others come.
    """

    queue: int = 2000
    wait: float = 600.0
    patience: float = 120.0
    node_wait: float = 10.0
    attempts: int = 3
    spared: float = 0.25


@dataclass(slots=True)
class Judge(Fleet):
    """The nodes, and all that says which of them is best for a request. Judging changes nothing.

    `urgent_at` is when the last request came that was no part of a batch job.
    """

    limits: Limits = field(default_factory=Limits)
    learner: Learner = field(default_factory=Learner)
    shares: Shares = field(default_factory=Shares)
    families: dict[str, Family] = field(default_factory=dict)
    strategies: dict[str, Strategy] = field(default_factory=lambda: dict(BUILT_IN))
    strategy: str = FASTEST.name
    prefixes: Prefixes = field(default_factory=Prefixes)
    urgent_at: float = float("-inf")
    _references: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    def apply(self, snapshot: FleetSnapshot) -> None:
        """Take the operator's nodes, teams and strategies."""
        self.shares.apply(snapshot.teams)
        self.strategies, self.strategy = strategies(snapshot.strategies), snapshot.strategy
        self._references.clear()
        self.families = {key: family for key, family in self.families.items() if family.waiting}
        before = self.nodes
        super(Judge, self).apply(snapshot)
        for node_id, node in before.items():
            if self.nodes.get(node_id) is not node:
                self.prefixes.forget(node_id)

    def forget(self, node_id: int) -> None:
        super(Judge, self).forget(node_id)
        self.prefixes.forget(node_id)

    def stirred(self, node: NodeState | None) -> None:
        for family in self.families.values():
            if node is None:
                family.looked_at = float("-inf")
            elif family.key in node.models or node.cloud:
                family.changed.add(node.spec.id)

    def learn(self, learned: Learned, nodes: Collection[int] | None = None) -> None:
        """Read what was kept from before; with `nodes`, forget those first and read what is kept of them."""
        if nodes is not None:
            self.learner.forget(nodes)
        self.learner.take(learned, nodes)
        self.generation += 1
        self._references.clear()
        self.stirred(None)

    # What requests are expected to be

    def work_of(self, request: Profile, tokens: Expectation, now: float) -> float:
        """Seconds alone on the fastest node in use that has the model: what the request's team is charged."""
        prompt_s, output_s = self.reference(request, now)
        return OVERHEAD + tokens.prompt * prompt_s + tokens.output * output_s

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
        if len(self._references) >= REFERENCES:
            self._references.clear()
        self._references[request.key] = (now, best.prompt.value, best.output.value)
        return best.prompt.value, best.output.value

    def yields(self, ticket: Ticket, now: float) -> bool:
        """Whether a request leaves nodes to others: bulk work does until it has waited for long."""
        return ticket.request.bulk and now - ticket.arrived_at <= 2 * self.limits.patience

    def sparing(self, kind: Kind, now: float) -> bool:
        """Whether bulk work leaves slots free, since others have come lately."""
        return now - self.urgent_at <= LATELY and not kind.demand.remote

    def bulk_slots(self, kind: Kind) -> int:
        """How many of the slots for a model bulk work may use while others come."""
        return max(1, int(sum(place.slots for place in up(kind)) * (1.0 - self.limits.spared)))

    def left(self, kind: Kind, tokens: Expectation, now: float) -> frozenset[int]:
        """The ids of the nodes that bulk work leaves free for whoever comes next: the fastest for such requests."""
        if not self.sparing(kind, now):
            return NOBODY
        spare, found = sum(place.slots for place in up(kind)) - self.bulk_slots(kind), []
        for place in sorted(up(kind), key=lambda place: self._solo_s(place, tokens)):
            if place.slots > spare:
                break
            spare -= place.slots
            found.append(place.node.spec.id)
        return frozenset(found)

    def _solo_s(self, place: Place, tokens: Expectation) -> float:
        prompt_s, output_s = self.learner.solo(place.node.spec, place.speeds)
        return tokens.prompt * prompt_s + tokens.output * output_s

    # Which node is best

    def explain(self, ticket: Ticket, now: float, *, every: bool = False) -> Decision | None:
        """The decision that `assign` would make for a ticket now. None if it cannot be made.

        With `every` node that could serve it, not only the best few.
        """
        try:
            kind, sight = self._seen(ticket, now)
            choice = cheapest(kind, sight)
            return decision(kind, sight, choice, len(choice.costs) if every else KEPT)
        except Exception:  # noqa: BLE001 (a request that cannot be judged is still ended)
            return None

    def judge(self, ticket: Ticket, now: float) -> Choice:
        """Judge every node for a ticket, as `assign` does."""
        return cheapest(*self._seen(ticket, now))

    def rejected_nodes(self, ticket: Ticket, now: float) -> dict[str, str]:
        """The nodes that cannot serve a request now, by name, each with the filter that rejects it."""
        kind, sight = self._seen(ticket, now)
        kind.make_ready(now)
        return rejections(kind, sight, self.nodes.values())

    def _seen(self, ticket: Ticket, now: float) -> tuple[Kind, Sight]:
        """What judging a ticket needs; nothing is kept of one for a model that nobody waits for."""
        key = ticket.request.key
        kind = self._kind(self.families.get(key) or Family(key), ticket.request)
        return kind, self._sight(kind, ticket, now)

    def _kind(self, family: Family, request: Profile) -> Kind:
        kind = family.kind(request, self.strategies.get(request.strategy or self.strategy, FASTEST))
        if kind.generation != self.generation:
            kind.build(self.nodes.values(), self.generation, request, self.learner)
        return kind

    def _sight(self, kind: Kind, ticket: Ticket, now: float, *, anew: bool = True) -> Sight:
        """One request as judging sees it; its tokens are those that are expected by now, or (not `anew`) lately."""
        request, shares, saved = ticket.request, self.shares, NOTHING
        tokens = ticket.expected
        if anew or tokens is None:
            tokens = ticket.expected = self.learner.expectation(request)
        if request.prefixes and kind.places:
            saved = self.prefixes.saved(kind.places[0].weights, request, tokens.prompt)
        until, yields = ticket.arrived_at + self.limits.wait, self.yields(ticket, now)
        if request.deadline is not None and request.deadline < until:
            until = request.deadline
        return Sight(
            ticket,
            now,
            tokens,
            shares.before(request.team_id),
            shares.modest(request.team_id, now),
            until,
            saved,
            kind.drifted and (bool(ticket.tried) or not current(kind, request)),
            yields,
            self.left(kind, tokens, now) if yields else NOBODY,
        )


def up(kind: Kind) -> Iterator[Place]:
    """The places on nodes that answer."""
    return (place for place in kind.places if place.node.reach is not Reach.DOWN)


def current(kind: Kind, request: Profile) -> bool:
    """Whether some node has the weights that count, and the route."""
    return any(not place.outdated and request.route not in place.node.missing for place in kind.places)
