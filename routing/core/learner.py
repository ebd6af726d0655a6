"""Speeds of nodes and lengths of answers, learned from what every answer reports; seeded by the node's class."""

import math
from dataclasses import dataclass, field

from routing.core.requests import Profile, Task
from routing.core.snapshot import InstalledModel, NodeSpec

GIB = 1 << 30
#: Weight of one observation in the running mean of a logarithm.
STEP = 0.2
LEAST, MOST = 1e-9, 1e7
#: How many observations a prior counts for.
PRIOR = 0.25
#: One observation moves an estimate by at most this factor, so that a hiccup cannot spoil it.
CLIP = math.log(4.0)
#: How a node's total speed grows with k requests at once: k ** ALPHA.
ALPHA = {"gpu": 0.65, "cpu": 0.35}
SLOWDOWN = {kind: [1.0, *(k ** (1.0 - alpha) for k in range(1, 65))] for kind, alpha in ALPHA.items()}
#: Seconds that any request costs beside its tokens.
OVERHEAD = 0.015

#: Tokens that an answer is expected to have before any was seen.
ANSWER_TOKENS = {
    Task.GENERATION: 250.0,
    Task.CHAT: 250.0,
    Task.EMBEDDING: 0.0,
    Task.CLASSIFICATION: 15.0,
    Task.EXTRACTION: 120.0,
    Task.SUMMARIZATION: 200.0,
    Task.ANALYSIS: 450.0,
    Task.TRANSCRIPTION: 100.0,
}


@dataclass(frozen=True, slots=True)
class Metrics:
    """What an answer told about the work: tokens, and the node's own durations in seconds (0 where it said nothing).

    `counted`: the node told the tokens, else they are estimates. `cut`: the client's limit ended the answer.
    """

    prompt_tokens: int = 0
    output_tokens: int = 0
    prompt_s: float = 0.0
    output_s: float = 0.0
    load_s: float = 0.0
    total_s: float = 0.0
    counted: bool = True
    cut: bool = False


class LogMean:
    """A running mean of logarithms.

    Right for rates, whose errors are factors. `value` is read often, written rarely.
    """

    __slots__ = ("log", "seen", "value")

    def __init__(self, value: float) -> None:
        self.value = value
        self.log = math.log(value)
        self.seen = 0

    def take(self, observed: float) -> None:
        """The first observations weigh more, so that a wrong prior is forgotten within a few answers.

        What no clock or counter can have told (zero, endless) is not believed.
        """
        if not LEAST < observed < MOST:
            return
        step = max(STEP, 1.0 / (self.seen + 1 + PRIOR))
        change = math.log(observed) - self.log
        if self.seen:
            change = max(-CLIP, min(CLIP, change))
        self.log += step * change
        self.value = math.exp(self.log)
        self.seen += 1


@dataclass(slots=True)
class Speeds:
    """One model on one node, alone: seconds per prompt token, per answer token, and per load."""

    prompt: LogMean
    output: LogMean
    load: LogMean


def prior(node: NodeSpec, model: InstalledModel | None) -> Speeds:
    """Speeds to expect of a node that was never measured.

    Decoding reads all weights once per token, so its time is size / memory bandwidth; a prompt is bound by arithmetic,
    so its time is proportional to the parameters; a load reads the file from disk. Rates by class are those of common
    hardware.
    """
    size = (model.size if model else 0) or 5 * GIB
    billions = (model.parameters_b if model else None) or size / GIB / 0.6
    if node.node_class == "cpu":
        bandwidth, prompt_rate, disk = 80.0 * GIB, 1000.0, 0.6 * GIB
    else:
        memory = (node.vram_bytes or 16 * GIB) / GIB
        bandwidth, prompt_rate, disk = (120 + 17 * memory) * GIB, 1600 * memory, 1.5 * GIB
    return Speeds(
        prompt=LogMean(billions / prompt_rate),
        output=LogMean(size / bandwidth + 0.002),
        load=LogMean(0.8 + size / disk),
    )


@dataclass(slots=True)
class Learner:
    """Learned speeds by (node id, weights) and answer lengths by (task, model key)."""

    speeds: dict[tuple[int, str], Speeds] = field(default_factory=dict)
    lengths: dict[tuple[Task, str], LogMean] = field(default_factory=dict)

    def of(self, node: NodeSpec, weights: str, model: InstalledModel | None) -> Speeds:
        found = self.speeds.get((node.id, weights))
        if found is None:
            found = self.speeds[node.id, weights] = prior(node, model)
        return found

    def answer_tokens(self, request: Profile) -> float:
        """Tokens that the answer is expected to have, never more than the client allows."""
        if request.loads_only:
            return 0.0
        learned = self.lengths.get((request.task, request.key))
        expected = learned.value if learned else ANSWER_TOKENS[request.task]
        return expected if request.max_tokens is None else min(expected, float(request.max_tokens))

    def learn(self, speeds: Speeds, request: Profile, metrics: Metrics, node_class: str, concurrency: float) -> None:
        """Feed one answer; `concurrency` is the mean number of requests that ran on the node meanwhile."""
        alone = max(1.0, concurrency) ** (1.0 - ALPHA[node_class]) if concurrency > 1.0 else 1.0
        if metrics.prompt_tokens > 0 and metrics.prompt_s > 0:
            speeds.prompt.take(metrics.prompt_s / metrics.prompt_tokens / alone)
        if metrics.output_tokens > 1 and metrics.output_s > 0:
            speeds.output.take(metrics.output_s / metrics.output_tokens / alone)
        if metrics.output_tokens > 0 and not metrics.cut:
            key = (request.task, request.key)
            known = self.lengths.get(key)
            if known is None:
                known = self.lengths[key] = LogMean(max(1.0, ANSWER_TOKENS[request.task]))
            known.take(float(metrics.output_tokens))


def slowdown(node_class: str, running: int) -> float:
    """How much longer a request takes when `running` run at once: k ** (1 - alpha)."""
    table = SLOWDOWN[node_class]
    return table[running] if running < len(table) else float(running ** (1.0 - ALPHA[node_class]))
