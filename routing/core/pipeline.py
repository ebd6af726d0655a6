"""Filters narrow, terms weigh, the cheapest wins.

One pure function from a request and the fleet's state to a decision.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from routing.core import scorers
from routing.core.decisions import Decision, Score
from routing.core.filters import FILTERS, Filter
from routing.core.learner import Learner
from routing.core.scorers import Candidate, Reserved, Term
from routing.core.state import NodeState
from routing.core.tickets import Ticket

#: Scores kept in a decision record.
KEPT = 3

NOTHING_RESERVED: Reserved = {}

#: (cost in seconds, when the node was last sent something as a sequence number, candidate).
Ranked = tuple[float, int, Candidate]


@dataclass(frozen=True)
class Strategy:
    """A routing strategy as data: which filters, and which terms with what weight."""

    name: str
    filters: tuple[Filter, ...]
    terms: tuple[tuple[str, Term, float], ...]

    @cached_property
    def term_names(self) -> tuple[str, ...]:
        return tuple(name for name, _, _ in self.terms)


FASTEST = Strategy(
    "fastest",
    FILTERS,
    (
        ("start", scorers.start, 1.0),
        ("run", scorers.run, 1.0),
        ("others", scorers.others, 1.0),
        ("evict", scorers.evict, 0.5),
        ("gpu", scorers.gpu, 0.25),
    ),
)


def decide(
    strategy: Strategy,
    ticket: Ticket,
    nodes: Iterable[NodeState],
    learner: Learner,
    now: float,
    reserved: Reserved = NOTHING_RESERVED,
) -> tuple[Decision, list[Ranked]]:
    """The decision for one request, and its candidates as (cost, last use, candidate), cheapest first; changes nothing.

    cost = sum of weight x term, in seconds, divided by the node's success rate and the operator's preference for it.
    Among equals the node that was used longest ago comes first, so that ties rotate and no recovered node is starved.
    """
    rejected: dict[str, int] = {}
    ranked: list[Ranked] = []
    filters, terms = strategy.filters, strategy.terms
    tokens = learner.answer_tokens(ticket.request)
    for node in nodes:
        for passes in filters:
            if not passes(ticket, node, now):
                name = passes.__name__
                rejected[name] = rejected.get(name, 0) + 1
                break
        else:
            c = scorers.candidate(ticket, node, now, learner, tokens, reserved)
            c.costs = [weight * term(c) for _, term, weight in terms]
            cost = sum(c.costs) / (node.success_rate(now) * node.spec.weight)
            ranked.append((round(cost, 4), node.last_sent, c))
    if len(ranked) > 1:
        ranked.sort(key=_cheapest)
    best = [Score(c.node.spec.name, cost, c.starts_now, c.costs) for cost, _, c in ranked[:KEPT]]
    return Decision(strategy.name, strategy.term_names, best, rejected), ranked


def _cheapest(entry: Ranked) -> tuple[float, int]:
    return entry[0], entry[1]
