"""What one gateway knows of each node right now; owned by one event loop, read by nobody else."""

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from routing.core.breaker import Breaker, BreakerState
from routing.core.concurrency import WorkClock
from routing.core.health import Health
from routing.core.requests import Profile
from routing.core.snapshot import InstalledModel, NodeSpec
from routing.core.versions import missing_routes

if TYPE_CHECKING:
    from routing.core.load import Load
    from routing.core.tickets import Lease

#: Seconds in which a node's bad success rate fades by a factor e.
SUCCESS_MEMORY = 20.0
#: Seconds over which a model's use on a node is averaged.
USE_MEMORY = 120.0
#: Looks before the way to a node is believed to be known, and seconds by which ways are told apart.
RTT_LOOKS, RTT_STEP = 5, 0.02
#: Unknown routes remembered of one node, and for how many seconds.
MOST_DENIED, DENIED_S = 200, 60.0
#: What may have been worked out from one node's state at a time.
MOST_READERS = 2000


class Kept(NamedTuple):
    """A runner that a request has waited for too long: no other may begin on what is in its way, `blocked`."""

    weights: str
    num_ctx: int | None
    blocked: frozenset[str]


class Reader(Protocol):
    """Something worked out from a node's state: `pile` is where it is put when that holds no longer."""

    pile: list[Any]
    fresh: bool


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
    `changes` counts what has changed of all that a decision reads, and `readers` are told by the next change;
    `clock` tells how much work sequences got done, `cold` are leases whose model is being loaded, `load` is what
    all that runs here amounts to, worked out since the last change; `sizes` are the bytes that models were seen to
    take when loaded, `held` how many requests wait for this node and `uses` how often models were asked
    for lately, each by weights; `kept` names a runner that has been waited for too long, and what is not to be used
    any more until it has its room; `quickest` is the quickest answer of `looked` looks and `rtt` the same in
    coarse steps, in seconds.
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
    health: Health = field(default_factory=lambda: Health(lambda: random.uniform(0.8, 1.2)))
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
    changes: int = 0
    readers: list[Reader] = field(default_factory=list)
    cold: set["Lease"] = field(default_factory=set)
    load: "Load | None" = None
    clock: WorkClock = field(default_factory=WorkClock)
    sizes: dict[str, int] = field(default_factory=dict)
    kept: "Kept | None" = None
    quickest: float = math.inf
    looked: int = 0
    rtt: float = 0.0
    held: dict[str, float] = field(default_factory=dict)
    uses: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.missing = missing_routes(self.version)

    def read_by(self, reader: Reader) -> None:
        """Something was worked out from this state. Places of kinds that are gone are heard of no more, but stay here
        until the next change: where that does not come, many make one.
        """
        if len(self.readers) >= MOST_READERS:
            self.touch()
        self.readers.append(reader)

    def touch(self) -> None:
        """Something that a decision reads has changed: what was worked out from it holds no longer."""
        self.changes += 1
        self.load = None
        for reader in self.readers:
            reader.fresh = False
            reader.pile.append(reader)
        self.readers.clear()

    def set_version(self, version: str) -> None:
        """Take the version that the node tells; another one may have other routes."""
        if version != self.version:
            self.version = version
            self.denied.clear()
            self.missing = missing_routes(version)
            self.touch()

    def lacks(self, path: str, now: float) -> None:
        """The node does not know this route. That is believed for a while: a proxy in front of it may say so, too."""
        if len(self.denied) >= MOST_DENIED:
            del self.denied[next(iter(self.denied))]
        self.denied[path] = now + DENIED_S
        self.missing |= {path}
        self.touch()

    def doubt(self, now: float = math.inf) -> None:
        """Forget what was answered as unknown so long ago that it is worth asking again; without a time, all of it."""
        if self.denied and min(self.denied.values()) <= now:
            self.denied = {path: until for path, until in self.denied.items() if until > now}
            self.missing = missing_routes(self.version) | self.denied.keys()
            self.touch()

    def observe_rtt(self, seconds: float) -> None:
        """Take how long a look took. A busy node answers late; the way to it is as long as its quickest answers.

        In whole steps: what is near is equally near, so that chance does not choose between equals.
        """
        self.looked += 1
        self.quickest = min(seconds, self.quickest * 1.05)
        if self.looked >= RTT_LOOKS:
            rtt = RTT_STEP * (self.quickest // RTT_STEP)
            if rtt != self.rtt:
                self.rtt = rtt
                self.touch()

    def offers(self, request: Profile) -> bool:
        """Whether new requests like this may be sent here: in use, with the model and the route."""
        return not self.spec.draining and self.holds(request)

    def holds(self, request: Profile) -> bool:
        """Whether the node is enabled and has labels, model and route, even if it is being emptied."""
        labels = self.spec.labels
        return (
            self.spec.enabled
            and self.has_model(request)
            and request.route not in self.missing
            and all(labels.get(name) == value for name, value in request.labels)
        )

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
        self.touch()

    def set_inventory(self, models: Iterable[InstalledModel], at: float) -> bool:
        """Take a newer list of installed models; true if it differs from the one known."""
        if at < self.inventory_at:
            return False
        fresh = {model.key: model for model in models}
        changed = fresh != self.models
        self.models, self.inventory_at = fresh, at
        if changed:
            self.touch()
        return changed

    def set_residents(self, residents: Iterable[ResidentModel]) -> bool:
        """Take what is loaded; true if that differs from what was known."""
        fresh = {resident.digest or resident.key: resident for resident in residents}
        changed = fresh != self.resident
        self.resident = fresh
        self.sizes |= {weights: resident.size for weights, resident in fresh.items() if resident.size}
        for weights in self.loaded_with.keys() - self.resident.keys() - self.by_weights.keys():
            del self.loaded_with[weights]
        for lease in [lease for lease in self.cold if lease.weights in fresh]:
            # It is loaded, whether or not the request that caused it has its first byte yet.
            self.loaded(lease)
            changed = True
        if changed:
            self.touch()
        return changed

    def loaded(self, lease: "Lease") -> None:
        """A lease's model is loaded; if the lease has waited for that, it gets work done from now on."""
        lease.answered = True
        if lease in self.cold:
            self.cold.discard(lease)
            lease.prompt_at, lease.output_at = self.clock.prompt, self.clock.output

    def count_use(self, weights: str, now: float) -> None:
        self.uses[weights] = (self.use_rate(weights, now) + 1.0 / USE_MEMORY, now)

    def use_rate(self, weights: str, now: float) -> float:
        """Requests per second that the model has had here lately."""
        rate, at = self.uses.get(weights, (0.0, now))
        return rate * math.exp((at - now) / USE_MEMORY)

    @property
    def breaker(self) -> Breaker:
        """The breaker of the node as a whole."""
        return self.health.node

    def broken_models(self) -> list[str]:
        """The models whose breakers keep requests away, by key where the node lists them."""
        names = {self.weights_of(key): key for key in self.models}
        broken = self.health.models.items()
        return sorted(names.get(one, one) for one, breaker in broken if breaker.state is not BreakerState.CLOSED)

    @property
    def running(self) -> int:
        """Sequences that run here, as far as this gateway knows; who waits for a model to load does not."""
        if not self.cold:
            return len(self.leases)
        waiting = {lease.weights for lease in self.cold}
        return sum(lease.weights not in waiting for lease in self.leases)

    @property
    def loading(self) -> bool:
        """Whether a request of ours is causing a model to load here."""
        return bool(self.cold)

    @property
    def in_flight(self) -> int:
        """Requests that this gateway has running here."""
        return len(self.leases) + len(self.remote_leases)

    @property
    def used(self) -> bool:
        """Whether new requests may be sent here as far as the operator is concerned."""
        return self.spec.enabled and not self.spec.draining
