"""Filters narrow, terms weigh, the cheapest wins: one function from a request and the fleet's state to a choice."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush, nsmallest
from itertools import count
from operator import itemgetter
from typing import NamedTuple, cast

from routing.core.decisions import SCORED, Decision, Score
from routing.core.filters import FILTERS, Filter, Labels, Wanted
from routing.core.learner import Expectation, Learner
from routing.core.places import INFINITE, Place, Row
from routing.core.requests import Profile
from routing.core.snapshot import InstalledModel
from routing.core.state import NodeState, Reach
from routing.core.strategies import Strategy
from routing.core.tickets import Ticket

#: Scores kept in a decision record with their terms, and nodes of which not all costs are kept.
KEPT, MANY = 3, 128
#: Seconds beyond which a run is judged by how long it may take, too, not only by how long it takes on average.
LONG_S = 40.0

NOTHING_SAVED: Mapping[int, float] = {}


class Demand(NamedTuple):
    """What makes requests for one model differ in which nodes they can use and how: requests of one kind share it."""

    num_ctx: int | None
    remote: bool
    strategy: str
    labels: Labels


class Choice(NamedTuple):
    """The cheapest place, and the cheapest of those that can begin at once, each with its cost in seconds.

    `costs` are those of all places that were judged, in their order; of one that cannot serve the request, endless.
    """

    best: Place | None
    cost: float
    ready: Place | None
    ready_cost: float
    costs: list[float]


NOWHERE = Choice(None, INFINITE, None, INFINITE, [])


@dataclass(slots=True)
class Sight:
    """One request with all that judging places for it needs.

    `press` is the share of those who wait whom the request should not delay, 0 to 1; `modest`: its team has been given
    far more than others that are busy, so that it leaves them the last slot of a runner. `until` is when the request
    will be given up. `saved` are the prompt tokens that nodes have in their caches, by node id. `any_weights`: other
    weights than those that count serve, too. `yields`: nodes that others wait for are left to those, and so are those
    in `left`.
    """

    ticket: Ticket
    now: float
    tokens: Expectation
    press: float = 1.0
    modest: bool = False
    until: float = INFINITE
    saved: Mapping[int, float] = field(default_factory=lambda: NOTHING_SAVED)
    any_weights: bool = False
    yields: bool = False
    left: frozenset[int] = frozenset()

    def prompt_at(self, place: Place) -> float:
        """The prompt tokens that are to be read there."""
        return self.tokens.prompt - (self.saved.get(place.node.spec.id, 0.0) if place.warm else 0.0)


class Kind:
    """The places for requests of one kind, made when the fleet's configuration or inventory changes.

    `names`, `rows` and `reserved` run beside `places`: what judging reads of each, and the seconds of work that others
    ahead in the queue wait to run there. `stale` places are to be worked out anew, those in `due` at a
    certain time. `used` is the use of its family at which it was used last. `rejected` names the nodes that have
    none, by the filter that rejected them. `drifted`: some of the places have other weights under this name than
    those that count.
    """

    __slots__ = (
        "demand",
        "drifted",
        "due",
        "generation",
        "key",
        "names",
        "numbers",
        "places",
        "rejected",
        "reserved",
        "reserving",
        "rows",
        "stale",
        "strategy",
        "used",
    )

    def __init__(self, key: str, demand: Demand, strategy: Strategy) -> None:
        self.key, self.demand, self.strategy = key, demand, strategy
        self.generation, self.used, self.drifted, self.reserving = -1, 0, False, False
        self.places: list[Place] = []
        self.rows: list[Row] = []
        self.reserved: list[float] = []
        self.numbers: dict[int, int] = {}
        self.names: list[str] = []
        self.stale: list[Place] = []
        self.due: list[tuple[float, int]] = []
        self.rejected: dict[str, list[str]] = {}

    def build(self, nodes: Iterable[NodeState], generation: int, request: Profile, learner: Learner) -> None:
        """Look at every node once."""
        demand = self.demand
        wanted = Wanted(self.key, demand.labels, remote=demand.remote)
        pile: list[Place] = []
        self.generation, self.rejected, self.places = generation, {}, []
        for node in nodes:
            filtered = refusal(wanted, node)
            if filtered is not None:
                self.rejected.setdefault(filtered.__name__, []).append(node.spec.name)
                continue
            model = node.models.get(self.key) or InstalledModel(self.key, request.model, remote=True)
            remote, number = demand.remote or model.remote, len(self.places)
            self.places.append(
                Place(
                    node,
                    model,
                    self.strategy,
                    learner,
                    remote=remote,
                    num_ctx=demand.num_ctx,
                    number=number,
                    pile=pile,
                )
            )
        self.drifted = any(place.outdated for place in self.places)
        self.names = [place.node.spec.name for place in self.places]
        self.numbers = {place.node.spec.id: place.number for place in self.places}
        # What places made before tell their old pile is heard by nobody.
        self.stale, self.due = pile, []
        pile.extend(reversed(self.places))
        self.rows = [BLANK] * len(self.places)
        self.reserved, self.reserving = [0.0] * len(self.places), False

    def make_ready(self, now: float) -> int:
        """Work out anew what has changed, or is too old; returns how many places that were."""
        stale, due, places = self.stale, self.due, self.places
        while due and due[0][0] <= now:
            stale.append(places[heappop(due)[1]])
        made = 0
        while stale:
            place = stale.pop()
            if not place.fresh or place.until <= now:
                self._refresh(place, now)
                made += 1
        return made

    def _refresh(self, place: Place, now: float) -> None:
        place.refresh(now)
        self.rows[place.number] = place.row
        if place.until < INFINITE:
            heappush(self.due, (place.until, place.number))

    def openings(self, nodes: Iterable[int], now: float) -> list[int]:
        """The numbers of those places on some nodes that could begin something now; only those are made ready."""
        found = []
        for node in nodes:
            number = self.numbers.get(node)
            if number is None:
                continue
            place = self.places[number]
            if place.fresh and now < place.until:
                if place.ready and place.usable:
                    found.append(number)
            elif place.begins_now(now):
                self._refresh(place, now)
                found.append(number)
        return found

    def reserve(self, node_id: int, seconds: float) -> None:
        """Count work as waiting for a node; of no meaning where that has no place."""
        number = self.numbers.get(node_id)
        if number is not None:
            self.reserved[number] += seconds
            self.reserving = True

    def unreserve(self) -> None:
        """Nobody's work is reserved anywhere any more."""
        if self.reserving:
            self.reserved, self.reserving = [0.0] * len(self.places), False


