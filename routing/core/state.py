"""What one gateway knows of each node right now; owned by one event loop, read by nobody else."""

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from routing.core.breaker import Breaker
from routing.core.requests import Profile
from routing.core.snapshot import InstalledModel, NodeSpec
from routing.core.versions import missing_routes

if TYPE_CHECKING:
    from routing.core.tickets import Lease

#: Seconds in which a node's bad success rate fades by a factor e.
SUCCESS_MEMORY = 20.0
#: Unknown routes remembered of one node, and for how many seconds.
MOST_DENIED, DENIED_S = 200, 60.0


class Reach(StrEnum):
    """Whether a node answers: `suspect` has just failed to and is still used."""

    UNKNOWN = "unknown"
    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class ResidentModel:
    """A loaded model as /api/ps tells it; sizes in bytes, `context_length` in tokens (0: not told)."""

    key: str
    name: str
    digest: str = ""
    size: int = 0
    size_vram: int = 0
    context_length: int = 0


@dataclass(slots=True)
class NodeState:
    """One node: its configuration, its inventory, its residents, and what this gateway has in flight there.

    `leases` are those that use its memory, `remote_leases` those of models that run at ollama.com and use none.
    `loaded_with` tells by weights which num_ctx a model was loaded with for a request of ours (None: the node's own).
    `missing` are routes that its version lacks or that it answered as unknown, the latter also in `denied` with the
    time until which that is believed; `outdated` names under which it has other weights than those that count
    (`core.drift`); `cloud`: it is the one for cloud models and the account. `gone`: the operator has removed it, and
    what runs there still ends.
    `calls` are called when the node does not answer any more, one for each exchange that waits for it.
    """

    spec: NodeSpec
    reach: Reach = Reach.UNKNOWN
    error: str = ""
    version: str = ""
    models: dict[str, InstalledModel] = field(default_factory=dict)
    inventory_at: float = -math.inf
    resident: dict[str, ResidentModel] = field(default_factory=dict)
    leases: set["Lease"] = field(default_factory=set)
    remote_leases: set["Lease"] = field(default_factory=set)
    by_weights: dict[str, set["Lease"]] = field(default_factory=dict)
    breaker: Breaker = field(default_factory=lambda: Breaker(lambda: random.uniform(0.8, 1.2)))
    looks_failed: int = 0
    requests: int = 0
    failures: int = 0
    failing: float = 0.0
    failing_at: float = 0.0
    last_sent: int = 0
    down_since: float = math.inf
    used_at: dict[str, float] = field(default_factory=dict)
    loaded_with: dict[str, int | None] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()
    denied: dict[str, float] = field(default_factory=dict)
    outdated: frozenset[str] = frozenset()
    cloud: bool = False
    gone: bool = False
    calls: set[Callable[[], None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.missing = missing_routes(self.version)

    def set_version(self, version: str) -> None:
        """Take the version that the node tells; another one may have other routes."""
        if version != self.version:
            self.version = version
            self.denied.clear()
            self.missing = missing_routes(version)

    def lacks(self, path: str, now: float) -> None:
        """The node does not know this route. That is believed for a while: a proxy in front of it may say so, too."""
        if len(self.denied) >= MOST_DENIED:
            del self.denied[next(iter(self.denied))]
        self.denied[path] = now + DENIED_S
        self.missing |= {path}

    def doubt(self, now: float = math.inf) -> None:
        """Forget what was answered as unknown so long ago that it is worth asking again; without a time, all of it."""
        if self.denied and min(self.denied.values()) <= now:
            self.denied = {path: until for path, until in self.denied.items() if until > now}
            self.missing = missing_routes(self.version) | self.denied.keys()

    def offers(self, request: Profile) -> bool:
        """Whether new requests like this may be sent here: in use, with the model and the route."""
        return not self.spec.draining and self.holds(request)

    def holds(self, request: Profile) -> bool:
        """Whether the node is enabled and has model and route, even if it is being emptied."""
        return self.spec.enabled and self.has_model(request) and request.route not in self.missing

    def has_model(self, request: Profile) -> bool:
        """Whether the model is installed here, or the node is the one for models that are not installed anywhere."""
        return self.cloud if request.remote else request.key in self.models

    def weights_of(self, key: str) -> str:
        """What identifies the loaded weights behind a name: the digest, since two names may share one runner."""
        model = self.models.get(key)
        return model.digest if model is not None and model.digest else key

    def slots_of(self, key: str) -> int:
        """Requests that the model serves at a time here; a model that only embeds has one slot, as in Ollama."""
        model = self.models.get(key)
        if model is not None and "embedding" in model.capabilities and "completion" not in model.capabilities:
            return 1
        return self.spec.slots

    def success_rate(self, now: float) -> float:
        """A rate in (0, 1] that drops with failures and heals with time."""
        if self.failing < 0.01:  # noqa: PLR2004 (healed)
            return 1.0
        return 1.0 - min(0.95, self.failing * math.exp((self.failing_at - now) / SUCCESS_MEMORY))

    def count_failure(self, now: float) -> None:
        self.failures += 1
        self.failing = 1.0 - self.success_rate(now) * 0.7
        self.failing_at = now

    def set_inventory(self, models: Iterable[InstalledModel], at: float) -> bool:
        """Take a newer list of installed models; true if it differs from the one known."""
        if at < self.inventory_at:
            return False
        fresh = {model.key: model for model in models}
        changed = fresh != self.models
        self.models, self.inventory_at = fresh, at
        return changed

    def set_residents(self, residents: Iterable[ResidentModel]) -> None:
        self.resident = {resident.digest or resident.key: resident for resident in residents}
        for weights in self.loaded_with.keys() - self.resident.keys() - self.by_weights.keys():
            del self.loaded_with[weights]
        for lease in self.leases:
            # It is loaded, whether or not the request that caused it has its first byte yet.
            lease.answered = lease.answered or lease.weights in self.resident

    @property
    def loading(self) -> bool:
        """Whether a request of ours is causing a model to load here."""
        return any(lease.cold and not lease.answered for lease in self.leases)

    @property
    def in_flight(self) -> int:
        """Requests that this gateway has running here."""
        return len(self.leases) + len(self.remote_leases)

    @property
    def used(self) -> bool:
        """Whether new requests may be sent here as far as the operator is concerned."""
        return self.spec.enabled and not self.spec.draining
