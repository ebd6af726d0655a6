"""`/api/dashboard`, `/api/stats` and `/api/health`: the fleet in figures, for scripts and monitoring."""

from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fleet import live
from fleet.api.overview_shapes import DashboardShape, HealthShape, StatsQuery, StatsShape
from fleet.api.views import own_sums
from fleet.models import ApiKey, Rollup
from fleet.selectors import access, overview, scheduled
from fleet.selectors.usage import policies

AVAILABLE, UNAVAILABLE = 200, 503


class Overview(APIView):
    """Who leads a team is told figures and quotas of the own team only."""

    permission = "fleet.view_requestrecord"

    def quotas(self, now: datetime) -> list[dict[str, Any]]:
        rows = policies(now.date())
        if not isinstance(self.request.auth, ApiKey):
            rows = access.seen(self.request.user, rows)
        return overview.quotas(now, rows)

    def sums(self, rows: QuerySet[Rollup]) -> QuerySet[Rollup]:
        return own_sums(self.request, rows)


def in_use(hosts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in hosts if one["state"] not in ("disabled", "draining")]


def state(hosts: list[dict[str, Any]], alerts: list[dict[str, str]]) -> str:
    """`down` if nothing can be served, `degraded` if somebody should look at something."""
    if not any(one["available"] for one in hosts):
        return "down"
    return "degraded" if any(one["severity"] != "info" for one in alerts) else "ok"


class DashboardView(Overview):
    @extend_schema(responses=DashboardShape, tags=["overview"], operation_id="dashboard")
    def get(self, request: Request) -> Response:
        """The system's status, how it performs, what routing has learned, alerts, and the health of each host."""
        now, view = timezone.now(), live.view()
        hosts, workers = overview.hosts(), overview.workers(now)
        used = in_use(hosts)
        since = now - timedelta(hours=1)
        lately = overview.figures(self.sums(overview.hours(since)))
        works = scheduled.sighting(now).works
        alerts = overview.alerts(hosts, workers, lately, self.quotas(now), gateway=view is not None, works=works)
        queue: dict[str, Any] = {} if view is None else view.as_dict().get("queue", {})
        return Response(
            {
                "at": now,
                "status": {
                    "state": state(hosts, alerts),
                    "gateway": view is not None,
                    "hosts_total": len(hosts),
                    "hosts_in_use": len(used),
                    "hosts_available": sum(one["available"] for one in hosts),
                    "in_flight": sum(one["in_flight"] for one in hosts),
                    "waiting": queue.get("depth", 0),
                    "longest_wait_seconds": queue.get("oldest_s", 0.0),
                    "workers": workers,
                },
                "performance": {
                    "since": since.replace(minute=0, second=0, microsecond=0),
                    **lately.told(),
                    "gpu_memory_total": sum(one["gpu_memory_total"] or 0 for one in used),
                    "gpu_memory_used": sum(one["gpu_memory_used"] for one in used),
                },
                "routing": overview.intelligence(),
                "alerts": alerts,
                "hosts": hosts,
                "scheduled": [overview.scheduled(work) for work in works],
            }
        )


class StatsView(Overview):
    @extend_schema(responses=StatsShape, parameters=[StatsQuery], tags=["overview"], operation_id="stats")
    def get(self, request: Request) -> Response:
        """The performance of each host over time, where which requests went, kinds of tasks, learned baselines."""
        asked = StatsQuery(data=request.query_params.dict())
        unknown = request.query_params.keys() - asked.fields.keys() - {"format"}
        if unknown:
            known = ", ".join(asked.fields)
            raise ValidationError({name: [f"Unknown parameter; there are: {known}."] for name in unknown})
        asked.is_valid(raise_exception=True)
        chosen = asked.validated_data
        now = timezone.now()
        span, since = overview.span_of(now - timedelta(hours=chosen["hours"]), now)
        rows = self.sums(Rollup.objects.filter(span=span, begins__gte=since).order_by())
        if "team" in chosen:
            rows = rows.filter(team_name__iexact=chosen["team"])
        if "model" in chosen:
            rows = rows.filter(model=chosen["model"])
        return Response(
            {
                "at": now,
                "since": since,
                "span": span,
                "team": chosen.get("team"),
                "total": overview.figures(rows).told(),
                "hosts": overview.histories(rows),
                "routing_patterns": overview.patterns(rows),
                "task_types": overview.task_types(rows),
                "baselines": overview.baselines(),
            }
        )


class HealthView(Overview):
    @extend_schema(
        responses={AVAILABLE: HealthShape, UNAVAILABLE: HealthShape}, tags=["overview"], operation_id="health"
    )
    def get(self, request: Request) -> Response:
        """Whether the fleet can serve: 503 if no host is available. `/healthz` and `/readyz` need no key."""
        now, gateway = timezone.now(), live.view() is not None
        hosts, workers = overview.hosts(), overview.workers(now)
        alerts = overview.alerts(hosts, workers, overview.Figures(), [], gateway=gateway)
        status = state(hosts, alerts)
        return Response(
            {
                "status": status,
                "at": now,
                "gateway": gateway,
                "database": "ok",
                "worker": workers["running"],
                "hosts_in_use": len(in_use(hosts)),
                "hosts_available": sum(one["available"] for one in hosts),
            },
            status=UNAVAILABLE if status == "down" else AVAILABLE,
        )
