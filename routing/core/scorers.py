"""Scorers: what placing a request on a node costs, in expected seconds, term by term."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from routing.core.learner import OVERHEAD, Learner, Speeds, slowdown
from routing.core.snapshot import InstalledModel
from routing.core.state import NodeState, ResidentModel
from routing.core.tickets import Lease, Ticket

#: A loaded model takes more memory than its file: context and buffers.
MEMORY_FACTOR = 1.15
#: Models that Ollama keeps loaded at most where nothing was configured (OLLAMA_MAX_LOADED_MODELS: 3 per GPU, 3 on a
#: CPU).
MAX_LOADED = 3
#: A model used within this many seconds is likely to be wanted again; evicting it costs its load in full.
RECENTLY = 60.0
#: Share of its load time that evicting a model not used recently is counted with.
COLD_EVICTION = 0.3


@dataclass(slots=True)
class Candidate:
    """A node that passed the filters, with everything that the terms read about it.

    `solo` is the seconds the request would take alone on the loaded model; `ours` the leases that already use the same
    runner; `reserved` the seconds of work that requests ahead in the queue are waiting to run there; `costs` the
    weighted terms in the strategy's order.
    """

    ticket: Ticket
    node: NodeState
    now: float
    model: InstalledModel
    weights: str
    speeds: Speeds
    slots: int
    ours: frozenset[Lease] | set[Lease]
    solo: float
    warm: bool
    reserved: float
    victims: tuple[str, ...]
    blockers: tuple[Lease, ...]
    learner: Learner
    num_ctx: int | None = None
    remote: bool = False
    costs: list[float] = field(default_factory=list)

    @property
    def size(self) -> float:
        """Bytes of memory that the model takes when loaded."""
        return 0.0 if self.remote else self.model.size * MEMORY_FACTOR

    @property
    def condition(self) -> str:
        """The state in which the node's runner would meet the request, in a word for headers and logs."""
        if self.warm:
            return "cloud" if self.remote else "warm"
        return "joins-load" if self.ours else "loads-model"

    @property
    def starts_now(self) -> bool:
        """Whether the node would begin the request at once, or begin to load its model at once."""
        if self.reserved or len(self.ours) >= self.slots:
            return False
        if self.warm or self.ours:
            return True
        return not self.blockers and not self.node.loading


NONE: frozenset[Lease] = frozenset()
#: Seconds of work that requests ahead are waiting to run, by (node id, weights).
Reserved = Mapping[tuple[int, str], float]


def candidate(
    ticket: Ticket, node: NodeState, now: float, learner: Learner, answer_tokens: float, reserved: Reserved
) -> Candidate:
    """Look at one node for one request that is expected to be answered with `answer_tokens`."""
    request = ticket.request
    if request.remote or node.models[request.key].remote:
        return remote_candidate(ticket, node, now, learner, answer_tokens)
    model = node.models[request.key]
    weights = model.digest or model.key
    speeds = learner.of(node.spec, weights, model)
    ours = node.by_weights.get(weights, NONE)
    resident = node.resident.get(weights)
    warm = resident is not None
    blockers: tuple[Lease, ...] = ()
    victims: tuple[str, ...] = ()
    wanted = context_of(request.num_ctx, model)
    if resident is None and not ours:
        victims, blockers = displaced(node, model)
    elif any(lease.num_ctx != wanted for lease in ours) or (
        resident is not None and not has_context(node, resident, weights, wanted)
    ):
        # Another context size is another runner: Ollama waits for all who use this one, then loads anew.
        warm, blockers = False, tuple(ours)
        ours = NONE
    solo = OVERHEAD + request.prompt_tokens * speeds.prompt.value + answer_tokens * speeds.output.value
    ahead = reserved.get((node.spec.id, weights), 0.0) if reserved else 0.0
    slots = node.slots_of(request.key)
    return Candidate(
        ticket, node, now, model, weights, speeds, slots, ours, solo, warm, ahead, victims, blockers, learner, wanted
    )


def remote_candidate(ticket: Ticket, node: NodeState, now: float, learner: Learner, answer_tokens: float) -> Candidate:
    """A node that hands the request on to ollama.com: no slot, no memory, always ready."""
    request = ticket.request
    model = node.models.get(request.key) or InstalledModel(request.key, request.model)
    weights = f"remote {request.key}"
    speeds = learner.of(node.spec, weights, None)
    solo = OVERHEAD + request.prompt_tokens * speeds.prompt.value + answer_tokens * speeds.output.value
    return Candidate(
        ticket, node, now, model, weights, speeds, 1, NONE, solo, True, 0.0, (), (), learner, None, remote=True
    )


