"""History added up by hour and day: what was asked when, by whom, of which model, where; drawn above the list."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.contrib.filters.admin import TextFilter

from fleet.admin.bars import bar
from fleet.admin.page import HistoryAdmin, amount, column
from fleet.models import Node, Rollup, Span, Team
from fleet.selectors import access
from fleet.selectors.rollups import TOP, by_time, largest, spellings

#: Hours and days that the chart shows, and how one begins as text.
SHOWN = {Span.HOUR.value: 48, Span.DAY.value: 60}
STEP = {Span.HOUR.value: timedelta(hours=1), Span.DAY.value: timedelta(days=1)}
WRITTEN = {Span.HOUR.value: "%d %b %Y %H:00", Span.DAY.value: "%d %b %Y"}
#: What "Begun" offers, in days.
WITHIN = {"1": "last day", "7": "last 7 days", "30": "last 30 days", "365": "last year"}
#: The chart's own measures.
WIDTH, HEIGHT = 600, 100


class SpanFilter(admin.SimpleListFilter):
    """Days, unless hours are asked for: both together would count everything twice."""

    title = "by"
    parameter_name = "span"

    def lookups(self, request: HttpRequest, page: Any) -> list[tuple[str, str]]:
        return [(Span.DAY.value, "day"), (Span.HOUR.value, "hour")]

    def value(self) -> str:
        chosen = super().value()
        return chosen if chosen in Span.values else Span.DAY.value

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Without the choice of all."""
        for value, words in self.lookup_choices:
            query = changelist.get_query_string({self.parameter_name: value})
            yield {"selected": self.value() == value, "query_string": query, "display": words}

    def queryset(self, request: HttpRequest, rows: QuerySet[Rollup]) -> QuerySet[Rollup]:
        return rows.filter(span=self.value())


class WithinFilter(admin.SimpleListFilter):
    title = "begun"
    parameter_name = "within"

    def lookups(self, request: HttpRequest, page: Any) -> list[tuple[str, str]]:
        return list(WITHIN.items())

    def queryset(self, request: HttpRequest, rows: QuerySet[Rollup]) -> QuerySet[Rollup]:
        if self.value() not in WITHIN:
            return rows
        return rows.filter(begins__gte=timezone.now() - timedelta(days=int(self.value() or 0)))


class TeamNameFilter(admin.SimpleListFilter):
    """The teams that there are now; sums of others are found by time."""

    title = "team"
    parameter_name = "team_name"

    def lookups(self, request: HttpRequest, page: Any) -> list[tuple[str, str]]:
        teams = access.seen(request.user, Team.objects.order_by("name"), "pk")
        return [(name, name) for name in teams.values_list("name", flat=True)]

    def queryset(self, request: HttpRequest, rows: QuerySet[Rollup]) -> QuerySet[Rollup]:
        return rows if self.value() is None else rows.filter(team_name=self.value())


class NodeNameFilter(admin.SimpleListFilter):
    title = "node"
    parameter_name = "node_name"

    def lookups(self, request: HttpRequest, page: Any) -> list[tuple[str, str]]:
        if not request.user.has_perm("fleet.view_node"):
            return []
        return [(name, name) for name in Node.objects.order_by("name").values_list("name", flat=True)]

    def queryset(self, request: HttpRequest, rows: QuerySet[Rollup]) -> QuerySet[Rollup]:
        return rows if self.value() is None else rows.filter(node_name=self.value())


class ModelFilter(TextFilter):  # type: ignore[misc]  # unfold is untyped
    title = "model"
    parameter_name = "model"

    def queryset(self, request: HttpRequest, rows: QuerySet[Rollup]) -> QuerySet[Rollup]:
        name = (self.value() or "").strip()
        return rows.filter(model__in=spellings(name)) if name else rows


