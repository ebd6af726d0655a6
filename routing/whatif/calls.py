"""A request's life in the model, from its arrival to its one end, as its client sees it."""

from dataclasses import dataclass, field
from enum import StrEnum

from routing.whatif.traffic import Asked
from routing.whatif.work import Work


class End(StrEnum):
    """How a request ended: answered, refused by the router, failed on nodes, or given up by its client."""

    SERVED = "served"
    REFUSED = "refused"
    FAILED = "failed"
    LEFT = "left"


@dataclass(slots=True, eq=False)
class Call:
    """Moments in seconds of virtual time, -1 until they come; `node_id` is where it was sent last.

    `noise` is the factor by which the work of this request is heavier than expected, on whatever node it runs; `luck`
    decides for each attempt whether it fails for no visible reason.
    """

    asked: Asked
    noise: float = 1.0
    luck: tuple[float, ...] = ()
    node_id: int | None = None
    work: Work | None = None
    attempts: int = 0
    tried: set[int] = field(default_factory=set)
    sent_at: float = -1.0
    begun_at: float = -1.0
    first_at: float = -1.0
    ended_at: float = -1.0
    end: End | None = None

    @property
    def served(self) -> bool:
        return self.end is End.SERVED

    @property
    def total_s(self) -> float:
        """Seconds from arrival to end; whoever was not served counts as one who waited until patience ran out."""
        return self.ended_at - self.asked.at if self.served else self.asked.patience_s

    @property
    def queue_s(self) -> float:
        """Seconds until the router sent it to the node that was to answer it."""
        return (self.sent_at if self.sent_at >= 0.0 else self.ended_at) - self.asked.at

    @property
    def wait_s(self) -> float:
        """Seconds until a node began with it: the router's queue, the node's own, and loading."""
        return (self.begun_at if self.begun_at >= 0.0 else self.ended_at) - self.asked.at
