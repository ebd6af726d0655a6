"""The record of one routing decision: headers, logs, history and the explain endpoint all print this one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Score(NamedTuple):
    """One candidate's cost in expected seconds, in all and by term; the lowest wins."""

    node: str
    cost: float
    starts_now: bool
    costs: Sequence[float]


@dataclass(slots=True)
class Decision:
    """Which node was chosen and why.

    `score` is the chosen node's cost in expected seconds; `rejected` counts nodes by the filter that rejected them;
    `best` is sorted by cost, its costs in the order of `terms`.
    """

    strategy: str
    terms: tuple[str, ...] = ()
    best: Sequence[Score] = ()
    rejected: dict[str, int] = field(default_factory=dict)
    reason: str = ""
    node: str = ""
    score: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return {
            "strategy": self.strategy,
            "node": self.node,
            "reason": self.reason,
            "score_s": round(self.score, 4),
            "rejected": self.rejected,
            "best": [
                {
                    "node": score.node,
                    "cost_s": score.cost,
                    "starts_now": score.starts_now,
                    "terms": {name: round(cost, 4) for name, cost in zip(self.terms, score.costs, strict=True)},
                }
                for score in self.best
            ],
        }
