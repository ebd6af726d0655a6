"""The fleet in figures: how it does now, how it did lately, and what was learned of it."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import Count, Max, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django_q.models import Failure, OrmQ, Schedule, Success

from fleet import live
from fleet.models import LearnedLength, LearnedSpeed, Node, PriorityPolicy, Rollup, RoutingStrategy, Span
from fleet.selectors.scheduled import Work, failing
from fleet.selectors.usage import policies, taken
from routing.core.names import display
from routing.core.strategies import Kind

GIB = 1 << 30
MS = 1000.0
#: Minutes that a schedule may be overdue before the background worker is thought to be away.
SILENT = 4
#: The part of requests below whose success a fleet or host is degraded, and the number from which that is told.
GOOD, ENOUGH = 0.9, 10
#: The part of a quota from which on it is told.
NEARLY = 0.9
#: Patterns, and rows of what was learned, that are told one by one.
PATTERNS, BASELINES = 200, 1000
USED = ("up", "suspect")


class Figures(NamedTuple):
    """Sums of ended requests."""

    requests: int = 0
    errors: int = 0
    refused: int = 0
    cancelled: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    queue_seconds: float = 0.0
    first_byte_seconds: float = 0.0
    first_bytes: int = 0

    def told(self) -> dict[str, Any]:
        """As JSON tells it: what went on in all and on average; None where there was nothing."""
        judged = self.requests - self.cancelled - self.refused
        return {
            "requests": self.requests,
            "errors": self.errors,
            "refused": self.refused,
            "cancelled": self.cancelled,
            "retries": self.retries,
            "success_rate": round(1.0 - self.errors / judged, 4) if judged > 0 else None,
            "average_latency_ms": mean((self.seconds + self.queue_seconds) * MS, self.requests),
            "average_queue_ms": mean(self.queue_seconds * MS, self.requests),
            "average_first_byte_ms": mean(self.first_byte_seconds * MS, self.first_bytes),
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
        }


SUMS: dict[str, Any] = {name: Coalesce(Sum(name), 0) for name in Figures._fields[:7]} | {
    name: Coalesce(Sum(name), 0.0) for name in ("seconds", "queue_seconds", "first_byte_seconds")
}
SUMS["first_bytes"] = Coalesce(Sum("first_bytes"), 0)


def mean(total: float, count: int) -> float | None:
    return round(total / count, 1) if count else None


def figures(rows: QuerySet[Rollup]) -> Figures:
    return Figures(**rows.aggregate(**SUMS))


def hours(since: datetime) -> QuerySet[Rollup]:
    """The sums by hour of the hours that had not ended at that moment."""
    first = since.replace(minute=0, second=0, microsecond=0)
    return Rollup.objects.filter(span=Span.HOUR, begins__gte=first).order_by()


def span_of(since: datetime, now: datetime) -> tuple[Span, datetime]:
    """Whether figures since then are told by hour or by day, and when the first of these began."""
    if now - since <= timedelta(days=3):
        return Span.HOUR, since.replace(minute=0, second=0, microsecond=0)
    return Span.DAY, since.replace(hour=0, minute=0, second=0, microsecond=0)


# Now


def hosts() -> list[dict[str, Any]]:
    """The health of each node: as the gateway of this process sees it, else as the last sweep found it."""
    view = live.view()
    seen = {} if view is None else {row["id"]: row for row in view.as_dict().get("nodes", ())}
    return [host(node, seen.get(node.pk)) for node in Node.objects.select_related("observation").order_by("name")]


def host(node: Node, row: Mapping[str, Any] | None) -> dict[str, Any]:
    observed = node.seen
    state = state_of(node, row)
    requests, failures = (row["requests"], row["failures"]) if row else (0, 0)
    total = row["vram_total"] if row else node.vram_gb and int(node.vram_gb * GIB)
    return {
        "host": node.name,
        "url": node.url,
        "state": state,
        "available": state in USED,
        "breaker": row["breaker"] if row else "unknown",
        "in_flight": row["in_flight"] if row else 0,
        "slots": row["slots"] if row else node.slots,
        "models_loaded": list(row["resident"]) if row else [],
        "gpu_memory_total": total or None,
        "gpu_memory_used": row["vram_used"] if row else observed.vram_used or 0,
        "attempts": requests,
        "success_rate": round(1.0 - failures / requests, 4) if requests else None,
        "version": (row["version"] if row else "") or observed.version,
        "latency_ms": observed.latency_ms,
        "checked_at": observed.checked_at,
        "error": (row["error"] if row else "") or observed.last_error,
    }


def state_of(node: Node, row: Mapping[str, Any] | None) -> str:
    if not node.enabled:
        return "disabled"
    if node.draining:
        return "draining"
    reached = {True: "up", False: "down", None: "unknown"}[node.seen.reachable]
    state = str(row["state"]) if row else reached
    return reached if state in ("unknown", "disabled", "draining") else state


def workers(now: datetime) -> dict[str, Any]:
    """Whether background tasks are carried out, and how many wait or have failed."""
    last = Success.objects.aggregate(last=Max("stopped"))["last"]
    failed = Failure.objects.aggregate(last=Max("stopped"), lately=Count("pk", filter=Q(stopped__gte=day(now))))
    last = max((at for at in (last, failed["last"]) if at is not None), default=None)
    overdue = Schedule.objects.filter(next_run__lt=now - timedelta(minutes=SILENT)).exclude(repeats=0).exists()
    cluster: dict[str, Any] = settings.Q_CLUSTER
    return {
        "configured": cluster.get("workers", 1),
        "running": not overdue,
        "last_task_at": last,
        "tasks_waiting": OrmQ.objects.count(),
        "tasks_failed": failed["lately"],
        "schedules": Schedule.objects.count(),
    }


def scheduled(work: Work) -> dict[str, Any]:
    return {
        "name": work.name,
        "every": work.every,
        "paused": work.paused,
        "next_run_at": work.next_at,
        "last_run_at": work.ended_at,
        "duration_seconds": work.seconds,
        "succeeded": work.good,
        "result": work.told,
        "last_success_at": work.good_at,
        "failures_in_a_row": work.failures,
        "failures_last_day": work.failures_day,
    }


def day(now: datetime) -> datetime:
    return now - timedelta(days=1)


def intelligence() -> dict[str, Any]:
    """How much the router has learned."""
    lengths = LearnedLength.objects.filter(seen__gt=0).order_by()
    speeds = LearnedSpeed.objects.filter(Q(prompt_seen__gt=0) | Q(output_seen__gt=0)).order_by()
    default = RoutingStrategy.objects.filter(is_default=True).values_list("name", flat=True).first()
    return {
        "task_types_learned": sorted(lengths.values_list("task", flat=True).distinct()),
        "patterns": lengths.count(),
        "answers_seen": lengths.aggregate(seen=Coalesce(Sum("seen"), 0))["seen"],
        "speeds_learned": speeds.count(),
        "hosts_measured": speeds.values("node").distinct().count(),
        "default_strategy": default or Kind.FASTEST.value,
    }


def quotas(now: datetime, rows: QuerySet[PriorityPolicy] | None = None) -> list[dict[str, Any]]:
    """Each quota with what is used of it."""
    return [
        {
            "team": policy.team.name,
            "measure": quota.measure,
            "window": quota.window,
            "from_priority": quota.from_priority,
            "used": taken(quota, now),
            "amount": float(quota.amount),
        }
        for policy in (policies(now.date()) if rows is None else rows)
        for quota in policy.quotas.all()
    ]


def alerts(
    told: list[dict[str, Any]],
    pool: Mapping[str, Any],
    lately: Figures,
    used: list[dict[str, Any]],
    *,
    gateway: bool,
    works: Iterable[Work] = (),
) -> list[dict[str, str]]:
    """What somebody should look at, the worst first."""
    found = []
    in_use = [one for one in told if one["state"] not in ("disabled", "draining")]
    if in_use and not any(one["available"] for one in in_use):
        found.append(alert("critical", "no_host", "", "No host is available; every request is refused."))
    found += [
        alert("critical", "host_unavailable", one["host"], one["error"] or "It does not answer.")
        for one in in_use
        if one["state"] == "down"
    ]
    found += [
        alert("warning", "host_degraded", one["host"], reason)
        for one in in_use
        if (reason := degraded(one)) is not None
    ]
    judged = lately.requests - lately.cancelled - lately.refused
    if judged >= ENOUGH and lately.errors > judged * (1.0 - GOOD):
        detail = f"{lately.errors} of {judged} requests failed within the last hour or two."
        found.append(alert("warning", "performance_degraded", "", detail))
    found += [
        alert(
            "warning",
            "quota_nearly_used",
            one["team"],
            f"{one['used']:.0f} of {one['amount']:.0f} {one['measure']} of the {one['window']} are used.",
        )
        for one in used
        if one["amount"] > 0 and one["used"] >= one["amount"] * NEARLY
    ]
    if not pool["running"]:
        found.append(alert("warning", "worker_silent", "", "Schedules are overdue: the background worker is away."))
    found += [alert("warning", "schedule_failing", name, f"It {why}.") for name, why in failing(works)]
    if not gateway:
        found.append(alert("info", "no_gateway", "", "No gateway runs in this process; hosts are as last looked at."))
    return found


def alert(severity: str, kind: str, subject: str, detail: str) -> dict[str, str]:
    return {"severity": severity, "kind": kind, "subject": subject, "detail": detail}


def degraded(one: Mapping[str, Any]) -> str | None:
    """Why a host that can be used does not do well; None if it does."""
    if not one["available"]:
        return None
    if one["state"] == "suspect":
        return one["error"] or "It has just failed to answer."
    if one["breaker"] not in ("closed", "unknown"):
        return "It kept failing; only single requests are sent to try it."
    rate = one["success_rate"]
    if rate is not None and one["attempts"] >= ENOUGH and rate < GOOD:
        return f"{rate:.0%} of its attempts went well since the gateway started."
    return None


# Lately


def histories(rows: QuerySet[Rollup]) -> list[dict[str, Any]]:
    """The performance of each host, in all and hour by hour or day by day, oldest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    sums: dict[str, Figures] = {}
    chosen: Any = rows.exclude(node_name="").values("node_name", "begins").annotate(**SUMS)
    for row in chosen.order_by("node_name", "begins"):
        name, begins = row.pop("node_name"), row.pop("begins")
        one = Figures(**row)
        found.setdefault(name, []).append({"begins": begins, **one.told()})
        sums[name] = added(sums.get(name, Figures()), one)
    return [{"host": name, **sums[name].told(), "history": history} for name, history in found.items()]


