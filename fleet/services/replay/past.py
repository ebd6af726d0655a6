"""What happened, as requests that can come once more: lengths from the tokens recorded, arrivals as they were."""

import statistics
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from fleet.selectors.recorded import Recorded
from routing.core.learner import ANSWER_TOKENS
from routing.core.names import canonical, is_cloud
from routing.core.records import Outcome
from routing.core.requests import Complexity, Profile, Route, Task
from routing.whatif.faults import Fault
from routing.whatif.traffic import Asked

#: Seconds after which a client gives up of whom nothing else is known; those who waited longer get twice their time.
PATIENCE_S = 600.0
#: Tokens of a prompt of which nothing is known.
PROMPT_TOKENS = 200.0
ROUTES: Mapping[str, Route] = {route.value: route for route in Route}
TASKS: Mapping[str, Task] = {task.value: task for task in Task}


@dataclass(frozen=True, slots=True)
class Happened:
    """One recorded request: as it is asked again, and how it went; times in seconds."""

    asked: Asked
    model: str
    team_id: int | None
    node_id: int | None
    served: bool
    total_s: float
    queue_s: float


@dataclass(frozen=True, slots=True)
class Past:
    """The recorded requests of a span in the order of their arrival, from `begin` on.

    `left_out` counts by reason what cannot be replayed, `guessed` requests whose length had to be.
    """

    begin: datetime
    seconds: float
    happened: Sequence[Happened]
    outages: Sequence[Fault] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    guessed: int = 0


class Length(NamedTuple):
    """Tokens of a prompt and of an answer."""

    prompt: float
    answer: float


def past(
    rows: Sequence[Recorded],
    offered: Collection[str],
    token_s: Mapping[tuple[int, str], float],
    outages: Sequence[Fault] = (),
) -> Past:
    """The past of these rows, in the order of their arrival.

    `offered` are the models that any node has; `token_s` the seconds per token of an answer by (node, model), to tell
    how far an answer had come that was cut.
    """
    usual = usual_lengths(rows)
    left_out: Counter[str] = Counter()
    happened: list[Happened] = []
    guessed = 0
    for row in rows:
        key = canonical(row.model) if row.model else ""
        reason = why_not(row, key, offered)
        if reason:
            left_out[reason] += 1
            continue
        length = length_of(row, key, usual, token_s)
        guessed += row.output_tokens is None
        asked = Asked(
            len(happened),
            (row.started_at - rows[0].started_at).total_seconds(),
            profile(row, key, length),
            round(length.answer),
            patience(row),
        )
        happened.append(
            Happened(
                asked,
                row.model,
                row.team_id,
                row.node_id,
                row.outcome == Outcome.SERVED.value,
                row.total_ms / 1000,
                row.queue_ms / 1000,
            )
        )
    seconds = (rows[-1].started_at - rows[0].started_at).total_seconds()
    return Past(rows[0].started_at, seconds, happened, outages, left_out, guessed)


def only(past: Past, wanted: Callable[[Happened], bool]) -> Past:
    """The past of some requests alone."""
    return replace(past, happened=[one for one in past.happened if wanted(one)])


def why_not(row: Recorded, key: str, offered: Collection[str]) -> str:
    """Why a request cannot be replayed; empty if it can."""
    if row.route not in ROUTES or not key:
        return "other than inference"
    if is_cloud(row.model):
        return "for models at ollama.com"
    if row.outcome == Outcome.REFUSED.value:
        return "refused at once"
    if row.outcome == Outcome.FAILED.value and row.output_tokens is None:
        return "failed without an answer"
    if key not in offered:
        return f"for {row.model}, which no node has"
    return ""


def usual_lengths(rows: Iterable[Recorded]) -> Mapping[tuple[str, str], Length]:
    """Median lengths by (task, model key); under an empty key those of the task."""
    seen: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for row in rows:
        if row.prompt_tokens is not None and row.output_tokens is not None and row.outcome == Outcome.SERVED.value:
            for key in (canonical(row.model), ""):
                seen.setdefault((row.task_type, key), []).append((row.prompt_tokens, row.output_tokens))
    return {
        kind: Length(statistics.median(prompt for prompt, _ in some), statistics.median(answer for _, answer in some))
        for kind, some in seen.items()
    }


def length_of(
    row: Recorded, key: str, usual: Mapping[tuple[str, str], Length], token_s: Mapping[tuple[int, str], float]
) -> Length:
    """What was counted; where nothing was, what usually is, and of an answer that was cut what had come."""
    guess = usual.get((row.task_type, key)) or usual.get((row.task_type, "")) or prior(row)
    prompt = guess.prompt if row.prompt_tokens is None else float(row.prompt_tokens)
    if row.output_tokens is not None:
        return Length(prompt, float(row.output_tokens))
    per_token = token_s.get((row.node_id or 0, key))
    if row.outcome == Outcome.CANCELLED.value and row.first_byte_ms is not None and per_token:
        return Length(prompt, min(guess.answer, (row.total_ms - row.first_byte_ms) / 1000 / per_token))
    return Length(prompt, guess.answer)


def prior(row: Recorded) -> Length:
    return Length(PROMPT_TOKENS, ANSWER_TOKENS[TASKS.get(row.task_type, Task.GENERATION)])


def patience(row: Recorded) -> float:
    """How long its client waits: one that left before the first byte would have left then again."""
    if row.outcome == Outcome.CANCELLED.value and row.first_byte_ms is None:
        return row.total_ms / 1000
    return max(PATIENCE_S, 2 * row.total_ms / 1000)


def profile(row: Recorded, key: str, length: Length) -> Profile:
    """What the gateway saw of it."""
    task = TASKS.get(row.task_type, Task.GENERATION)
    known = row.complexity in {one.value for one in Complexity}
    complexity = Complexity(row.complexity) if known else Complexity.SIMPLE
    return Profile(
        ROUTES[row.route],
        row.model,
        key,
        row.stream,
        task,
        complexity,
        needs_gpu=complexity is not Complexity.SIMPLE and task is not Task.EMBEDDING,
        prompt_tokens=round(length.prompt),
        priority=row.priority,
        team_id=row.team_id,
    )
