"""A budget for further attempts, so that a storm of failures does not double itself."""

from dataclasses import dataclass, field

from routing.core.shares import Flow

#: Seconds of traffic that a budget is a part of.
WINDOW_S = 60.0
#: So that sums of parts count as the whole that they are.
ROUNDING = 1e-6


@dataclass(slots=True)
class RetryBudget:
    """Further attempts may be a `share` of the requests of the last minute, and `least` of them in any case.

    The least is what one large node has running: when that dies, all of it goes to others at once.
    """

    share: float = 0.2
    least: float = 100.0
    requests: Flow = field(default_factory=lambda: Flow(WINDOW_S))
    retries: Flow = field(default_factory=lambda: Flow(WINDOW_S))
    denied: int = 0

    def came(self, now: float) -> None:
        """A request has come in."""
        self.requests.count(now)

    def spend(self, now: float) -> bool:
        """Take one further attempt out of the budget; False, and counted, where nothing is left."""
        spent, came = self.retries.rate(now) * WINDOW_S, self.requests.rate(now) * WINDOW_S
        if spent + 1.0 > max(self.least, self.share * came) + ROUNDING:
            self.denied += 1
            return False
        self.retries.count(now)
        return True
