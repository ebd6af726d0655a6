"""The fleet at a glance: how many nodes are up, what waits, what is done a minute, and what somebody should look at."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Count, QuerySet, Sum
from django.db.models.functions import Coalesce

from fleet import live
from fleet.models import Node, NodeModel, Quota, RequestRecord, Team
from fleet.selectors import scheduled
from fleet.selectors.usage import taken, with_used
from routing.core.names import display

#: A quota is told of from this part of it on.
NEARLY = 0.8
#: Minutes without a look at any node after which the worker is thought to be away: it looks every minute.
AWAY = 4
#: Alerts of one kind that are told one by one.
TOLD = 10


class Alert(NamedTuple):
    """What somebody should look at: `kind` says what `pk` is of, `level` is danger or warning."""

    level: str
    kind: str
    pk: int | str | None
    subject: str
    text: str


class Pace(NamedTuple):
    """What began within the last minute and has ended."""

    requests: int
    tokens: int


def live_nodes() -> Mapping[int, Mapping[str, Any]]:
    """What the gateway of this process sees of each node, by id; empty where there is no gateway."""
    view = live.view()
    return {} if view is None else {row["id"]: row for row in view.as_dict().get("nodes", ())}


def state_of(node: Node, row: Mapping[str, Any] | None) -> str:
    """`disabled`, `draining`, `up`, `suspect`, `down` or `unknown`: as the gateway sees it, else as last looked at."""
    if not node.enabled:
        return "disabled"
    reached = {True: "up", False: "down", None: "unknown"}[node.seen.reachable]
    state = reached if row is None else str(row.get("state", reached))
    if node.draining and state in ("up", "unknown", "suspect"):
        return "draining"
    return reached if state in ("unknown", "disabled") else state


def pace(now: datetime, rows: QuerySet[RequestRecord] | None = None) -> Pace:
    """From the history, so that it works without a gateway too."""
    some = (RequestRecord.objects.all() if rows is None else rows).filter(started_at__gte=now - timedelta(minutes=1))
    tokens = Coalesce(Sum("prompt_tokens"), 0) + Coalesce(Sum("output_tokens"), 0)
    told = some.order_by().aggregate(requests=Count("pk"), tokens=tokens)
    return Pace(told["requests"], told["tokens"])


def alerts(
    nodes: Iterable[Node], rows: Mapping[int, Mapping[str, Any]], now: datetime, teams: QuerySet[Team] | None = None
) -> list[Alert]:
    """The most urgent first; of quotas those of some teams, where these are given."""
    known = list(nodes)
    found = [*failing(known, rows), *worker(known, now), *schedules(now), *drifted(), *nearly_used(now, teams)]
    return sorted(found, key=lambda alert: alert.level != "danger")


def failing(nodes: Iterable[Node], rows: Mapping[int, Mapping[str, Any]]) -> Iterator[Alert]:
    for node in nodes:
        row = rows.get(node.pk)
        state = state_of(node, row)
        why = str((row or {}).get("error") or node.seen.last_error or "")
        if state == "down":
            yield Alert("danger", "node", node.pk, node.name, f"is down{why and ': '}{why}")
        elif state == "suspect":
            yield Alert("warning", "node", node.pk, node.name, f"is suspect{why and ': '}{why}")
        elif node.enabled and (row or {}).get("breaker") == "open":
            yield Alert("warning", "node", node.pk, node.name, "has failed too often and rests: its breaker is open")


def worker(nodes: Iterable[Node], now: datetime) -> Iterator[Alert]:
    """Tells when nobody has looked at the nodes for long."""
    looked = [node.seen.checked_at for node in nodes if node.enabled]
    newest = max((moment for moment in looked if moment is not None), default=None)
    if newest is not None and now - newest > timedelta(minutes=AWAY):
        minutes = int((now - newest).total_seconds() // 60)
        text = f"has looked at no node for {minutes} min: does manage.py qcluster run?"
        yield Alert("warning", "tasks", None, "The background worker", text)


def schedules(now: datetime) -> Iterator[Alert]:
    """Tells which scheduled work keeps failing."""
    for name, why in scheduled.failing(scheduled.sighting(now).works):
        yield Alert("warning", "tasks", None, name, why)


def drifted() -> Iterator[Alert]:
    """Models whose name stands for different weights on different nodes in use."""
    rows = NodeModel.objects.filter(installed=True, node__enabled=True).exclude(digest="").order_by()
    names = rows.values("key").annotate(kinds=Count("digest", distinct=True)).filter(kinds__gt=1).order_by("key")
    for key, kinds in names.values_list("key", "kinds")[:TOLD]:
        yield Alert("warning", "model", key, display(key), f"is {kinds} different models: its digests differ by node")


def nearly_used(now: datetime, teams: QuerySet[Team] | None = None) -> Iterator[Alert]:
    for quota, used in fullest(now, teams):
        part = used / quota.amount
        if part < NEARLY:
            return
        level = "danger" if part >= 1 and quota.breach == "refuse" else "warning"
        yield Alert(level, "team", quota.policy.team_id, str(quota.policy.team), f"has used {part:.0%} of {quota}")


def fullest(now: datetime, teams: QuerySet[Team] | None = None) -> list[tuple[Quota, float]]:
    """The quotas with what is taken of them, the fullest first."""
    rows = Quota.objects.select_related("policy__team")
    if teams is not None:
        rows = rows.filter(policy__team__in=teams)
    found = [(quota, taken(quota, now)) for quota in with_used(rows, now.date())]
    return sorted(found, key=lambda pair: pair[1] / pair[0].amount, reverse=True)
