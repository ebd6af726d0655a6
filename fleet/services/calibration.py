"""Measures a node: a few real requests to its models, and what their answers say becomes what is known of its speed."""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import httpx
from django.db import transaction
from django.utils import timezone
from django_q.tasks import async_task

from fleet.models import LearnedSpeed, Node, NodeEvent, NodeModel, lock
from fleet.models.node import GIB
from fleet.services.learning import learn
from fleet.services.probe import Installed, Resident, Unanswered, ask, installed_of, name_of, resident_of, rows_of
from routing.core import learned as core
from routing.core.learner import prior
from routing.core.names import canonical, is_cloud
from routing.core.snapshot import InstalledModel, NodeSpec

#: Models of one node that are measured, and the seconds after which no further request is made.
MODELS, SECONDS = 3, 90.0
#: What a measurement counts for, in observations: enough to outweigh a guess, few enough to be corrected by real work.
COUNTS_FOR = 5
#: Words in the prompt that is timed (about 512 tokens) and tokens of the answer that is timed.
WORDS, ANSWER = 440, 64
#: Characters of context that a word may need at most, in tokens; longer prompts than the context holds are cut.
TOKENS_OF_WORD = 2
#: A second round, of which the faster one counts, where the first took no longer than this: traffic only slows down.
ROUND_S = 5.0
#: A model that has to be loaded may take this part of the memory that is free; where that is unknown, this many bytes.
FIT, SMALL = 0.8, 8 * GIB
#: Models that a node keeps loaded where it does not say.
LOADED = 3
#: What was loaded only to be measured goes soon; what was loaded before keeps its time.
KEEP_ALIVE = "1m"
#: A file of a model is larger than this; smaller ones are stubs of models that run elsewhere.
STUB = 1 << 20