@admin.register(Rollup)
class RollupAdmin(HistoryAdmin):
    list_display = (
        "begun", "team", "model_", "node", "task_type", "requests_", "errors_", "refused_", "tokens_in_", "tokens_out_",
        "seconds_",
    )  # fmt: skip
    list_filter = (SpanFilter, WithinFilter, TeamNameFilter, ModelFilter, NodeNameFilter)
    list_filter_submit = True
    list_before_template = "admin/fleet/rollup/sums.html"

    requests_ = amount("Requests", "requests")
    errors_ = amount("Failed", "errors")
    refused_ = amount("Refused", "refused")
    tokens_in_ = amount("Tokens in", "tokens_in")
    tokens_out_ = amount("Tokens out", "tokens_out")
    seconds_ = amount("Seconds", "seconds", 1)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Rollup]:
        return access.seen_by_name(request.user, super().get_queryset(request))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        answer: Any = super().changelist_view(request, extra_context)
        changes = getattr(answer, "context_data", {}).get("cl")
        if changes is not None:
            chosen = request.GET.get("span")
            span = chosen if chosen in Span.values else Span.DAY.value
            answer.context_data["sums"] = drawn(changes.queryset, span, timezone.now())
        return answer  # type: ignore[no-any-return]  # unfold is untyped

    @column("Begins", ordering="begins")
    def begun(self, row: Rollup) -> str:
        return f"{timezone.localtime(row.begins):{WRITTEN[row.span]}}"

    @column("Team", ordering="team_name")
    def team(self, row: Rollup) -> str:
        return row.team_name or "-"

    @column("Model", ordering="model")
    def model_(self, row: Rollup) -> str:
        return row.model or "-"

    @column("Node", ordering="node_name")
    def node(self, row: Rollup) -> str:
        return row.node_name or "-"


def drawn(rows: QuerySet[Rollup], span: str, now: datetime) -> dict[str, Any]:
    """What stands above the list: totals, a bar for each hour or day, and who has asked for most."""
    first = first_shown(span, now)
    rows = rows.filter(begins__gte=first).order_by()
    found = by_time(rows)
    totals = {name: sum(row[name] for row in found.values()) for name in ("requests", "errors", "refused", "tokens")}
    shares = [(title, shares_of(rows, name, totals["requests"])) for name, title in TOP.items()]
    return {
        "span": span,
        "since": f"{timezone.localtime(first):{WRITTEN[span]}}",
        "totals": totals,
        "bars": bars(found, span, first),
        "shares": [(title, parts) for title, parts in shares if parts],
    }


def first_shown(span: str, now: datetime) -> datetime:
    """The beginning of the first hour or day (UTC) that the chart shows."""
    begins = now.replace(minute=0, second=0, microsecond=0)
    return (begins if span == Span.HOUR.value else begins.replace(hour=0)) - (SHOWN[span] - 1) * STEP[span]


def bars(found: dict[datetime, dict[str, int]], span: str, first: datetime) -> list[dict[str, Any]]:
    """A bar for each hour or day, those of nothing too; failed requests are drawn at its foot."""
    highest = max((row["requests"] for row in found.values()), default=0) or 1
    wide = WIDTH / SHOWN[span]
    drawn = []
    for number in range(SHOWN[span]):
        begins = first + number * STEP[span]
        row = found.get(begins, {"requests": 0, "errors": 0, "refused": 0, "tokens": 0})
        whole, failed = (HEIGHT * row[name] / highest for name in ("requests", "errors"))
        drawn.append(
            row
            | {
                "when": f"{timezone.localtime(begins):{WRITTEN[span]}}",
                "x": f"{number * wide:.2f}",
                "width": f"{wide * 0.8:.2f}",
                "y": f"{HEIGHT - whole:.2f}",
                "height": f"{whole:.2f}",
                "failed_y": f"{HEIGHT - failed:.2f}",
                "failed": f"{failed:.2f}",
            }
        )
    return drawn


def shares_of(rows: QuerySet[Rollup], name: str, total: int) -> list[str]:
    return [
        bar(row["requests"], total, row[name] or "none", f"{row['requests']:,} requests, {row['tokens']:,} tokens")
        for row in largest(rows, name)
    ]