#: The row of a place that was not looked at yet.
BLANK = cast("Row", ())


def refusal(wanted: Wanted, node: NodeState) -> Filter | None:
    """The first filter that the node does not pass."""
    for passes in FILTERS:
        if not passes(wanted, node):
            return passes
    return None


def cheapest(  # noqa: C901, PLR0912 (one loop, written out: a call for each node would double its time)
    kind: Kind, sight: Sight, numbers: Sequence[int] | None = None
) -> Choice:
    """The cheapest place for one request, of all or of some that were made ready; changes nothing.

    cost = sum of weight x term, in seconds, divided by the node's success rate and the operator's preference for it.
    Among equals the node that was used longest ago comes first, so that ties rotate and no recovered node is starved.
    """
    now, press, modest, saved = sight.now, sight.press, sight.modest, sight.saved
    prompt, output, _ = sight.tokens
    ticket, start = sight.ticket, kind.strategy.weighing.start
    route, gpu = ticket.request.route, ticket.request.needs_gpu
    if numbers is None:
        kind.make_ready(now)
    rows, reserved, judged = kind.rows, kind.reserved, kind.places
    if numbers is not None:
        rows, reserved = [rows[number] for number in numbers], [reserved[number] for number in numbers]
        judged = [judged[number] for number in numbers]
    if ticket.tried or sight.yields or (kind.drifted and not sight.any_weights):
        rows = [place.barred() if turned_away(place, sight) else row for place, row in zip(judged, rows, strict=True)]
    costs: list[float] = []
    best, least, sent_best, ready, least_ready, sent_ready = None, INFINITE, -1, None, INFINITE, -1
    for (
        sent,
        begins,
        per_slot,
        fixed,
        per_prompt,
        per_output,
        light,
        heavy,
        running,
        rest,
        crowd,
        constant,
        queue,
        per_run,
        factor,
        can,
        spare,
        missing,
        place,
    ), ahead in zip(rows, reserved, strict=True):
        run = fixed + prompt * per_prompt + output * per_output
        if saved and place.warm:
            run -= saved.get(place.node.spec.id, 0.0) * per_prompt
        wait = begins - now
        if wait < 0.0:  # noqa: PLR1730 (a call of max costs as much as the rest of the line)
            wait = 0.0
        if ahead:
            wait += ahead * per_slot
        delay = running * run
        if rest < delay:  # noqa: PLR1730
            delay = rest
        cost = (
            wait * start + run * (heavy if gpu else light) + delay * crowd + constant + press * (queue + per_run * run)
        )
        if run > LONG_S:
            over = now + wait + place.later + run + (sight.tokens.longest - output) * per_output - sight.until
            if over > 0.0:
                cost += over
        cost *= factor
        if missing and route in missing:
            cost, can = INFINITE, False  # noqa: PLW2901 (of this very request)
        costs.append(cost)
        if cost < least or (cost == least and sent < sent_best):
            best, least, sent_best = place, cost, sent
        if (
            can
            and not ahead
            and (cost < least_ready or (cost == least_ready and sent < sent_ready))
            and (spare or not modest)
        ):
            ready, least_ready, sent_ready = place, cost, sent
    return Choice(best, least, ready, least_ready, costs)


