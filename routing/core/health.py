"""A node's health as its traffic tells it: a breaker for the node, and one for each model that has failed there."""

import math
from collections.abc import Callable
from typing import Protocol

from routing.core.breaker import THRESHOLD, Breaker, BreakerState

#: Models of a node whose breakers are kept; one that has a good answer is forgotten at once.
MOST_MODELS = 200
#: Doubtful ends in a row that are no chance any more.
DOUBTS = 3


class Attempt(Protocol):
    """What a breaker hears of: a lease, by its identity and its model's weights."""

    @property
    def weights(self) -> str: ...


class Health:
    """What may be sent to one node. Times are seconds of the injected clock.

    A failure of a model (an error while it answered, a load that failed) counts against that model; against the node as
    well where another model has failed there since its last good answer, so that one broken model does not keep a node
    from serving the others. A failure of the node as a `whole` (a connection that broke, an answer that it is busy)
    counts against the node; if the request had been `sent`, against the model as well, since the node's other models
    may go on well and would have it forgiven. Each breaker lets one identified probe pass after its pause; `probes`
    counts the attempts that were one, of whichever breaker. `doubts` counts each model's doubtful ends since its last
    good one.
    """

    __slots__ = ("doubts", "failing", "jitter", "models", "node", "probes")

    def __init__(self, jitter: Callable[[], float] = lambda: 1.0) -> None:
        self.jitter = jitter
        self.node = Breaker(jitter)
        self.models: dict[str, Breaker] = {}
        self.failing: set[str] = set()
        self.doubts: dict[str, int] = {}
        self.probes = 0

    def allows(self, weights: str, now: float) -> bool:
        model = self.models.get(weights)
        return self.node.allows(now) and (model is None or model.allows(now))

    def opens_at(self, weights: str, now: float) -> float:
        """The next moment at which a breaker's pause for this model ends; endless where none is running."""
        pauses = [self.node, *filter(None, [self.models.get(weights)])]
        return min((one.open_until for one in pauses if one.open_until > now), default=float("inf"))

    def begin(self, attempt: Attempt, now: float) -> None:
        probing = self.node.begin(attempt, now)
        model = self.models.get(attempt.weights)
        if model is not None:
            probing |= model.begin(attempt, now)
        self.probes += probing

    def answered(self, attempt: Attempt) -> bool:
        """The first byte of an attempt came; true if this closed a breaker."""
        closed = self.node.answered(attempt)
        model = self.models.get(attempt.weights)
        return (model is not None and model.answered(attempt)) or closed

    def success(self, attempt: Attempt, began: float = math.inf) -> bool:
        """An attempt that `began` then went well to its end; true if this closed a breaker."""
        self.failing.clear()
        self.doubts.pop(attempt.weights, None)
        closed = self.node.success(attempt, began)
        model = self.models.get(attempt.weights)
        if model is not None:
            closed |= model.success(attempt, began)
            if model.state is BreakerState.CLOSED and not model.failures:
                del self.models[attempt.weights]
        return closed

    def failure(self, attempt: Attempt, now: float, *, whole: bool, sent: bool = False, weight: int = 1) -> bool:
        """An attempt failed; true if this opened a breaker. `weight` counts it as several, as a refused connection."""
        weights = attempt.weights
        self.failing.add(weights)
        opened = False
        if whole or attempt is self.node.probe or len(self.failing) > 1:
            opened = self.node.failure(attempt, now, weight if whole else len(self.failing))
        if whole and not sent:
            self.neutral_of_model(attempt)
            return opened
        model = self.models.get(weights)
        if model is None:
            if len(self.models) >= MOST_MODELS:
                del self.models[next(iter(self.models))]
            model = self.models[weights] = Breaker(self.jitter)
        return model.failure(attempt, now, weight) or opened

    def doubtful(self, attempt: Attempt, now: float) -> bool:
        """An attempt ended as is legal, and as a model that is well seldom does; true if this opened a breaker.

        One tells nothing; from the third in a row on, they count as failures of the model.
        """
        weights = attempt.weights
        if weights not in self.doubts and len(self.doubts) >= MOST_MODELS:
            del self.doubts[next(iter(self.doubts))]
        self.doubts[weights] = self.doubts.get(weights, 0) + 1
        if self.doubts[weights] < DOUBTS:
            self.neutral(attempt)
            return False
        return self.failure(attempt, now, whole=False, weight=THRESHOLD)

    def neutral(self, attempt: Attempt) -> None:
        """An attempt ended without telling anything."""
        self.node.neutral(attempt)
        self.neutral_of_model(attempt)

    def neutral_of_model(self, attempt: Attempt) -> None:
        model = self.models.get(attempt.weights)
        if model is not None:
            model.neutral(attempt)

    def recovered(self, now: float) -> bool:
        """The node was seen to answer: its probe may go at once. True if that is sooner than it would have been."""
        return self.node.recovered(now)
