"""An attempt on a simulated node, and the loaded model that works on it."""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from routing.whatif.machines import Runnable


class Word(StrEnum):
    """What a node says of work: its first token, its end, an error, that it is full; or that the connection broke."""

    FIRST = "first"
    DONE = "done"
    ERROR = "error"
    FULL = "full"
    LOST = "lost"


@dataclass(slots=True, eq=False)
class Work:
    """One attempt at one request on one node.

    `prompt_left` and `answer_left` are seconds alone; `fails`: the node gives an error once the prompt is read. Moments
    are -1 until they come; `load_s` is how long the model was waited for where it had to be loaded.
    """

    owner: object
    model: Runnable
    prompt_left: float
    answer_left: float
    fails: bool = False
    taken_at: float = -1.0
    begun_at: float = -1.0
    first_at: float = -1.0
    load_s: float = 0.0
    dropped: bool = False


@dataclass(slots=True, eq=False)
class Runner:
    """A model in memory, or on its way there. One that is `leaving` takes no more requests."""

    model: Runnable
    used_at: float
    ready: bool = False
    leaving: bool = False
    running: int = 0
    waiting: deque[Work] = field(default_factory=deque)

    @property
    def idle(self) -> bool:
        return self.ready and not self.running and not self.waiting