BEGUN, DONE, FAILED = "measuring", "measured", "not_measured"
VOCABULARY = (
    "river", "valley", "morning", "light", "comes", "over", "old", "stone", "houses", "while", "birds", "sing", "about",
    "summer", "rain", "winter", "wind", "moves", "through", "tall", "trees", "near", "quiet", "village", "market",
    "where", "farmers", "sell", "bread", "apples", "honey", "and", "fresh", "milk", "before", "noon",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one model's requests told, in seconds per token and per load; None where nothing did."""

    name: str
    prompt_s: float | None = None
    output_s: float | None = None
    load_s: float | None = None

    def __str__(self) -> str:
        parts = [
            *([] if self.prompt_s is None else [f"{1 / self.prompt_s:,.0f} tokens/s in"]),
            *([] if self.output_s is None else [f"{1 / self.output_s:,.1f} tokens/s out"]),
            *([] if self.load_s is None else [f"loads in {self.load_s:.1f} s"]),
        ]
        return f"{self.name}: {', '.join(parts)}"


@dataclass(frozen=True, slots=True)
class Calibration:
    """What measuring a node came to; `faults` are in words for an operator."""

    measured: tuple[Measurement, ...] = ()
    faults: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "; ".join([*map(str, self.measured), *self.faults])


@dataclass(slots=True)
class Bench:
    """The node under measurement, and the time that is left."""

    node: Node
    client: httpx.Client
    until: float
    dice: random.Random = field(default_factory=random.Random)

    @property
    def left(self) -> float:
        return self.until - time.monotonic()

    def ask(self, path: str, body: Any) -> dict[str, Any]:
        left = self.left
        if left <= 0:
            raise Unanswered("no time was left for it")
        return ask(self.node, self.client, "POST", path, {**body, "stream": False}, left)

    def words(self, most: int) -> str:
        """A text that no cache of prompts has seen the beginning of."""
        return " ".join([f"{self.dice.randrange(10**6)}", *self.dice.choices(VOCABULARY, k=most)])


def calibrate(
    node: Node,
    tell: Callable[[str], None] | None = None,
    transport: httpx.BaseTransport | None = None,
    models: int = MODELS,
    seconds: float = SECONDS,
) -> Calibration:
    """Measure a node with real requests, and keep the result; `tell` gets a line for each step.

    Only models that are loaded, or that fit beside those, are asked: nothing that clients use is unloaded.
    Whatever the node does is told, not raised.
    """
    if not begin(node, seconds):
        return Calibration(faults=("it is being measured already",))
    with httpx.Client(transport=transport, trust_env=False, follow_redirects=False) as client:
        found = measured(Bench(node, client, time.monotonic() + seconds), tell or (lambda _line: None), models)
    note(node, DONE if found.measured else FAILED, str(found))
    return found


def note(node: Node, kind: str, detail: str = "") -> None:
    kept = Node.objects.filter(pk=node.pk).first()  # it may have been deleted meanwhile
    NodeEvent.objects.create(node=kept, node_name=node.name, at=timezone.now(), kind=kind, detail=detail)


def begin(node: Node, seconds: float) -> bool:
    """Note that the node is being measured; false if somebody does so already."""
    with transaction.atomic():
        lock()
        kinds = NodeEvent.objects.filter(node=node, kind__in=(BEGUN, DONE, FAILED))
        last = kinds.filter(at__gt=timezone.now() - timedelta(seconds=seconds)).first()
        if last is not None and last.kind == BEGUN:
            return False
        note(node, BEGUN)
    return True


def measured(bench: Bench, tell: Callable[[str], None], models: int) -> Calibration:
    try:
        chosen = list(choices(bench, models))
    except Unanswered as error:
        return Calibration(faults=(str(error),))
    if not chosen:
        return Calibration(faults=("no model is loaded, or fits into the memory that is free",))
    found: dict[str, tuple[Installed, Measurement]] = {}
    faults = []
    for model, resident, embeds in chosen:
        tell(f"{model.name} ...")
        try:
            measurement = measure(bench, model, resident, embeds)
        except Unanswered as error:
            faults.append(f"{model.name}: {error}")
            tell(faults[-1])
            continue
        found[model.weights] = model, measurement
        tell(str(measurement))
    if found:
        learn(bench.node, speeds(bench.node, found.values()))
    return Calibration(tuple(measurement for _, measurement in found.values()), tuple(faults))


def choices(bench: Bench, models: int) -> Iterator[tuple[Installed, Resident | None, bool]]:
    """The models to measure, loaded ones first, then small ones; each with whether it only embeds."""
    node, client = bench.node, bench.client
    told = ask(node, client, "GET", "/api/tags")
    elsewhere = {canonical(name_of(row)) for row in rows_of(told, "/api/tags") if row.get("remote_host")}
    resident = {row.key: row for row in resident_of(ask(node, client, "GET", "/api/ps"))}
    abilities = dict(NodeModel.objects.filter(node=node).values_list("key", "capabilities"))
    room = free_memory(node, resident.values())
    places = (node.max_loaded or LOADED) - len(resident)
    weights: set[str] = set()
    for model in sorted(installed_of(told), key=lambda row: (row.key not in resident, row.size)):
        if model.weights in weights or model.size < STUB or model.key in elsewhere or is_cloud(model.name):
            continue
        able = set(abilities.get(model.key) or ("completion",))
        if not able & {"completion", "embedding"}:
            continue
        loaded = resident.get(model.key)
        if loaded is None and (places < 1 or model.size > room):
            continue
        if loaded is None:
            places, room = places - 1, room - model.size / FIT
        weights.add(model.weights)
        yield model, loaded, "completion" not in able
        if len(weights) >= models:
            return


def free_memory(node: Node, resident: Iterable[Resident]) -> float:
    """Bytes that a model's file may have to be loaded beside the others."""
    configured = node.vram_gb if node.node_class == "gpu" else node.ram_gb
    taken = sum(row.size for row in resident)
    if configured is None:
        return 0.0 if taken else float(SMALL)
    return float(configured * GIB - taken) * FIT


def measure(bench: Bench, model: Installed, resident: Resident | None, embeds: bool) -> Measurement:
    """Warm the model up, then time it; of two rounds the faster one counts. Raises Unanswered."""
    options: dict[str, Any] = {}
    body: dict[str, Any] = {"model": model.name}
    words = WORDS
    if resident is None:
        body["keep_alive"] = KEEP_ALIVE
    elif resident.context:
        # Another context size than the one it was loaded with would make the node load it anew.
        options["num_ctx"] = resident.context
        words = max(1, min(WORDS, (resident.context - ANSWER) // TOKENS_OF_WORD))
    time_one = embed if embeds else complete
    load_s = time_one(bench, body, options, 1).load_s
    began = time.monotonic()
    result = time_one(bench, body, options, words)
    took = time.monotonic() - began
    if took < ROUND_S and bench.left > ROUND_S:
        again = time_one(bench, body, options, words)
        result = Measurement("", least(result.prompt_s, again.prompt_s), least(result.output_s, again.output_s))
    if result.prompt_s is None and result.output_s is None:
        raise Unanswered("its answers tell no durations")
    return replace(result, name=model.name, load_s=load_s if resident is None else None)


def least(one: float | None, other: float | None) -> float | None:
    return min((value for value in (one, other) if value is not None), default=None)


def complete(bench: Bench, body: Any, options: Any, words: int) -> Measurement:
    """One prompt with a single token of answer, and, save for a warm-up, one answer."""
    prompt = {**body, "prompt": bench.words(words), "options": {**options, "num_predict": 1}}
    answer = bench.ask("/api/generate", prompt)
    prompt_s, load_s = each(answer, "prompt_eval"), seconds_of(answer, "load_duration")
    if words == 1:
        return Measurement("", prompt_s, None, load_s)
    task = f"{bench.words(3)}. Count from one to one hundred in words."
    answer = bench.ask("/api/generate", {**body, "prompt": task, "options": {**options, "num_predict": ANSWER}})
    return Measurement("", prompt_s, each(answer, "eval"), load_s)


def embed(bench: Bench, body: Any, options: Any, words: int) -> Measurement:
    answer = bench.ask("/api/embed", {**body, "input": bench.words(words), "options": options})
    load_s, total = seconds_of(answer, "load_duration"), seconds_of(answer, "total_duration")
    count = answer.get("prompt_eval_count")
    known = total is not None and isinstance(count, int) and count > 0
    prompt_s = ((total or 0.0) - (load_s or 0.0)) / (count or 1) if known else None
    return Measurement("", prompt_s if prompt_s and prompt_s > 0 else None, None, load_s)


def each(answer: dict[str, Any], work: str) -> float | None:
    """Seconds for each token; None where the answer does not tell."""
    count, seconds = answer.get(f"{work}_count"), seconds_of(answer, f"{work}_duration")
    return seconds / count if seconds and isinstance(count, int) and count > 0 else None


def seconds_of(answer: dict[str, Any], name: str) -> float | None:
    value = answer.get(name)
    return value / 1e9 if isinstance(value, int) and value > 0 else None


def speeds(node: Node, found: Iterable[tuple[Installed, Measurement]]) -> list[core.LearnedSpeed]:
    """What was measured, over what was known; a guess where neither tells anything."""
    known = {row.weights: row for row in LearnedSpeed.objects.filter(node=node)}
    return [speed(node, model, measurement, known.get(model.weights)) for model, measurement in found]


def speed(node: Node, model: Installed, measurement: Measurement, known: LearnedSpeed | None) -> core.LearnedSpeed:
    spec = NodeSpec(
        node.pk,
        node.name,
        node.url,
        node_class=node.node_class,
        vram_bytes=None if node.vram_gb is None else int(node.vram_gb * GIB),
    )
    guess = prior(spec, InstalledModel(model.key, model.name, model.digest, model.size))

    def value(part: str, guessed: float) -> tuple[float, int]:
        new = getattr(measurement, f"{part}_s")
        if new is not None:
            return new, COUNTS_FOR
        return (guessed, 0) if known is None else (getattr(known, f"{part}_s"), getattr(known, f"{part}_seen"))

    return core.LearnedSpeed(
        node.pk,
        model.weights,
        model.key,
        *value("prompt", guess.prompt.value),
        *value("output", guess.output.value),
        *value("load", guess.load.value),
    )


def queue(nodes: Sequence[Node]) -> None:
    """Have the background worker measure the nodes; the result comes as an event of each node."""
    for node in nodes:
        async_task("fleet.tasks.calibration.measure", node.pk, task_name=f"measure {node.name}"[:100])
