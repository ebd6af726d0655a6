"""Machines out of what a gateway has learned of its nodes, and out of the priors of their class where it has not."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from routing.core.learned import Learned, LearnedSpeed
from routing.core.learner import ALPHA, prior
from routing.core.snapshot import FleetSnapshot, InstalledModel, NodeSpec
from routing.whatif.machines import MOST_LOADED, Machine, Runnable

#: A loaded model takes more memory than its file: context and buffers.
MEMORY_FACTOR = 1.15
#: Observations from which on a speed counts as measured.
MEASURED = 3


class Grounds(NamedTuple):
    """On how much knowledge a fleet of machines stands: pairs of node and model in all, and those measured."""

    pairs: int
    measured: int


def machines_of(snapshot: FleetSnapshot, learned: Learned) -> list[Machine]:
    """The fleet's enabled nodes, as fast as they have been; their models at ollama.com are left out."""
    speeds = {(speed.node_id, speed.weights): speed for speed in learned.speeds}
    alphas = {node.node_id: node.alpha for node in learned.nodes if node.seen >= MEASURED}
    return [
        machine_of(spec, speeds, alphas.get(spec.id, ALPHA[spec.node_class]))
        for spec in snapshot.nodes
        if spec.enabled and not spec.draining
    ]


def grounds(snapshot: FleetSnapshot, learned: Learned) -> Grounds:
    """How much of a fleet was measured."""
    seen = {(one.node_id, one.weights) for one in learned.speeds if max(one.output_seen, one.prompt_seen) >= MEASURED}
    pairs = [(spec.id, model.digest or model.key) for spec in snapshot.nodes for model in spec.models if spec.enabled]
    return Grounds(len(pairs), sum(pair in seen for pair in pairs))


def machine_of(spec: NodeSpec, speeds: Mapping[tuple[int, str], LearnedSpeed], alpha: float) -> Machine:
    """One node; where its memory is not known, everything fits."""
    known = spec.ram_bytes if spec.node_class == "cpu" else spec.vram_bytes
    memory = math.inf if known is None else float(known)
    models = {
        model.key: runnable(spec, model, speeds.get((spec.id, model.digest or model.key)), memory)
        for model in spec.models
        if not model.remote
    }
    return Machine(spec, MappingProxyType(models), memory, alpha, most_loaded=spec.max_loaded or MOST_LOADED)


def runnable(spec: NodeSpec, model: InstalledModel, speed: LearnedSpeed | None, memory: float) -> Runnable:
    """One model on one node. A model larger than the memory takes all of it, the rest of it runs on the processor."""
    guess = prior(spec, model)
    only_embeds = "embedding" in model.capabilities and "completion" not in model.capabilities
    return Runnable(
        model.key,
        model.digest or model.key,
        1 if only_embeds else spec.slots,
        speed.prompt_s if speed and speed.prompt_seen else guess.prompt.value,
        speed.output_s if speed and speed.output_seen else guess.output.value,
        speed.load_s if speed and speed.load_seen else guess.load.value,
        min(model.size * MEMORY_FACTOR, memory),
    )
