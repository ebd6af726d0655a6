"""The simulated machines as they truly are; a router is told their `NodeSpec` alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from routing.core.snapshot import InstalledModel, NodeSpec

GIB = 1 << 30
#: Seconds that any request costs a node beside its tokens.
OVERHEAD_S = 0.015
#: Seconds of an answer's token that no bandwidth shortens, and seconds of a load that no disk does.
TOKEN_S, LOAD_S = 0.002, 0.8
#: Models that Ollama keeps loaded where the operator named no number.
MOST_LOADED = 3


@dataclass(frozen=True, slots=True)
class Runnable:
    """One model on one machine, alone: seconds per prompt token, per answer token and per load.

    `weights` is what a runner holds (two names may share it), `slots` the requests it works on at a time, `memory` the
    bytes it takes when loaded.
    """

    key: str
    weights: str
    slots: int
    prompt_s: float
    output_s: float
    load_s: float
    memory: float

    def seconds(self, prompt_tokens: float, output_tokens: float) -> float:
        """How long a request takes alone, the model being loaded."""
        return OVERHEAD_S + prompt_tokens * self.prompt_s + output_tokens * self.output_s


@dataclass(frozen=True, slots=True)
class Machine:
    """One Ollama server: `models` by key, `memory` in bytes that its runners share.

    With k requests at work each gets on at k ** (alpha - 1) of its speed alone while it answers, and at
    k ** (prompt_alpha - 1) while its prompt is read, which batching hardly helps. A runner that was idle for
    `keep_alive_s` goes; more than `most_queued` waiting requests are refused. `rtt_s` is there and back.
    """

    spec: NodeSpec
    models: Mapping[str, Runnable]
    memory: float
    alpha: float
    prompt_alpha: float = 0.1
    most_loaded: int = MOST_LOADED
    keep_alive_s: float = 300.0
    most_queued: int = 512
    rtt_s: float = 0.002


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model apart from any machine: its file in bytes, its parameters in billions.

    `context` is the bytes that the contexts of one runner take beside the file.
    """

    name: str
    size: float
    parameters_b: float
    context: float
    capabilities: tuple[str, ...] = ("completion",)

    @property
    def memory(self) -> float:
        return self.size + self.context


@dataclass(frozen=True, slots=True)
class Hardware:
    """A kind of machine.

    Memory in bytes, memory bandwidth and disk in bytes per second; `prompt_rate` is the prompt tokens per second of a
    model with a billion parameters.
    """

    node_class: str
    memory: float
    bandwidth: float
    prompt_rate: float
    disk: float
    slots: int
    alpha: float
    most_loaded: int = 4


def machine(number: int, name: str, hardware: Hardware, files: Iterable[ModelFile], **told: float) -> Machine:
    """A machine with those of the models that fit into its memory; `told` is what else its operator says of it."""
    fitting = [file for file in files if file.memory <= hardware.memory]
    gpu = hardware.node_class == "gpu"
    spec = NodeSpec(
        number,
        name,
        f"http://{name}:11434",
        node_class=hardware.node_class,
        slots=hardware.slots,
        vram_bytes=int(hardware.memory) if gpu else None,
        ram_bytes=None if gpu else int(hardware.memory),
        max_loaded=hardware.most_loaded,
        models=tuple(installed(file) for file in fitting),
        **told,  # type: ignore[arg-type]  # weight and cost_per_hour only
    )
    runnable = {file.name: on(hardware, file) for file in fitting}
    return Machine(spec, MappingProxyType(runnable), hardware.memory, hardware.alpha, most_loaded=hardware.most_loaded)


def installed(file: ModelFile) -> InstalledModel:
    """The model as a node lists it."""
    return InstalledModel(
        file.name,
        file.name,
        f"sha256:{file.name}",
        int(file.size),
        frozenset(file.capabilities),
        file.parameters_b,
    )


def on(hardware: Hardware, file: ModelFile) -> Runnable:
    """How a model runs on a kind of machine.

    An answer's token reads all weights once, so it takes size / bandwidth; a prompt's token is arithmetic.
    """
    return Runnable(
        file.name,
        f"sha256:{file.name}",
        hardware.slots if "completion" in file.capabilities else 1,
        file.parameters_b / hardware.prompt_rate,
        file.size / hardware.bandwidth + TOKEN_S,
        LOAD_S + file.size / hardware.disk,
        file.memory,
    )
