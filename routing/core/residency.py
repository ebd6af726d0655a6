"""What is in a node's memory, what must go for another model, and whether a loaded model serves a request as it is."""

import math

from routing.core.snapshot import InstalledModel
from routing.core.state import NodeState, ResidentModel
from routing.core.tickets import Lease

#: A loaded model takes more memory than its file: context and buffers.
MEMORY_FACTOR = 1.15
#: Models that Ollama keeps loaded at most where nothing was configured (OLLAMA_MAX_LOADED_MODELS: 3 per GPU, 3 on a
#: CPU).
MAX_LOADED = 3


def context_of(num_ctx: int | None, model: InstalledModel) -> int | None:
    """The context size that a node makes of the one asked for: at least 4, at most what the model was made for."""
    if num_ctx is None:
        return None
    return max(4, min(num_ctx, model.context_length or num_ctx))


def has_context(node: NodeState, resident: ResidentModel, weights: str, wanted: int | None) -> bool:
    """Whether a loaded model serves a request without a reload; automatic sizes are equal to each other only."""
    if wanted is None:
        return node.loaded_with.get(weights) is None
    known = node.loaded_with.get(weights)
    return wanted in {known, resident.context_length} or (known is None and not resident.context_length)


def size_of(node: NodeState, model: InstalledModel, weights: str) -> float:
    """Bytes that the model takes when loaded: as the node has told it before, else guessed from the file."""
    return node.sizes.get(weights) or model.size * MEMORY_FACTOR


def displaced(node: NodeState, model: InstalledModel, weights: str) -> tuple[tuple[str, ...], tuple[Lease, ...]]:
    """The idle residents that must go for `model` to be loaded, and the running leases that must end first.

    A model that is being loaded for a request of ours takes its room already. Idle models go before busy ones, those
    used longest ago first.
    """
    spec = node.spec
    capacity = spec.ram_bytes if spec.node_class == "cpu" else spec.vram_bytes
    rooms: dict[str, float] = {one: resident.size for one, resident in node.resident.items()}
    rooms |= {lease.weights: lease.size for lease in node.leases if lease.weights not in rooms}
    places = (spec.max_loaded or MAX_LOADED) - len(rooms)
    free = math.inf if capacity is None else capacity - sum(rooms.values())
    need = size_of(node, model, weights)
    victims: list[str] = []
    blockers: list[Lease] = []
    if places > 0 and need <= free:
        return (), ()
    for one in sorted(rooms, key=lambda one: (one in node.by_weights, node.used_at.get(one, 0.0))):
        if places > 0 and need <= free:
            break
        if busy := node.by_weights.get(one):
            blockers.extend(busy)
        else:
            victims.append(one)
        places += 1
        free += rooms[one]
    return tuple(victims), tuple(blockers)
