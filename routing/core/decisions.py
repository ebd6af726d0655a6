"""The record of one routing decision: headers, logs, history and the explain endpoint all print this one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: Nodes that a record names of those that one filter rejected; of more it tells the number.
NAMED = 50


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
    `best` is sorted by cost, `others` are the next ones with their costs, and `more` is how many there were beside.
    """

    strategy: str
    best: Sequence[Score] = ()
    rejected: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reason: str = ""
    node: str = ""
    score: float = 0.0
    others: Sequence[tuple[str, float]] = ()
    more: int = 0

    def as_dict(self) -> dict[str, Any]:
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
            "others": [[node, round(cost, 4)] for node, cost in self.others],
            "more": self.more,
        }
