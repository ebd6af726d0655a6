"""What a replay tells: how well the model repeats what happened, then the variants beside each other."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fleet.management.bars import bars, seconds, table
from fleet.services.replay.fidelity import Fidelity
from fleet.services.replay.past import Past
from fleet.services.replay.runs import Seen, Told, change
from routing.whatif.profiles import Grounds

#: Models that the table of models shows; the others are left to --json.
MOST_MODELS = 12


@dataclass(frozen=True, slots=True)
class Replay:
    """Everything that is told: `told` begins with the runs of the fleet and the policy as they are."""

    past: Past
    subject: str
    grounds: Grounds
    recorded: Seen
    told: Sequence[Told]
    fidelity: Fidelity


def text(replay: Replay) -> str:
    return "\n".join((*head(replay), *repeated(replay), *compared(replay)))


def head(replay: Replay) -> Iterator[str]:
    past, grounds = replay.past, replay.grounds
    yield (
        f"{replay.recorded.total.count} served requests{replay.subject} of {len(past.happened)} that are replayed, "
        f"from {past.begin:%Y-%m-%d %H:%M} on, {duration(past.seconds)}"
    )
    for reason, count in past.left_out.items():
        yield f"  left out: {count} {reason}"
    if past.guessed:
        yield f"  {past.guessed} answers of unknown length are taken to be as long as usual, or as far as they had come"
    if past.outages:
        yield f"  nodes were away {len(past.outages)} times; so they are in the model"
    yield f"  {knowledge(grounds)}"
    yield ""


def knowledge(grounds: Grounds) -> str:
    """On what the speeds of the model stand."""
    if not grounds.measured:
        return (
            "nothing was learned of these nodes yet: their speeds are guessed from their class, so expect large errors "
            "(manage.py calibrate measures them)"
        )
    guessed = grounds.pairs - grounds.measured
    rest = f", {guessed} are guessed from the node's class" if guessed else ""
    return f"speeds: {grounds.measured} of {grounds.pairs} pairs of node and model are measured{rest}"


def repeated(replay: Replay) -> Iterator[str]:
    """What happened beside what the model makes of it."""
    recorded, told = replay.recorded, replay.told[0]
    yield "What happened, and the same in the model (seconds: happened > model)"
    columns = ("", "requests", "mean", "p50", "p95", "queue mean", "queue p50", "queue p95")
    rows = [model_row("all", (recorded.total, recorded.queue), [(run.total, run.queue) for run in told.runs])]
    largest = sorted(recorded.models, key=lambda name: -recorded.models[name][0].count)[:MOST_MODELS]
    for name in largest:
        runs = [run.models[name] for run in told.runs if name in run.models]
        rows.append(model_row(name, recorded.models[name], runs))
    yield from table([columns, *rows])
    if len(recorded.models) > MOST_MODELS:
        yield f"... and {len(recorded.models) - MOST_MODELS} more models"
    yield ""
    yield f"Nodes: {', '.join(shares(recorded.shares, told))}"
    yield ""
    yield replay.fidelity.verdict
    yield ""


def model_row(name: str, before: tuple[Any, Any], runs: Sequence[tuple[Any, Any]]) -> tuple[str, ...]:
    """Happened > model, of the total and of the queue time."""
    cells = [
        f"{seconds(getattr(before[part], figure))} > "
        f"{seconds(statistics.median(getattr(run[part], figure) for run in runs)) if runs else '-'}"
        for part in (0, 1)
        for figure in ("mean", "p50", "p95")
    ]
    return (name, str(before[0].count), *cells)


def shares(recorded: Mapping[str, float], told: Told) -> Iterator[str]:
    for name in sorted(recorded.keys() | {name for run in told.runs for name in run.shares}):
        model = statistics.median(run.shares.get(name, 0.0) for run in told.runs)
        yield f"{name} {recorded.get(name, 0.0):.0%} > {model:.0%}"


def compared(replay: Replay) -> Iterator[str]:
    """The variants, in the model all of them."""
    if len(replay.told) < 2:  # noqa: PLR2004 (nothing to compare with)
        yield "Nothing else was asked for: try --strategy, --add-node, --remove-node, --slots or --load-factor."
        return
    seeds = len(replay.told[0].runs)
    yield f"Compared in the model (seconds; {f'medians of {seeds} seeds' if seeds > 1 else 'one seed'})"
    columns = ("", "mean", "p50", "p95", "queue mean", "queue p95", "served %", "loads/1000", "mean, to as it was")
    yield from table([columns, *(variant_row(told, replay.told[0]) for told in replay.told)])
    yield ""
    yield "Mean of all requests"
    yield from bars([(one.variant.label, one.median(lambda run: run.total.mean)) for one in replay.told], " s")
    yield "p95"
    yield from bars([(one.variant.label, one.median(lambda run: run.total.p95)) for one in replay.told], " s")


def variant_row(told: Told, base: Told) -> tuple[str, ...]:
    changes = [change(before.total.mean, after.total.mean) for before, after in zip(base.runs, told.runs, strict=True)]
    return (
        told.variant.label,
        seconds(told.median(lambda run: run.total.mean)),
        seconds(told.median(lambda run: run.total.p50)),
        seconds(told.median(lambda run: run.total.p95)),
        seconds(told.median(lambda run: run.queue.mean)),
        seconds(told.median(lambda run: run.queue.p95)),
        f"{100 * told.median(lambda run: run.served):.2f}",
        f"{told.median(lambda run: run.loads or 0.0):.1f}",
        "" if told is base else between(changes),
    )


def between(changes: Iterable[float]) -> str:
    """The median change, and the least and largest of all seeds."""
    ordered = sorted(changes)
    median = f"{statistics.median(ordered):+.0%}"
    return median if len(ordered) == 1 else f"{median} ({ordered[0]:+.0%} to {ordered[-1]:+.0%})"


def duration(span_s: float) -> str:
    for unit, size in (("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if span_s >= 2 * size:
            return f"{span_s / size:.1f} {unit}"
    return f"{span_s:.0f} seconds"


def as_dict(replay: Replay) -> dict[str, Any]:
    """The same for programs; times in seconds."""
    return {
        "begin": replay.past.begin.isoformat(),
        "seconds": replay.past.seconds,
        "replayed": len(replay.past.happened),
        "left_out": dict(replay.past.left_out),
        "guessed_lengths": replay.past.guessed,
        "outages": len(replay.past.outages),
        "speeds": replay.grounds._asdict(),
        "recorded": seen_dict(replay.recorded),
        "fidelity": asdict(replay.fidelity) | {"verdict": replay.fidelity.verdict},
        "variants": [
            {
                "label": one.variant.label,
                "strategy": one.variant.routing,
                "load_factor": one.variant.load_factor,
                "nodes": [spec.name for spec in one.variant.fleet.nodes],
                "runs": [seen_dict(run) for run in one.runs],
            }
            for one in replay.told
        ],
    }


def seen_dict(seen: Seen) -> dict[str, Any]:
    told = asdict(seen)
    told["models"] = {name: {"total": total, "queue": queue} for name, (total, queue) in told["models"].items()}
    return told
