"""Filters narrow, terms weigh, the cheapest wins: one function from a request and the fleet's state to a choice."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import NamedTuple

from routing.core.decisions import Decision, Score
from routing.core.filters import FILTERS, Filter, Labels, Wanted
from routing.core.learner import Learner
from routing.core.places import Place
from routing.core.requests import Profile
from routing.core.snapshot import InstalledModel
from routing.core.state import NodeState, Reach
from routing.core.strategies import Strategy
from routing.core.tickets import Ticket

#: Scores kept in a decision record.
KEPT = 3
#: Seconds beyond which a run is judged by how long it may take, too, not only by how long it takes on average.
LONG_S = 40.0
#: The share of answers that are no longer than what a long run is judged by.
LIKELY = 0.95

INFINITE = float("inf")
NOTHING_SAVED: Mapping[int, float] = {}


class Demand(NamedTuple):
    """What makes requests for one model differ in which nodes they can use and how: requests of one kind share it."""

    num_ctx: int | None
    remote: bool
    strategy: str
    labels: Labels


#: (cost, when the node was last sent something as a sequence number, number, place).
Scored = tuple[float, int, int, Place]


class Choice(NamedTuple):
    """The cheapest place, and the cheapest of those that can begin at once, each with its cost in seconds.

    `scored` holds every place that can serve the request.
    """

    best: Place | None
    cost: float
    ready: Place | None
    ready_cost: float
    scored: list[Scored]


NOWHERE = Choice(None, INFINITE, None, INFINITE, [])


@dataclass(slots=True)
class Sight:
    """One request with all that judging places for it needs.

    Tokens are expected ones, `longest` what the answer will hardly exceed. `press` is the share of those who wait whom
    the request should not delay, 0 to 1; `modest`: its team has been given far more than others that are busy, so that
    it leaves them the last slot of a runner. `until` is when the request will be given up. `saved` are the prompt
    tokens that nodes have in their caches, by node id. `any_weights`: other weights than those that count serve, too.
    """

    ticket: Ticket
    now: float
    prompt: float
    output: float
    longest: float
    press: float = 1.0
    modest: bool = False
    until: float = INFINITE
    saved: Mapping[int, float] = field(default_factory=lambda: NOTHING_SAVED)
    any_weights: bool = False


class Kind:
    """The places for requests of one kind, made when the fleet's configuration or inventory changes.

    `rejected` counts the nodes that have none, by the filter that rejected them. `drifted`: some of the places have
    other weights under this name than those that count.
    """

    __slots__ = ("by_node", "demand", "drifted", "generation", "gpu", "key", "places", "rejected", "strategy")

    def __init__(self, key: str, demand: Demand, strategy: Strategy) -> None:
        self.key, self.demand, self.strategy = key, demand, strategy
        self.gpu = strategy.weight("gpu")
        self.generation, self.drifted = -1, False
        self.places: list[Place] = []
        self.by_node: dict[int, Place] = {}
        self.rejected: dict[str, int] = {}

    def build(self, nodes: Iterable[NodeState], generation: int, request: Profile) -> None:
        """Look at every node once."""
        demand = self.demand
        wanted = Wanted(self.key, demand.labels, remote=demand.remote)
        self.generation, self.rejected, self.places = generation, {}, []
        for node in nodes:
            filtered = refusal(wanted, node)
            if filtered is not None:
                name = filtered.__name__
                self.rejected[name] = self.rejected.get(name, 0) + 1
                continue
            installed = node.models.get(self.key) or InstalledModel(self.key, request.model, remote=True)
            remote = demand.remote or installed.remote
            self.places.append(Place(node, installed, remote=remote, num_ctx=demand.num_ctx))
        self.drifted = any(place.outdated for place in self.places)
        self.by_node = {place.node.spec.id: place for place in self.places}


def refusal(wanted: Wanted, node: NodeState) -> Filter | None:
    """The first filter that the node does not pass."""
    for passes in FILTERS:
        if not passes(wanted, node):
            return passes
    return None


def cheapest(  # noqa: C901 (one loop, written out: a call for each node would double its time)
    kind: Kind, sight: Sight, learner: Learner, places: Iterable[Place] | None = None
) -> Choice:
    """The cheapest place for one request, of all or of some; changes nothing.

    cost = sum of weight x term, in seconds, divided by the node's success rate and the operator's preference for it.
    Among equals the node that was used longest ago comes first, so that ties rotate and no recovered node is starved.
    """
    ticket, now, strategy, press = sight.ticket, sight.now, kind.strategy, sight.press
    prompt, output, modest, saved = sight.prompt, sight.output, sight.modest, sight.saved
    tried, route = ticket.tried, ticket.request.route
    gpu = kind.gpu if ticket.request.needs_gpu else 0.0
    scored: list[Scored] = []
    ready, cost_ready, sent_ready = None, INFINITE, 0
    for place in kind.places if places is None else places:
        node = place.node
        if place.changes != node.changes or now >= place.until:
            place.refresh(now, strategy, learner)
        if place.outdated and not sight.any_weights:
            continue
        if not place.usable or (tried and node.spec.id in tried) or (node.missing and route in node.missing):
            continue
        tokens = prompt - saved.get(node.spec.id, 0.0) if saved and place.warm else prompt
        run = place.fixed + tokens * place.per_prompt + output * place.per_output
        wait = place.begins_at - now
        if wait < 0.0:  # noqa: PLR1730 (a call of max costs as much as the rest of the line)
            wait = 0.0
        if place.reserved:
            wait += place.reserved / place.slots
        delay = place.running * run
        if place.rest < delay:  # noqa: PLR1730
            delay = place.rest
        cost = (
            wait * place.start_weight
            + run * place.run_weight
            + delay * place.growth * place.others
            + place.constant
            + press * (place.press + place.per_run * run)
        )
        if gpu and node.spec.node_class == "cpu" and not place.remote:
            cost += gpu * run
        if run > LONG_S:
            over = now + wait + place.later + run + (sight.longest - output) * place.per_output - sight.until
            if over > 0.0:
                cost += over
        cost *= place.factor
        sent = node.last_sent
        scored.append((cost, sent, len(scored), place))
        if (
            place.ready
            and cost <= cost_ready
            and not place.reserved
            and (cost < cost_ready or sent < sent_ready)
            and (not modest or place.spare)
        ):
            ready, cost_ready, sent_ready = place, cost, sent
    if not scored:
        return NOWHERE
    first = min(scored)
    return Choice(first[3], first[0], ready, cost_ready, scored)


def decision(kind: Kind, sight: Sight, choice: Choice, kept: int = KEPT) -> Decision:
    """The record of a choice: the best few places with their terms, and how many nodes were rejected by what."""
    rejected = dict(kind.rejected)
    if len(choice.scored) < len(kind.places):
        for place in kind.places:
            if why := turned_away(place, sight):
                rejected[why] = rejected.get(why, 0) + 1
    return Decision(kind.strategy.name, [score(kind, sight, *one) for one in nsmallest(kept, choice.scored)], rejected)


def score(kind: Kind, sight: Sight, cost: float, sent: int, number: int, place: Place) -> Score:
    tokens = sight.prompt - (sight.saved.get(place.node.spec.id, 0.0) if place.warm else 0.0)
    terms = place.terms(sight.now, tokens, sight.output, sight.press, kind.strategy)
    rest = cost / place.factor - sum(terms.values())
    if rest > 0.001:  # noqa: PLR2004 (more than rounding: a CPU where a GPU is wanted, or a run that may be too long)
        terms["risk"] = rest
    return Score(place.node.spec.name, cost, place.ready and not place.reserved, place.condition, terms)


def rejections(kind: Kind, sight: Sight, nodes: Iterable[NodeState]) -> dict[str, str]:
    """The nodes that cannot serve a request now, by name, each with the filter that rejects it."""
    wanted = Wanted(kind.key, kind.demand.labels, remote=kind.demand.remote)
    told = {}
    for node in nodes:
        place = kind.by_node.get(node.spec.id)
        filtered = refusal(wanted, node)
        why = turned_away(place, sight) if place is not None else (filtered.__name__ if filtered else "")
        if why:
            told[node.spec.name] = why
    return told


def turned_away(place: Place, sight: Sight) -> str:
    """Why a place cannot serve this very request now; empty if it can."""
    node, ticket = place.node, sight.ticket
    if place.outdated and not sight.any_weights:
        return "same_weights"
    if ticket.request.route in node.missing:
        return "has_route"
    if not place.usable:
        return "alive" if node.reach is Reach.DOWN else "breaker_allows"
    return "not_tried" if node.spec.id in ticket.tried else ""
