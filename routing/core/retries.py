"""A budget for further attempts, so that a storm of failures does not double itself."""

import math
from dataclasses import dataclass, field


@dataclass(slots=True)
class Recent:
    """How many there were in the last `memory` seconds, older ones fading."""

    memory: float
    amount: float = 0.0
    at: float = 0.0

    def now(self, now: float) -> float:
        return self.amount * math.exp((self.at - now) / self.memory)

    def add(self, now: float) -> None:
        self.amount, self.at = self.now(now) + 1.0, now


@dataclass(slots=True)
class RetryBudget:
    """Further attempts may be a `share` of the requests of the last minute, and `least` of them in any case.

    The least is what one large node has running: when that dies, all of it goes to others at once.
    """

    share: float = 0.2
    least: float = 100.0
    requests: Recent = field(default_factory=lambda: Recent(60.0))
    retries: Recent = field(default_factory=lambda: Recent(60.0))
    denied: int = 0

    def came(self, now: float) -> None:
        """A request has come in."""
        self.requests.add(now)

    def spend(self, now: float) -> bool:
        """Take one further attempt out of the budget; False, and counted, where nothing is left."""
        if self.retries.now(now) + 1.0 > max(self.least, self.share * self.requests.now(now)):
            self.denied += 1
            return False
        self.retries.add(now)
        return True