def context_of(num_ctx: int | None, model: InstalledModel) -> int | None:
    """The context size that a node makes of the one asked for: at least 4, at most what the model was made for."""
    if num_ctx is None:
        return None
    return max(4, min(num_ctx, model.context_length or num_ctx))


def has_context(node: NodeState, resident: ResidentModel, weights: str, wanted: int | None) -> bool:
    """Whether a loaded model serves a request without a reload; automatic sizes are equal to each other only."""
    if wanted is None:
        return node.loaded_with.get(weights) is None
    return wanted in {node.loaded_with.get(weights), resident.context_length} or not resident.context_length


def displaced(node: NodeState, model: InstalledModel) -> tuple[tuple[str, ...], tuple[Lease, ...]]:
    """The idle residents that must go for `model` to be loaded, and the running leases that must end first.

    A model that is being loaded for a request of ours takes its room already. Idle models go before busy ones, those
    used longest ago first.
    """
    spec = node.spec
    capacity = spec.ram_bytes if spec.node_class == "cpu" else spec.vram_bytes
    rooms: dict[str, float] = {weights: resident.size for weights, resident in node.resident.items()}
    rooms |= {lease.weights: lease.size for lease in node.leases if lease.weights not in rooms}
    places = (spec.max_loaded or MAX_LOADED) - len(rooms)
    free = math.inf if capacity is None else capacity - sum(rooms.values())
    need = model.size * MEMORY_FACTOR
    victims: list[str] = []
    blockers: list[Lease] = []
    for weights in sorted(rooms, key=lambda one: (one in node.by_weights, node.used_at.get(one, 0.0))):
        if places > 0 and need <= free:
            break
        if busy := node.by_weights.get(weights):
            blockers.extend(busy)
        else:
            victims.append(weights)
        places += 1
        free += rooms[weights]
    return tuple(victims), tuple(blockers)


def start(c: Candidate) -> float:
    """Seconds until the node can begin: a slot, a load, the end of what is in the way, and what is reserved ahead."""
    now = c.now
    wait = c.reserved / c.slots
    if len(c.ours) >= c.slots:
        wait += min(lease.remaining(now) for lease in c.ours)
    if c.warm:
        return wait
    if c.ours:
        # The model is being loaded for another request of ours; this one joins it.
        begun = min(lease.started_at for lease in c.ours)
        return wait + max(0.0, begun + c.speeds.load.value - now)
    if c.blockers:
        wait += max(lease.remaining(now) for lease in c.blockers)
    loading = [lease for lease in c.node.leases if lease.cold and not lease.answered]
    for lease in loading:
        wait += max(0.0, lease.started_at + lease.speeds.load.value - now)
    return wait + c.speeds.load.value


def run(c: Candidate) -> float:
    """Seconds that the request itself takes beside what already runs on the node."""
    if c.remote:
        return c.solo
    return c.solo * slowdown(c.node.spec.node_class, len(c.node.leases) + 1)


def others(c: Candidate) -> float:
    """Seconds by which the request delays those already running.

    Min(their rest, their number x solo) x the slowdown added.
    """
    leases = c.node.leases
    if not leases or c.remote:
        return 0.0
    kind, running = c.node.spec.node_class, len(leases)
    added = slowdown(kind, running + 1) - slowdown(kind, running)
    return min(sum(lease.remaining(c.now) for lease in leases), running * c.solo) * added


def evict(c: Candidate) -> float:
    """Seconds of loading that evicted models will cost those who want them next."""
    cost = 0.0
    for weights in c.victims:
        speeds = c.learner.speeds.get((c.node.spec.id, weights))
        load = speeds.load.value if speeds else c.speeds.load.value
        recently = c.now - c.node.used_at.get(weights, float("-inf")) < RECENTLY
        cost += load if recently else load * COLD_EVICTION
    return cost


def gpu(c: Candidate) -> float:
    """Seconds added on a CPU node to a request that needs a GPU: as long again as it runs."""
    return c.solo if c.ticket.request.needs_gpu and c.node.spec.node_class == "cpu" and not c.remote else 0.0


Term = Callable[[Candidate], float]
