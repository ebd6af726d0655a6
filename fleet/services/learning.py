"""What gateways have learned: read at their start, written by them each minute, forgotten on request."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from fleet.models import LearnedLength, LearnedNode, LearnedSpeed, LearnedText, Node, lock
from fleet.services.probe import clean
from fleet.services.upsert import Upsert
from routing.core import learned as core
from routing.core.learned import Learned

#: Answers whose lengths are kept beside their mean.
LAST = 256
#: Characters of what names weights, a model and a task.
LONGEST_WEIGHTS, LONGEST_MODEL, LONGEST_TASK = 640, 600, 32

SPEEDS = ("model", "prompt_s", "prompt_seen", "output_s", "output_seen", "load_s", "load_seen")


def load_learned(nodes: Collection[int] | None = None) -> Learned:
    """All that is kept, in four queries; with `nodes`, of what is kept by node only theirs. Bad rows are left out."""
    speeds, exponents = LearnedSpeed.objects.all(), LearnedNode.objects.all()
    if nodes is not None:
        speeds, exponents = speeds.filter(node__in=nodes), exponents.filter(node__in=nodes)
    kept = LearnedLength.objects.order_by("task", "model").values_list("task", "model", "mean", "seen", "last")
    texts = LearnedText.objects.order_by("model").values_list("model", "characters_per_token", "seen")
    rows = speeds.order_by("node_id", "weights").values_list("node_id", "weights", *SPEEDS)
    return sound(
        Learned(
            tuple(core.LearnedSpeed(*row) for row in rows),
            tuple(
                core.LearnedNode(*row) for row in exponents.order_by("node_id").values_list("node_id", "alpha", "seen")
            ),
            tuple(core.LearnedLength(task, model, mean, seen, lengths(last)) for task, model, mean, seen, last in kept),
            tuple(core.LearnedText(*row) for row in texts),
        )
    )


def lengths(kept: object) -> tuple[int, ...]:
    rows = kept if isinstance(kept, list) else ()
    return tuple(length for length in rows if type(length) is int and length >= 0)


def sound(learned: Learned) -> Learned:
    """Without rows that cannot be: values that are not finite or not above zero, negative counts."""
    return Learned(
        tuple(
            row
            for row in learned.speeds
            if row.weights
            and above_zero(row.prompt_s, row.output_s, row.load_s)
            and counted(row.prompt_seen, row.output_seen, row.load_seen)
        ),
        tuple(row for row in learned.nodes if above_zero(row.alpha) and counted(row.seen)),
        tuple(row for row in learned.lengths if math.isfinite(row.mean) and row.mean >= 0 and counted(row.seen)),
        tuple(row for row in learned.texts if above_zero(row.characters_per_token) and counted(row.seen)),
    )


def above_zero(*values: float) -> bool:
    return all(math.isfinite(value) and value > 0 for value in values)


def counted(*seen: int) -> bool:
    return all(0 <= number < 2**63 for number in seen)


def save_learned(learned: Learned, relearned: Mapping[int, float]) -> None:
    """Write it all in one transaction and few statements; of several gateways the last to write a row is believed.

    `relearned` is the `relearn_at` of each node as the gateway knows it: what it says of a node that was forgotten or
    measured since then is stale and left out, as is what it says of nodes that are gone.
    """
    learned, now = sound(learned), timezone.now()
    with transaction.atomic():
        lock()  # the same first step as every writer's: no node goes, and none is forgotten, meanwhile
        current = {
            node
            for node, moment in Node.objects.values_list("pk", "relearn_at")
            if moment is None or moment.timestamp() <= relearned.get(node, 0.0)
        }
        write_speeds([row for row in learned.speeds if row.node_id in current], now)
        Upsert(LearnedNode, ("node",), ("alpha", "seen", "updated_at")).write(
            (row.node_id, row.alpha, row.seen, now) for row in learned.nodes if row.node_id in current
        )
        Upsert(LearnedLength, ("task", "model"), ("mean", "seen", "last", "updated_at")).write(
            length_values(row, now) for row in learned.lengths
        )
        Upsert(LearnedText, ("model",), ("characters_per_token", "seen", "updated_at")).write(
            (clean(row.model, LONGEST_MODEL), row.characters_per_token, row.seen, now) for row in learned.texts
        )


def length_values(row: core.LearnedLength, at: datetime) -> tuple[Any, ...]:
    task, model = clean(row.task, LONGEST_TASK), clean(row.model, LONGEST_MODEL)
    return task, model, row.mean, row.seen, list(row.last[-LAST:]), at


def write_speeds(speeds: Iterable[core.LearnedSpeed], at: datetime) -> None:
    Upsert(LearnedSpeed, ("node", "weights"), (*SPEEDS, "updated_at")).write(
        (
            row.node_id,
            clean(row.weights, LONGEST_WEIGHTS),
            clean(row.model, LONGEST_MODEL),
            row.prompt_s,
            row.prompt_seen,
            row.output_s,
            row.output_seen,
            row.load_s,
            row.load_seen,
            at,
        )
        for row in speeds
    )


def forget(nodes: Iterable[Node]) -> int:
    """Drop what was learned of the nodes; gateways do so within a second. Returns of how many nodes."""
    chosen = [node.pk for node in nodes]
    with transaction.atomic():
        found = relearn(chosen)
        LearnedSpeed.objects.filter(node__in=chosen).delete()
        LearnedNode.objects.filter(node__in=chosen).delete()
    return found


def learn(node: Node, speeds: Iterable[core.LearnedSpeed]) -> None:
    """Replace what is known of some models on a node by what was measured; gateways take it up within a second."""
    with transaction.atomic():
        if relearn([node.pk]):
            write_speeds(speeds, timezone.now())


def compact(days: int) -> int:
    """Delete what has not changed for so many days: nobody uses it any more. Returns how many rows went."""
    before = timezone.now() - timedelta(days=days)
    kinds = (LearnedSpeed, LearnedNode, LearnedLength, LearnedText)
    return sum(rows.objects.filter(updated_at__lt=before).delete()[0] for rows in kinds)


def relearn(nodes: Sequence[int]) -> int:
    """Tell gateways to read anew what is kept of these nodes, and not to write what they knew before."""
    return Node.objects.filter(pk__in=nodes).update(relearn_at=timezone.now())
