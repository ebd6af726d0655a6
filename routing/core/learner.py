"""Speeds of nodes and lengths of answers, learned from what every answer reports; seeded by the node's class."""

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from routing.core.learned import Learned, LearnedLength, LearnedNode, LearnedSpeed, LearnedText
from routing.core.requests import Profile, Task
from routing.core.snapshot import InstalledModel, NodeSpec

GIB = 1 << 30
#: Weight of one observation in the running mean of a logarithm.
STEP = 0.1
LEAST, MOST = 1e-9, 1e7
#: How many observations a prior counts for.
PRIOR = 0.25
#: One observation moves an estimate by at most this factor, so that a hiccup cannot spoil it.
CLIP = math.log(4.0)
#: How a node's total speed grows with k requests at once: k ** ALPHA, before it is learned, and between which bounds.
ALPHA = {"gpu": 0.65, "cpu": 0.35}
ALPHA_STEP, ALPHA_BOUNDS = 0.02, (0.05, 0.95)
#: What one answer says of the node as a whole (a brown-out shows on all models at once), and for how long it holds.
BIAS_STEP, BIAS_S, BIAS_BOUNDS = 0.3, 60.0, (-0.7, 1.6)
#: Seconds that any request costs beside its tokens.
OVERHEAD = 0.015
#: Characters for which the analysis counts one token of ordinary text.
CHARACTERS = 4.0

#: Tokens that an answer is expected to have before any was seen, and how many answers that guess counts for.
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
GUESS_COUNTS = 3.0
#: Speeds from which on guesses are not kept: any client can name models that ollama.com may have.
SPEEDS = 20_000
#: Answers of one kind that are remembered, and how many new ones come before their distribution is worked out anew.
LAST, AFRESH = 256, 16
#: Lengths, spread evenly over the distribution, for which it is worked out how long answers of that length go on.
AGES = 12
#: The share of answers that are no longer than what a long run is judged by.
LIKELY = 0.95


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


class Expectation(NamedTuple):
    """Tokens that a request is expected to have: in its prompt, in its answer, and what the answer hardly exceeds."""

    prompt: float
    output: float
    longest: float


class LogMean:
    """A running mean of logarithms.

    Right for rates, whose errors are factors. `value` is read often, written rarely.
    """

    __slots__ = ("log", "seen", "value")

    def __init__(self, value: float, seen: int = 0) -> None:
        self.value = value
        self.log = math.log(value)
        self.seen = seen

    def take(self, observed: float, bias: float = 0.0) -> float:
        """Learn from one observation, and return by what logarithm it was beyond the estimate and `bias`.

        The first observations weigh more, so that a wrong prior is forgotten within a few answers. What no clock or
        counter can have told (zero, endless) is not believed.
        """
        if not LEAST < observed < MOST:
            return 0.0
        step = max(STEP, 1.0 / (self.seen + 1 + PRIOR))
        error = math.log(observed) - self.log - bias
        change = max(-CLIP, min(CLIP, error)) if self.seen else error
        self.log += step * change
        self.value = math.exp(self.log)
        self.seen += 1
        return change


@dataclass(slots=True)
class Speeds:
    """One model on one node, alone: seconds per prompt token, per answer token, and per load.

    `guess` is what the first two were guessed to be before anything was seen.
    """

    prompt: LogMean
    output: LogMean
    load: LogMean
    model: str = ""
    guess: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if self.guess == (0.0, 0.0):
            self.guess = (self.prompt.value, self.output.value)

    @property
    def measured(self) -> bool:
        """Whether anything of it is more than a guess."""
        return bool(self.prompt.seen or self.output.seen or self.load.seen)


@dataclass(slots=True)
class Pace:
    """A node as a whole: how it takes several requests at once, and by what factor it is slower than usual just now.

    `bias` is the logarithm of that factor, which fades within minutes.
    """

    alpha: float
    seen: int = 0
    bias: float = 0.0
    bias_at: float = 0.0

    def slower(self, now: float) -> float:
        """The logarithm of the factor by which the node is slower than usual now."""
        if self.bias == 0.0:
            return 0.0
        return self.bias * math.exp((self.bias_at - now) / BIAS_S)

    def take_bias(self, error: float, now: float) -> None:
        low, high = BIAS_BOUNDS
        self.bias = max(low, min(high, self.slower(now) + BIAS_STEP * error))
        self.bias_at = now

    def take_alpha(self, error: float, running: float) -> None:
        """Normalised least mean squares: an error that grows with the logarithm of k is the exponent's."""
        x = math.log(running)
        low, high = ALPHA_BOUNDS
        self.alpha = max(low, min(high, self.alpha - ALPHA_STEP * error * x / (1.0 + x * x)))
        self.seen += 1


