"""What a node has seen and done, for tests and demos to read."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

ARRIVALS_KEPT = 100_000


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request, in the order of arrival; `model` is the name as the client wrote it, empty where there is none."""

    path: str
    model: str
    at: float


@dataclass(frozen=True, slots=True)
class Departure:
    """A client that left before its answer was complete; `at` is in simulated seconds."""

    path: str
    model: str
    at: float


@dataclass(frozen=True, slots=True)
class Load:
    """A model that was loaded (or, with `failed`, was not); seconds are simulated."""

    model: str
    num_ctx: int
    at: float
    seconds: float
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Eviction:
    """A runner that went; reason is `room`, `reload`, `expired`, `asked`, `crashed` or `killed`."""

    model: str
    reason: str
    at: float


@dataclass
class Record:
    """Counters and logs of one node, kept over kills and restarts."""

    requests: Counter[str] = field(default_factory=Counter)
    """Requests seen, by path."""
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    """Headers of the last request, by path; their names are in lower case."""
    body_bytes: dict[str, int] = field(default_factory=dict)
    """Bytes of the last body that was read, by path."""
    arrivals: deque[Arrival] = field(default_factory=lambda: deque(maxlen=ARRIVALS_KEPT))
    aborted: list[Departure] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    evictions: list[Eviction] = field(default_factory=list)
    in_flight: Counter[str] = field(default_factory=Counter)
    """Inference requests that have arrived and not ended, by model."""
    running: Counter[str] = field(default_factory=Counter)
    """Requests that hold a slot, by model."""
    peak_in_flight: Counter[str] = field(default_factory=Counter)
    peak_running: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    """Tokens generated."""
    busy_refusals: int = 0
    """Requests refused with 503."""

    def saw(self, path: str, headers: Mapping[str, str]) -> None:
        self.requests[path] += 1
        self.headers[path] = {name.lower(): value for name, value in headers.items()}

    def enter(self, model: str) -> None:
        self.in_flight[model] += 1
        self.peak_in_flight[model] = max(self.peak_in_flight[model], self.in_flight[model])

    def leave(self, model: str) -> None:
        self.in_flight[model] -= 1

    def start(self, model: str) -> None:
        self.running[model] += 1
        self.peak_running[model] = max(self.peak_running[model], self.running[model])

    def stop(self, model: str) -> None:
        self.running[model] -= 1

    def models_for(self, path: str) -> list[str]:
        """The models that requests for this path named, in the order of arrival."""
        return [arrival.model for arrival in self.arrivals if arrival.path == path]