def decision(kind: Kind, sight: Sight, choice: Choice, kept: int = KEPT) -> Decision:
    """The record of a choice: the best few places with their terms, the scores of more, and who was rejected by what.

    Nothing is copied that many records may share: the names of those whom the kind's filters reject are the kind's.
    """
    costs, rejected = choice.costs, kind.rejected
    able = len(costs) - costs.count(INFINITE)
    if able < len(costs):
        rejected = {why: list(names) for why, names in rejected.items()}
        for place in kind.places:
            if why := turned_away(place, sight):
                rejected.setdefault(why, []).append(place.node.spec.name)
    few = nsmallest(min(kept, able), zip(costs, map(SENT, kind.rows), count(), strict=False))
    best = [score(kind, sight, cost, number) for cost, _, number in few]
    names: Sequence[str] = kind.names
    if len(costs) > MANY:
        # Records are kept for a while: of very many nodes the best are picked out now.
        ranked = nsmallest(SCORED, zip(costs, names, strict=True))
        costs, names = [cost for cost, _ in ranked], [name for _, name in ranked]
    return Decision(kind.strategy.name, best, rejected, names=names, costs=costs, able=able)


SENT = itemgetter(0)


def score(kind: Kind, sight: Sight, cost: float, number: int) -> Score:
    place, reserved = kind.places[number], kind.reserved[number]
    tokens, press = sight.prompt_at(place), sight.press
    terms = place.terms(sight.now, tokens, sight.tokens.output, press, reserved)
    rest = cost / place.factor - sum(terms.values())
    if rest > 0.001:  # noqa: PLR2004 (more than rounding: a CPU where a GPU is wanted, or a run that may be too long)
        terms["risk"] = rest
    return Score(place.node.spec.name, cost, place.ready and not reserved, place.condition, terms)


def rejections(kind: Kind, sight: Sight, nodes: Iterable[NodeState]) -> dict[str, str]:
    """The nodes that cannot serve a request now, by name, each with the filter that rejects it."""
    wanted = Wanted(kind.key, kind.demand.labels, remote=kind.demand.remote)
    told = {}
    for node in nodes:
        number = kind.numbers.get(node.spec.id)
        filtered = refusal(wanted, node) if number is None else None
        why = turned_away(kind.places[number], sight) if number is not None else (filtered.__name__ if filtered else "")
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
    if node.spec.id in ticket.tried:
        return "not_tried"
    return "left_to_others" if sight.yields and (node.held or node.spec.id in sight.left) else ""