class Lengths:
    """The last answers of one model to one kind of task, in tokens: mean, quantiles, and what is left of a long one."""

    __slots__ = ("_ages", "_fresh", "_rest", "_sorted", "guess", "last", "seen", "total")

    def __init__(self, guess: float, last: Iterable[int] = (), seen: int = 0) -> None:
        self.guess = guess
        self.last: deque[int] = deque(last, maxlen=LAST)
        self.total = float(sum(self.last))
        self.seen = max(seen, len(self.last))
        self._fresh = 0
        self._sorted: list[int] = sorted(self.last)
        self._ages: list[float] = []
        self._rest: list[float] = []

    def take(self, tokens: int) -> None:
        if len(self.last) == LAST:
            self.total -= self.last[0]
        self.last.append(tokens)
        self.total += tokens
        self.seen += 1
        self._fresh += 1

    @property
    def mean(self) -> float:
        """The expected length; the guess counts as a few answers."""
        return (self.total + GUESS_COUNTS * self.guess) / (len(self.last) + GUESS_COUNTS)

    def quantile(self, share: float) -> float:
        """The length that this share of answers does not exceed; a guess while there are none."""
        self._work_out()
        if not self._sorted:
            return self.guess * (1.0 + 2.0 * share)
        return float(self._sorted[min(len(self._sorted) - 1, int(share * len(self._sorted)))])

    def left(self, written: float) -> float:
        """Tokens that an answer is expected to go on for after `written`: the mean residual life of the last ones.

        Lengths are spread so widely that a long answer is likely to be longer still.
        """
        if self._fresh >= AFRESH or not self._sorted:
            self._work_out()
        if not self._ages:
            return max(self.mean - written, 0.5 * self.mean)
        i = bisect_right(self._ages, written) - 1
        return self._rest[max(0, i)]

    def _work_out(self) -> None:
        if self._sorted and self._fresh < AFRESH:
            return
        if not self.last:
            return
        self._fresh = 0
        values = self._sorted = sorted(self.last)
        count = len(values)
        self._ages, self._rest = [0.0], [self.mean]
        for step in range(1, AGES):
            i = count * step // AGES
            age = float(values[i])
            beyond = values[i + 1 :]
            if age <= self._ages[-1] or len(beyond) < 8:  # noqa: PLR2004 (fewer say nothing)
                continue
            self._ages.append(age)
            self._rest.append(sum(beyond) / len(beyond) - age)


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
        model=model.key if model else "",
    )


