"""The record of one routing decision: headers, logs, history and the explain endpoint all print this one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from operator import itemgetter
from typing import Any, NamedTuple

#: Nodes that a record names of those that one filter rejected; of more it tells the number.
NAMED = 50
#: Scores that a record tells.
SCORED = 64


class Score(NamedTuple):
    """One candidate's cost in expected seconds, in all and by term; the lowest wins.

    `condition` is the state in which its runner would meet the request.
    """

    node: str
    cost: float
    starts_now: bool
    condition: str
    terms: Mapping[str, float]


@dataclass(slots=True)
class Decision:
    """Which node was chosen and why.

    `score` is the chosen node's cost in expected seconds; `rejected` names nodes by the filter that rejected them;
    `best` is sorted by cost; `names` and `costs` are those of all nodes that were judged, or of the best of very many,
    kept as they are and sorted only by whoever reads the record. `able` is how many could have served the request.
    """

    strategy: str
    best: Sequence[Score] = ()
    rejected: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reason: str = ""
    node: str = ""
    score: float = 0.0
    names: Sequence[str] = ()
    costs: Sequence[float] = ()
    able: int = 0

    @property
    def others(self) -> list[tuple[str, float]]:
        """The next best after `best`, as far as they are told, with their costs."""
        told = {score.node for score in self.best}
        rest = [
            (name, cost)
            for name, cost in zip(self.names, self.costs, strict=True)
            if isfinite(cost) and name not in told
        ]
        return sorted(rest, key=itemgetter(1))[: max(0, SCORED - len(told))]

    def as_dict(self) -> dict[str, Any]:
        others = self.others
        return {
            "strategy": self.strategy,
            "node": self.node,
            "reason": self.reason,
            "score_s": round(self.score, 4),
            "rejected": {why: len(names) for why, names in self.rejected.items()},
            "rejected_nodes": {why: list(names[:NAMED]) for why, names in self.rejected.items()},
            "best": [
                {
                    "node": score.node,
                    "cost_s": round(score.cost, 4),
                    "starts_now": score.starts_now,
                    "condition": score.condition,
                    "terms": {name: round(cost, 4) for name, cost in score.terms.items()},
                }
                for score in self.best
            ],
            "others": [[node, round(cost, 4)] for node, cost in others],
            "more": max(0, self.able - len(self.best) - len(others)),
        }
