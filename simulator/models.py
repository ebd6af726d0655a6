"""What a model is to a node: its size, shape, abilities and identity; and a small catalogue."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from typing import Literal

PrefillStyle = Literal["continue", "restart", "trim"]

CHAT = ("completion",)
CHAT_TOOLS = ("completion", "tools")


@dataclass(frozen=True)
class ModelSpec:
    """One model file with its manifest.

    weights_bytes is the file's size. Memory for the context is `kv_bytes_per_token` for each token of each
    slot. `prefill` says what the model does with a conversation that ends in an assistant message: `continue`
    goes on where it stops, `trim` goes on but drops the white space in front of the continuation, `restart`
    answers from the beginning. `answer_tokens` are the fewest and the most tokens of an answer that stops by
    itself. `revision` changes every digest: the same name with other content. `weights_sha256` names weights that
    were uploaded. With `remote_host` the model is a stub: `remote_model` runs there, and nothing of it is here.
    """

    name: str
    weights_bytes: int = 2_000_000_000
    parameters: float = 3e9
    layers: int = 28
    kv_heads: int = 8
    head_dim: int = 128
    train_context: int = 131_072
    embedding_length: int = 3072
    capabilities: tuple[str, ...] = CHAT
    family: str = "llama"
    parameter_size: str = "3.2B"
    quantization: str = "Q4_K_M"
    prefill: PrefillStyle = "continue"
    answer_tokens: tuple[int, int] = (20, 120)
    system: str = ""
    revision: str = ""
    weights_sha256: str = ""
    remote_host: str = ""
    remote_model: str = ""
    license: str = field(default="A licence text for a simulated model.\n", repr=False)

    @cached_property
    def weights_digest(self) -> str:
        """64 hex digits that name the weights file; one runner serves all names with the same weights."""
        return (
            self.weights_sha256
            or sha256(f"weights\n{self.name}\n{self.weights_bytes}\n{self.revision}".encode()).hexdigest()
        )

    @cached_property
    def digest(self) -> str:
        """64 hex digits that name the manifest, as tags and ps show them."""
        return sha256(f"manifest\n{self.weights_digest}\n{self.system}".encode()).hexdigest()

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token in all layers, two bytes each."""
        return 2 * self.layers * self.kv_heads * self.head_dim * 2

    @property
    def can_chat(self) -> bool:
        return "completion" in self.capabilities

    def with_revision(self, revision: str) -> "ModelSpec":
        """The same name with other content: digests and texts differ."""
        return replace(self, revision=revision)


CATALOGUE: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec("llama3.2:3b", 2_019_393_189, 3.2e9, capabilities=CHAT_TOOLS),
        ModelSpec(
            "llama3.1:8b",
            4_920_753_328,
            8e9,
            layers=32,
            embedding_length=4096,
            capabilities=CHAT_TOOLS,
            parameter_size="8.0B",
        ),
        ModelSpec(
            "qwen3:8b",
            5_225_388_164,
            8.2e9,
            layers=36,
            train_context=40_960,
            embedding_length=4096,
            capabilities=("completion", "tools", "thinking"),
            family="qwen3",
            parameter_size="8.2B",
        ),
        ModelSpec(
            "qwen2.5-coder:7b",
            4_683_087_332,
            7.6e9,
            kv_heads=4,
            train_context=32_768,
            embedding_length=3584,
            capabilities=("completion", "tools", "insert"),
            family="qwen2",
            parameter_size="7.6B",
        ),
        ModelSpec(
            "qwen2.5:14b",
            8_988_124_069,
            14.8e9,
            layers=48,
            train_context=32_768,
            embedding_length=5120,
            capabilities=CHAT_TOOLS,
            family="qwen2",
            parameter_size="14.8B",
        ),
        ModelSpec(
            "gemma3:4b",
            3_338_801_804,
            4.3e9,
            layers=34,
            kv_heads=4,
            head_dim=256,
            embedding_length=2560,
            capabilities=("completion", "vision"),
            family="gemma3",
            parameter_size="4.3B",
            prefill="restart",
        ),
        ModelSpec(
            "deepseek-r1:32b",
            19_851_337_640,
            32.8e9,
            layers=64,
            embedding_length=5120,
            capabilities=("completion", "thinking"),
            family="qwen2",
            parameter_size="32.8B",
            prefill="trim",
        ),
        ModelSpec(
            "nomic-embed-text:latest",
            274_302_450,
            137e6,
            layers=12,
            kv_heads=12,
            head_dim=64,
            train_context=2048,
            embedding_length=768,
            capabilities=("embedding",),
            family="nomic-bert",
            parameter_size="137M",
            quantization="F16",
        ),
        ModelSpec(
            "whisper-sim:latest",
            1_533_774_080,
            1.55e9,
            layers=32,
            head_dim=64,
            embedding_length=1280,
            capabilities=("completion", "audio"),
            family="whisper",
            parameter_size="1.5B",
            quantization="F16",
        ),
    )
}
ON_REQUEST = frozenset({"whisper-sim:latest"})
"""Models of the catalogue that a node has only when it is told to."""