@dataclass(slots=True)
class Learner:
    """Speeds by (node id, weights), paces by node id, answer lengths by (task, model key), token ratios by model key.

    `texts` holds the factor from the analysis' estimate of a prompt's tokens to what the nodes count, `classes` those
    by which guesses for nodes of a class were off, for prompts and for answers.
    """

    speeds: dict[tuple[int, str], Speeds] = field(default_factory=dict)
    paces: dict[int, Pace] = field(default_factory=dict)
    lengths: dict[tuple[Task, str], Lengths] = field(default_factory=dict)
    texts: dict[str, LogMean] = field(default_factory=dict)
    classes: dict[str, tuple[LogMean, LogMean]] = field(default_factory=dict)

    def of(self, node: NodeSpec, weights: str, model: InstalledModel | None) -> Speeds:
        found = self.speeds.get((node.id, weights))
        if found is None:
            if len(self.speeds) >= SPEEDS:
                self.speeds = {key: one for key, one in self.speeds.items() if one.measured}
            found = self.speeds[node.id, weights] = prior(node, model)
        return found

    def solo(self, node: NodeSpec, speeds: Speeds) -> tuple[float, float]:
        """Seconds alone for a prompt token and an answer token; a guess is scaled as guesses for its class were off.

        So a node that was never measured is not left alone because those that were are faster than one would guess.
        """
        prompt, output = speeds.prompt.value, speeds.output.value
        factors = None if speeds.output.seen and speeds.prompt.seen else self.classes.get(node.node_class)
        if factors is None:
            return prompt, output
        return (
            prompt if speeds.prompt.seen else prompt * factors[0].value,
            output if speeds.output.seen else output * factors[1].value,
        )

    def pace(self, node: NodeSpec) -> Pace:
        found = self.paces.get(node.id)
        if found is None:
            found = self.paces[node.id] = Pace(ALPHA[node.node_class])
        return found

    def lengths_of(self, request: Profile) -> Lengths:
        """To look at: nothing is kept of a request that may never be sent anywhere."""
        return self.lengths.get((request.task, request.key)) or UNSEEN[request.task]

    def kept_lengths(self, request: Profile) -> Lengths:
        """The same to learn from, or to be told what is learned meanwhile."""
        key = (request.task, request.key)
        found = self.lengths.get(key)
        if found is None:
            found = self.lengths[key] = Lengths(ANSWER_TOKENS[request.task])
        return found

    def prompt_tokens(self, request: Profile) -> float:
        """Tokens that the nodes will probably count in the prompt."""
        factor = self.texts.get(request.key)
        return request.prompt_tokens * factor.value if factor is not None else float(request.prompt_tokens)

    def expectation(self, request: Profile) -> Expectation:
        """The tokens that a request will probably have, its answer never more than the client allows."""
        prompt = self.prompt_tokens(request)
        if request.loads_only:
            return Expectation(prompt, 0.0, 0.0)
        learned = self.lengths_of(request)
        output, longest = learned.mean, learned.quantile(LIKELY)
        if request.max_tokens is not None:
            most = float(request.max_tokens)
            output, longest = min(output, most), min(longest, most)
        return Expectation(prompt, output, longest)

    def learn(
        self,
        node: NodeSpec,
        speeds: Speeds,
        request: Profile,
        metrics: Metrics,
        now: float,
        share: tuple[float, float] = (1.0, 1.0),
        running: float = 1.0,
    ) -> None:
        """Feed one answer.

        `share` is the part of solo speed that the request had for its prompt and for its answer, `running` the number
        that ran on the node on average meanwhile.
        """
        pace = self.pace(node)
        bias = pace.slower(now)
        off = self.classes.get(node.node_class)
        if off is None:
            off = self.classes[node.node_class] = (LogMean(1.0), LogMean(1.0))
        if metrics.prompt_tokens > 0 and metrics.prompt_s > 0:
            alone = max(0.0, metrics.prompt_s - OVERHEAD / 2) / metrics.prompt_tokens * share[0]
            speeds.prompt.take(alone, bias)
            off[0].take(alone / speeds.guess[0])
        if metrics.output_tokens > 1 and metrics.output_s > 0:
            known = speeds.output.seen
            alone = metrics.output_s / metrics.output_tokens * share[1]
            error = speeds.output.take(alone, bias)
            off[1].take(alone / speeds.guess[1])
            if known > 1:
                pace.take_bias(error, now)
                if running > 1.0:
                    pace.take_alpha(error, running)
        if metrics.counted:
            self._learn_text(request, metrics)

    def _learn_text(self, request: Profile, metrics: Metrics) -> None:
        if metrics.output_tokens > 0 and not metrics.cut:
            self.kept_lengths(request).take(metrics.output_tokens)
        # A prompt that the node had in its cache is counted in part by some versions; short ones are all template.
        if request.prompt_tokens > 20 and metrics.prompt_tokens > request.prompt_tokens // 4:  # noqa: PLR2004
            factor = self.texts.get(request.key)
            if factor is None:
                factor = self.texts[request.key] = LogMean(1.0)
            factor.take(metrics.prompt_tokens / request.prompt_tokens)

    def forget(self, nodes: Iterable[int]) -> None:
        """Drop what was learned of some nodes: the next answers start from their classes again."""
        gone = set(nodes)
        self.speeds = {key: speeds for key, speeds in self.speeds.items() if key[0] not in gone}
        self.paces = {node: pace for node, pace in self.paces.items() if node not in gone}

    # Over a restart

    def learned(self) -> Learned:
        """What is known beyond guesses, to be kept."""
        return Learned(
            tuple(
                LearnedSpeed(
                    node,
                    weights,
                    one.model,
                    one.prompt.value,
                    one.prompt.seen,
                    one.output.value,
                    one.output.seen,
                    one.load.value,
                    one.load.seen,
                )
                for (node, weights), one in self.speeds.items()
                if one.measured
            ),
            tuple(LearnedNode(node, pace.alpha, pace.seen) for node, pace in self.paces.items() if pace.seen),
            tuple(
                LearnedLength(task.value, model, one.mean, one.seen, tuple(one.last))
                for (task, model), one in self.lengths.items()
                if one.seen
            ),
            tuple(LearnedText(model, CHARACTERS / one.value, one.seen) for model, one in self.texts.items()),
        )

    def take(self, learned: Learned, nodes: Iterable[int] | None = None) -> None:
        """Read what was kept; with `nodes`, only what it says of those."""
        wanted = None if nodes is None else set(nodes)
        for row in learned.speeds:
            if wanted is None or row.node_id in wanted:
                self.speeds[row.node_id, row.weights] = Speeds(
                    LogMean(row.prompt_s, row.prompt_seen),
                    LogMean(row.output_s, row.output_seen),
                    LogMean(row.load_s, row.load_seen),
                    row.model,
                )
        for kept in learned.nodes:
            if wanted is None or kept.node_id in wanted:
                self.paces[kept.node_id] = Pace(kept.alpha, kept.seen)
        if wanted is not None:
            return
        for length in learned.lengths:
            if length.task in TASKS:
                task = TASKS[length.task]
                self.lengths[task, length.model] = Lengths(ANSWER_TOKENS[task], length.last, length.seen)
        for text in learned.texts:
            self.texts[text.model] = LogMean(CHARACTERS / text.characters_per_token, text.seen)


#: What is expected of answers of which none has been seen; only read.
UNSEEN: Mapping[Task, Lengths] = {task: Lengths(guess) for task, guess in ANSWER_TOKENS.items()}
TASKS: Mapping[str, Task] = {task.value: task for task in Task}