def added(one: Figures, other: Figures) -> Figures:
    return Figures._make(a + b for a, b in zip(one, other, strict=True))


def patterns(rows: QuerySet[Rollup]) -> list[dict[str, Any]]:
    """Where which kind of request for which model went, the most frequent first; `share` is that of its kind."""
    placed = rows.exclude(node_name="")
    kinds: dict[tuple[str, str], int] = {}
    for task, model, count in (
        placed.values("task_type", "model").annotate(n=Sum("requests")).values_list("task_type", "model", "n")
    ):
        kinds[task, model] = count
    chosen: Any = placed.values("task_type", "model", "node_name").annotate(**SUMS).order_by("-requests", "task_type")
    told = []
    for row in chosen[:PATTERNS]:
        task, model, name = row.pop("task_type"), row.pop("model"), row.pop("node_name")
        one = Figures(**row)
        share = round(one.requests / kinds[task, model], 4) if kinds.get((task, model)) else None
        told.append({"task": task, "model": model, "host": name, "share": share, **one.told()})
    return told


def task_types(rows: QuerySet[Rollup]) -> list[dict[str, Any]]:
    """How many requests were of which kind."""
    counts = list(rows.values("task_type").annotate(n=Sum("requests")).order_by("-n").values_list("task_type", "n"))
    total = sum(count for _, count in counts)
    return [{"task": task, "requests": count, "share": round(count / total, 4)} for task, count in counts if total]


def baselines() -> dict[str, Any]:
    """What was learned: the speed of each model on each host alone, and how long answers are."""
    speeds = LearnedSpeed.objects.select_related("node").order_by("node__name", "model", "pk")[:BASELINES]
    lengths = LearnedLength.objects.order_by("task", "model")[:BASELINES]
    return {
        "speeds": [
            {
                "host": speed.node.name,
                "model": display(speed.model) if speed.model else "",
                "prompt_tokens_per_second": round(1.0 / speed.prompt_s, 2) if speed.prompt_seen else None,
                "output_tokens_per_second": round(1.0 / speed.output_s, 2) if speed.output_seen else None,
                "load_seconds": round(speed.load_s, 2) if speed.load_seen else None,
                "answers_seen": speed.output_seen,
                "updated_at": speed.updated_at,
            }
            for speed in speeds
        ],
        "answers": [
            {
                "task": length.task,
                "model": display(length.model),
                "mean_tokens": round(length.mean, 1),
                "answers_seen": length.seen,
                "updated_at": length.updated_at,
            }
            for length in lengths
        ],
    }
