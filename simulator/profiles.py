"""Hardware of simulated nodes: memory, speed, and the settings an operator would have given to Ollama."""

import math
from dataclasses import dataclass

from simulator.models import CATALOGUE, ON_REQUEST, ModelSpec

GIB = 1024**3
AUTO_CONTEXT_TIERS = ((23 * GIB, 4096), (47 * GIB, 32_768))
AUTO_CONTEXT_MOST = 262_144
# The scheduler calls a model fitting when it needs at most this part of the free memory.
FIT_SHARE = 0.8


@dataclass(frozen=True)
class Profile:
    """One kind of machine.

    Memory is in bytes, bandwidth in bytes per second, compute in usable floating point operations per second.
    A model decodes at bandwidth / bytes read per token and evaluates prompts at compute / (2 x parameters);
    `decode_rate` and `prefill_rate` (tokens per second, one sequence alone) replace these when they are given.
    With k sequences in a runner each runs at k**(alpha - 1) of its speed alone. `instant` removes the time
    model: loads, prompts and tokens take no time.
    """

    name: str
    vram_bytes: int
    ram_bytes: int = 32 * GIB
    gpu_bandwidth: float = 0.0
    cpu_bandwidth: float = 40e9
    gpu_compute: float = 0.0
    cpu_compute: float = 1e12
    alpha: float = 0.6
    parallel: int = 4
    max_loaded: int = 3
    max_queue: int = 512
    keep_alive: float = 300.0
    context_length: int = 4096
    load_bytes_per_second: float = 1.5e9
    load_fixed: float = 1.2
    unload_recovery: float = 0.75
    download_bytes_per_second: float = 120e6
    decode_rate: float | None = None
    prefill_rate: float | None = None
    jitter: float = 0.0
    instant: bool = False

    @property
    def has_gpu(self) -> bool:
        return self.vram_bytes > 0

    @property
    def memory_bytes(self) -> int:
        """The memory that runners share: of the GPU, or of the machine where there is none."""
        return self.vram_bytes or self.ram_bytes

    def default_context(self) -> int:
        """num_ctx of a request that names none: the operator's, or chosen by the memory of the GPU."""
        if self.context_length:
            return self.context_length
        for below, tokens in AUTO_CONTEXT_TIERS:
            if self.vram_bytes < below:
                return tokens
        return AUTO_CONTEXT_MOST

    def slots(self, spec: ModelSpec) -> int:
        """Requests that one runner of this model works on at once; models that only embed have one."""
        return self.parallel if spec.can_chat else 1

    def needed_bytes(self, spec: ModelSpec, num_ctx: int, num_batch: int = 512) -> int:
        """Memory of a runner: file, keys and values of every slot, and the buffers of a batch."""
        surcharge = num_batch * spec.embedding_length * 64
        return spec.weights_bytes + spec.kv_bytes_per_token * num_ctx * self.slots(spec) + surcharge

    def decode_seconds(self, spec: ModelSpec, gpu_share: float) -> float:
        """Seconds per token for one sequence alone, when this share of the model is on the GPU."""
        if self.instant:
            return 0.0
        if self.decode_rate:
            return 1.0 / self.decode_rate
        on_gpu = spec.weights_bytes * gpu_share
        seconds = (spec.weights_bytes - on_gpu) / self.cpu_bandwidth
        return seconds + (on_gpu / self.gpu_bandwidth if on_gpu else 0.0)

    def prefill_seconds(self, spec: ModelSpec, gpu_share: float) -> float:
        """Seconds per prompt token for one sequence alone, when this share of the model is on the GPU."""
        if self.instant:
            return 0.0
        if self.prefill_rate:
            return 1.0 / self.prefill_rate
        operations = 2 * spec.parameters
        seconds = operations * (1 - gpu_share) / self.cpu_compute
        return seconds + (operations * gpu_share / self.gpu_compute if gpu_share else 0.0)

    def load_seconds(self, spec: ModelSpec) -> float:
        return 0.0 if self.instant else self.load_fixed + spec.weights_bytes / self.load_bytes_per_second

    def slowdown(self, sequences: int) -> float:
        """Speed of each of so many sequences of one runner, as a part of the speed of one alone."""
        return math.pow(sequences, self.alpha - 1.0) if sequences > 1 else 1.0

    def catalogue(self) -> list[ModelSpec]:
        """The models of the catalogue that fit into this machine's memory."""
        context = self.default_context()
        usual = [spec for spec in CATALOGUE.values() if spec.name not in ON_REQUEST]
        return [spec for spec in usual if self.needed_bytes(spec, context) <= self.memory_bytes]


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            "gpu-24gb", 24 * GIB, ram_bytes=64 * GIB, gpu_bandwidth=650e9, gpu_compute=50e12, load_bytes_per_second=2e9
        ),
        Profile("gpu-16gb", 16 * GIB, gpu_bandwidth=350e9, gpu_compute=30e12),
        Profile("gpu-8gb", 8 * GIB, gpu_bandwidth=220e9, gpu_compute=12e12, parallel=2, load_bytes_per_second=1e9),
        Profile(
            "cpu-32",
            0,
            ram_bytes=32 * GIB,
            cpu_bandwidth=60e9,
            cpu_compute=1.2e12,
            alpha=0.35,
            parallel=2,
            load_fixed=0.6,
            unload_recovery=0.0,
        ),
        Profile(
            "instant",
            1024 * GIB,
            ram_bytes=64 * GIB,
            parallel=64,
            max_loaded=8,
            unload_recovery=0.0,
            download_bytes_per_second=1e12,
            instant=True,
        ),
    )
}
