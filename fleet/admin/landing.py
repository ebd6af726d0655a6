"""The landing page: the fleet at a glance; for who leads a team, that team."""

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from fleet import live
from fleet.admin.bars import bar
from fleet.admin.page import gib, unbroken
from fleet.admin.quotas import used_bar
from fleet.models import Node, Team
from fleet.selectors import access
from fleet.selectors.glance import TOLD, Alert, alerts, fullest, live_nodes, nearly_used, pace, state_of
from fleet.selectors.history import requests
from routing.core.snapshot import Window

#: Nodes and quotas that the page shows; the lists show all.
NODES, QUOTAS = 30, 12
#: What is worst comes first.
ORDER = ("down", "suspect", "unknown", "draining", "up", "disabled")


def glance(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What templates/admin/index.html shows."""
    user: Any = request.user
    now = timezone.now()
    runs = user.has_perm("fleet.view_node")
    teams = access.seen(user, Team.objects.all(), "pk")
    context["title"] = "The fleet at a glance" if runs else "Your teams at a glance"
    context["pace"] = pace(now, access.seen(user, requests()))
    if not runs:
        teams = teams if user.has_perm("fleet.view_team") else teams.none()
        context["alerts"] = [shown(alert) for alert in nearly_used(now, teams)][:TOLD]
        context["teams"], context["quotas"] = list(teams), quotas(now, teams)
        return context
    rows = live_nodes()
    nodes = list(Node.objects.select_related("observation"))
    found = alerts(nodes, rows, now, teams)
    context["alerts"], context["more_alerts"] = [shown(alert) for alert in found[:TOLD]], len(found[TOLD:])
    context["quotas"] = quotas(now, teams) if user.has_perm("fleet.view_quota") else []
    context["fleet"] = fleet(nodes, rows)
    return context


def fleet(nodes: list[Node], rows: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    view = live.view()
    states = {node.pk: state_of(node, rows.get(node.pk)) for node in nodes}
    worst = sorted(nodes, key=lambda node: (ORDER.index(states[node.pk]), node.name.lower()))
    used = [state for state in states.values() if state != "disabled"]
    told = None if view is None else view.as_dict()
    return {
        "used": len(used),
        "up": sum(state in ("up", "suspect", "draining") for state in used),
        "disabled": len(states) - len(used),
        "nodes": [node_row(node, states[node.pk], rows.get(node.pk)) for node in worst[:NODES]],
        "more": len(nodes[NODES:]),
        "queue": None if told is None else told["queue"],
        "in_flight": None if told is None else told["in_flight"],
        "slots": sum(int(row.get("slots", 0)) for pk, row in rows.items() if states.get(pk) == "up"),
    }


def node_row(node: Node, state: str, row: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "name": node.name,
        "state": state,
        "link": reverse("admin:fleet_node_change", args=(node.pk,)),
        "load": load_bar(node, row),
        "vram": vram_bar(node, row),
        "version": node.seen.version,
    }


def load_bar(node: Node, row: Mapping[str, Any] | None) -> str:
    """The slots in use, as the gateway of this process sees them."""
    if row is None or not node.enabled:
        return "-"
    slots = int(row.get("slots") or node.slots)
    return bar(int(row.get("in_flight", 0)), slots, unbroken(f"{row.get('in_flight', 0)} of {slots}"))


def vram_bar(node: Node, row: Mapping[str, Any] | None) -> str:
    """The GPU memory that the loaded models take; without a bar where the operator has not told how much there is."""
    if state_of(node, row) in ("down", "disabled"):
        return "-"
    used = node.seen.vram_used if row is None or not row.get("resident") else row.get("vram_used")
    if node.vram_gb is None:
        return gib(used) if used else "-"
    most = node.vram_gb * 2**30
    return bar(used or 0, most, unbroken(f"{(used or 0) / 2**30:.1f} of {node.vram_gb:g} GiB"))


def quotas(now: Any, teams: Any) -> list[dict[str, Any]]:
    """The fullest quotas, those of a minute left out: they are full and empty again before anybody looks."""
    rows = [quota for quota, used in fullest(now, teams) if quota.window != Window.MINUTE]
    return [
        {
            "team": quota.policy.team.name,
            "quota": str(quota),
            "bar": used_bar(quota),
            "link": reverse("admin:fleet_team_change", args=(quota.policy.team_id,)),
        }
        for quota in rows[:QUOTAS]
    ]


def shown(alert: Alert) -> dict[str, Any]:
    links = {
        "node": lambda: reverse("admin:fleet_node_change", args=(alert.pk,)),
        "team": lambda: reverse("admin:fleet_team_change", args=(alert.pk,)),
        "model": lambda: reverse("admin:fleet_nodemodel_changelist", query={"q": alert.pk}),
        "tasks": lambda: reverse("admin:django_q_schedule_changelist"),
    }
    return {"level": alert.level, "subject": alert.subject, "text": alert.text, "link": links[alert.kind]()}
