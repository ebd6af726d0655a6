"""The record of one routing decision: headers, logs, history and the explain endpoint all print this one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


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

    `score` is the chosen node's cost in expected seconds; `rejected` counts nodes by the filter that rejected them;
    `best` is sorted by cost.
    """

    strategy: str
    best: Sequence[Score] = ()
    rejected: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""
    node: str = ""
    score: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return {
            "strategy": self.strategy,
            "node": self.node,
            "reason": self.reason,
            "score_s": round(self.score, 4),
            "rejected": dict(self.rejected),
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
        }
