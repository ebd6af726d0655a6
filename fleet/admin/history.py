"""Ended requests and nodes' transitions, to look at."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from fleet.admin.page import HistoryAdmin, column, milliseconds, second
from fleet.models import NodeEvent, RequestRecord
from routing.core.requests import Task


class TaskFilter(admin.SimpleListFilter):
    """The known kinds of task; asking the table for its distinct values would read all of it."""

    title = "task"
    parameter_name = "task"

    def lookups(self, request: HttpRequest, page: Any) -> list[tuple[str, str]]:
        return [(task.value, task.value) for task in Task]

    def queryset(self, request: HttpRequest, records: QuerySet[RequestRecord]) -> QuerySet[RequestRecord]:
        return records if self.value() is None else records.filter(task_type=self.value())


@admin.register(RequestRecord)
class RequestRecordAdmin(HistoryAdmin):
    list_display = (
        "at", "model", "task_type", "priority", "team_", "node_", "ended", "status", "attempts", "resumed_", "waited",
        "took",
    )  # fmt: skip
    list_filter = ("outcome", TaskFilter, "team", "node")
    search_fields = ("request_id", "model")  # shows the field; get_search_results searches
    search_help_text = "Whole request id or whole model name"

    def get_search_results(
        self, request: HttpRequest, records: QuerySet[RequestRecord], term: str
    ) -> tuple[QuerySet[RequestRecord], bool]:
        """Exact, so that the indexes answer; a search that ignores case would read the whole history."""
        term = term.strip()
        return (records.filter(Q(request_id=term) | Q(model=term)) if term else records), False

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
    )
    def what(self, event: NodeEvent) -> str:
        return event.kind
