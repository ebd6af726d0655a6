"""Ended requests and nodes' transitions, to look at."""

from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from unfold.contrib.filters.admin import RangeDateTimeFilter, TextFilter

from fleet.admin.decision import laid_out
from fleet.admin.page import HistoryAdmin, TeamFilter, column, milliseconds, row_id, second
from fleet.models import Node, NodeEvent, RequestRecord
from fleet.selectors.access import seen
from fleet.selectors.history import of_id_or_model, of_model
from routing.core.requests import Task

#: What "Started" offers, in minutes.
SPANS = {"15": "last 15 minutes", "60": "last hour", "1440": "last day", "10080": "last 7 days"}


class TaskFilter(admin.SimpleListFilter):
    """The known kinds of task; asking the table for its distinct values would read all of it."""

    title = "task"
    parameter_name = "task"

    def lookups(self, request: HttpRequest, page: Any) -> list[tuple[str, str]]:
        return [(task.value, task.value) for task in Task]

    def queryset(self, request: HttpRequest, records: QuerySet[RequestRecord]) -> QuerySet[RequestRecord]:
        return records if self.value() is None else records.filter(task_type=self.value())


class NodeFilter(admin.SimpleListFilter):
    """The nodes that there are, for those who may see them."""

    title = "node"
    parameter_name = "node"

    def lookups(self, request: HttpRequest, page: Any) -> list[tuple[str, str]]:
        if not request.user.has_perm("fleet.view_node"):
            return []
        return [(str(pk), name) for pk, name in Node.objects.order_by("name").values_list("pk", "name")]

    def queryset(self, request: HttpRequest, records: QuerySet[RequestRecord]) -> QuerySet[RequestRecord]:
        chosen = self.value()
        if chosen is None:
            return records
        node = row_id(chosen)
        return records.none() if node is None else records.filter(node=node)


class SpanFilter(admin.SimpleListFilter):
    title = "started"
    parameter_name = "within"

    def lookups(self, request: HttpRequest, page: Any) -> list[tuple[str, str]]:
        return list(SPANS.items())

    def queryset(self, request: HttpRequest, records: QuerySet[RequestRecord]) -> QuerySet[RequestRecord]:
        if self.value() not in SPANS:
            return records
        return records.filter(started_at__gte=timezone.now() - timedelta(minutes=int(self.value() or 0)))


class StartedFilter(RangeDateTimeFilter):  # type: ignore[misc]  # unfold is untyped
    """From and to, in the server's time zone; a day without a time is its beginning, or its end."""

    def queryset(self, request: HttpRequest, records: QuerySet[RequestRecord]) -> QuerySet[RequestRecord]:
        for side, lookup, default in (("from", "gte", "00:00:00"), ("to", "lte", "23:59:59.999999")):
            name = f"{self.parameter_name}_{side}"
            moment = moment_of(self.used_parameters.get(f"{name}_0"), self.used_parameters.get(f"{name}_1") or default)
            if moment is not None:
                records = records.filter(**{f"started_at__{lookup}": moment})
        return records


def moment_of(day: Any, time: Any) -> datetime | None:
    try:
        moment = parse_datetime(f"{day} {time}")
    except ValueError:
        return None
    return None if moment is None else timezone.make_aware(moment) if timezone.is_naive(moment) else moment


class ModelFilter(TextFilter):  # type: ignore[misc]  # unfold is untyped
    """The whole name, so that the index answers; clients spell one model as `m` and `m:latest`."""

    title = "model"
    parameter_name = "model"

    def queryset(self, request: HttpRequest, records: QuerySet[RequestRecord]) -> QuerySet[RequestRecord]:
        name = (self.value() or "").strip()
        return records.filter(of_model(name)) if name else records


@admin.register(RequestRecord)
class RequestRecordAdmin(HistoryAdmin):
    list_display = (
        "at", "model", "task_type", "priority", "team_", "node_", "ended", "status", "attempts", "resumed_", "waited",
        "took",
    )  # fmt: skip
    list_filter = (
        "outcome", SpanFilter, ("started_at", StartedFilter), ModelFilter, TaskFilter, TeamFilter, NodeFilter,
    )  # fmt: skip
    list_filter_submit = True
    search_fields = ("request_id", "model")  # shows the field; get_search_results searches
    search_help_text = "Whole request id or whole model name"
    readonly_fields = ("how", "arrived", "waited", "first_byte", "took", "tokens", "ended", "team_", "node_")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("request_id", "ended"), ("arrived", "route"), ("model", "task_type"),
                    ("complexity", "priority", "stream"), ("team_", "key_prefix", "status"), "error",
                ),
            },
        ),
        ("Where and how long", {"fields": (("node_", "attempts", "tokens"), ("waited", "first_byte", "took"))}),
        ("Why there", {"fields": ("how",)}),
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[RequestRecord]:
        return seen(request.user, super().get_queryset(request))

    def get_search_results(
        self, request: HttpRequest, records: QuerySet[RequestRecord], term: str
    ) -> tuple[QuerySet[RequestRecord], bool]:
        """Exact, so that the indexes answer; a search that ignores case would read the whole history."""
        term = term.strip()
        return (records.filter(of_id_or_model(term)) if term else records), False

    @column("Decision")
    def how(self, record: RequestRecord) -> str:
        return laid_out(record.decision)

    @column("Started")
    def arrived(self, record: RequestRecord) -> str:
        return second(record.started_at)

    @column("First byte after")
    def first_byte(self, record: RequestRecord) -> str:
        return milliseconds(record.first_byte_ms)

    @column("Tokens in, out")
    def tokens(self, record: RequestRecord) -> str:
        return ", ".join(
            "?" if count is None else f"{count:,}" for count in (record.prompt_tokens, record.output_tokens)
        )

    @column("Started", ordering="started_at")
    def at(self, record: RequestRecord) -> str:
        return second(record.started_at)

    @column("Team", ordering="team_name")
    def team_(self, record: RequestRecord) -> str:
        return record.team_name or "-"

    @column("Node", ordering="node_name")
    def node_(self, record: RequestRecord) -> str:
        return record.node_name or "-"

    @column(
        "Outcome",
        ordering="outcome",
        served="success",
        refused="warning",
        expired="warning",
        cancelled="",
        failed="danger",
    )
    def ended(self, record: RequestRecord) -> str:
        return record.outcome

    @column("Resumed", ordering="resumed")
    def resumed_(self, record: RequestRecord) -> str:
        return str(record.resumed or "-")

    @column("Waited")
    def waited(self, record: RequestRecord) -> str:
        return milliseconds(record.queue_ms)

    @column("Took")
    def took(self, record: RequestRecord) -> str:
        return milliseconds(record.total_ms)


@admin.register(NodeEvent)
class NodeEventAdmin(HistoryAdmin):
    list_display = ("when", "node_name", "what", "detail")
    list_filter = ("node",)
    search_fields = ("node_name", "kind")
    search_help_text = "Name of a node, or kind of event: up, down, version, inventory, measured, …"

    @column("At", ordering="at")
    def when(self, event: NodeEvent) -> str:
        return second(event.at)

    @column(
        "Event",
        ordering="kind",
        up="success",
        down="danger",
        breaker_open="warning",
        breaker_closed="success",
        measured="success",
        not_measured="warning",
        pulled="success",
        not_pulled="danger",
        deleted="success",
        not_deleted="danger",
        loaded="success",
        not_loaded="danger",
        unloaded="success",
        not_unloaded="danger",
        pulling="info",
        loading="info",
        deleting="info",
        unloading="info",
    )
    def what(self, event: NodeEvent) -> str:
        return event.kind
