"""Nodes: what they are, what they say, and the switches."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, reverse

from fleet.admin.inventory import NodeModelInline
from fleet.admin.landing import load_bar, vram_bar
from fleet.admin.learned import LearnedSpeedInline
from fleet.admin.node_actions import NodeActions, in_words
from fleet.admin.node_form import SAVE_DISABLED, NodeForm
from fleet.admin.page import PageAdmin, ago, button, column, milliseconds, row_id, second
from fleet.admin.stock import StockActions
from fleet.admin.transfers import Transfers
from fleet.models import Node, NodeModel
from fleet.selectors import access
from fleet.selectors.glance import live_nodes, state_of
from fleet.selectors.history import events, requests
from fleet.selectors.inventory import with_counts
from fleet.services.health import sweep
from fleet.services.texts import Row, node_rows
from routing.core.names import display

#: Rows of each kind on a node's own page, and loaded models that a cell of the list names.
RECENT, NAMED = 12, 3
LEVELS = {"served": "up", "failed": "danger"}


@admin.register(Node)
class NodeAdmin(NodeActions, StockActions, Transfers, PageAdmin):
    transferred = "nodes"
    form = NodeForm
    list_display = (
        "name", "url", "state", "load", "vram", "loaded", "models_", "version", "last_seen", "last_error",
    )  # fmt: skip
    list_filter = ("enabled", "draining", "observation__reachable", "node_class", "region")
    search_fields = ("name", "url", "region", "observation__last_error")
    search_help_text = "Name, address, region or error"
    ordering = ("name",)
    actions = (*NodeActions.actions, "pull_model", "load_model", "unload_model", "delete_model_")
    actions_detail = ("pull_here", "load_here", "unload_here", "delete_here")
    change_form_outer_after_template = "admin/fleet/node/recent.html"
    inlines = (NodeModelInline, LearnedSpeedInline)
    readonly_fields = (
        "state", "load", "version", "latency", "last_seen", "checked", "vram", "error",
        "relearned", "created_at", "changed_at",
    )  # fmt: skip
    fieldsets = (
        (
            "As observed",
            {
                "fields": (
                    ("state", "version", "latency"), ("load", "vram"), ("last_seen", "checked"), "error",
                    ("created_at", "changed_at"), "relearned",
                ),
            },
        ),
        (None, {"fields": ("name", "url", ("enabled", "draining"), "cloud", "region", "labels")}),
        (
            "Capabilities, as configured",
            {"fields": (("node_class", "gpu"), ("slots", "max_loaded"), ("vram_gb", "ram_gb", "cores"))},
        ),
        ("Preference and cost", {"fields": (("weight", "cost_per_hour"),)}),
        ("Credentials", {"fields": ("header_name", "header_value"), "classes": ("collapse",)}),
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Node]:
        loaded = Prefetch("models", NodeModel.objects.filter(resident=True).order_by("name"), to_attr="in_memory")
        return with_counts(super().get_queryset(request)).prefetch_related(loaded)

    def rows(self, request: HttpRequest) -> list[Row]:
        return node_rows(Node.objects.order_by("name"))

    def get_fieldsets(self, request: HttpRequest, obj: Node | None = None) -> Any:
        """Credentials are for those who may set them: a page that is only read shows a field's value as it is."""
        if not self.has_change_permission(request, obj):
            return self.fieldsets[:-1]
        return self.fieldsets if obj is not None else self.fieldsets[1:]

    def get_inlines(self, request: HttpRequest, obj: Node | None = None) -> Any:
        return self.inlines if obj is not None else ()

    def get_urls(self) -> list[URLPattern]:
        return [*self.stock_urls(), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        pk = row_id(object_id)
        context = {} if pk is None else {"recent": recent(request, pk)}
        answer: HttpResponse = super().change_view(request, object_id, form_url, (extra_context or {}) | context)
        return answer

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {"save_disabled": SAVE_DISABLED}
        answer: HttpResponse = super().add_view(request, form_url, (extra_context or {}) | context)
        return answer

    def save_model(self, request: HttpRequest, obj: Node, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if change:
            return
        if form.sighting is None:
            self.message_user(request, f"{obj.name} is disabled and was not looked at.", messages.WARNING)
            return
        [sighting] = sweep([obj])  # once more, now that there is a row to keep it in: with what its models can do
        told = f"{obj.url} is {in_words(sighting)}"
        self.message_user(request, told, messages.SUCCESS if sighting.reachable else messages.WARNING)

    @column(
        "State", ordering="observation__reachable",
        up="success", down="danger", suspect="warning", draining="warning", disabled="", unknown="",
    )  # fmt: skip
    def state(self, node: Node) -> str:
        return state_of(node, live_nodes().get(node.pk))

    @column("Slots in use", ordering="slots")
    def load(self, node: Node) -> str:
        """As the gateway of this process sees them; how many there are, where there is none."""
        row = live_nodes().get(node.pk)
        return f"{node.slots} slots" if row is None else load_bar(node, row)

    @column("VRAM", ordering="vram_gb")
    def vram(self, node: Node) -> str:
        return vram_bar(node, live_nodes().get(node.pk))

    @column("In memory", ordering="resident")
    def loaded(self, node: Any) -> str:
        row = live_nodes().get(node.pk)
        names = row["resident"] if row and row.get("resident") else [display(model.key) for model in node.in_memory]
        return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "") or "-"

    @column("Models", ordering="installed")
    def models_(self, node: Any) -> str:
        return str(node.installed)

    @column("Version", ordering="observation__version")
    def version(self, node: Node) -> str:
        return node.seen.version or "-"

    @column("Last seen", ordering="observation__last_seen")
    def last_seen(self, node: Node) -> str:
        return ago(node.seen.last_seen)

    @column("Last looked at")
    def checked(self, node: Node) -> str:
        return ago(node.seen.checked_at)

    @column("Last error", ordering="observation__last_error")
    def last_error(self, node: Node) -> str:
        text = str(live_nodes().get(node.pk, {}).get("error") or "") or node.seen.last_error
        return f"{text[:79]}…" if len(text) > 80 else text or "-"  # noqa: PLR2004 (a cell's width)

    @column("Last error")
    def error(self, node: Node) -> str:
        return node.seen.last_error or "-"

    @column("Latency")
    def latency(self, node: Node) -> str:
        return milliseconds(node.seen.latency_ms)

    @column("Speeds forgotten or measured")
    def relearned(self, node: Node) -> str:
        return ago(node.relearn_at)

    @button("Pull a model", ("change",))
    def pull_here(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.pull_model(request, nodes_at(object_id))

    @button("Load a model", ("change",))
    def load_here(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.load_model(request, nodes_at(object_id))

    @button("Unload a model", ("change",))
    def unload_here(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.unload_model(request, nodes_at(object_id))

    @button("Delete a model", ("change",))
    def delete_here(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.delete_model_(request, nodes_at(object_id))


def nodes_at(object_id: str) -> QuerySet[Node]:
    """The node that an address names, or none."""
    pk = row_id(object_id)
    return Node.objects.none() if pk is None else Node.objects.filter(pk=pk)


def recent(request: HttpRequest, pk: int) -> dict[str, Any]:
    """The newest requests and events of a node, for those who may see the lists of them."""
    told: dict[str, Any] = {"requests": [], "events": []}
    if request.user.has_perm("fleet.view_requestrecord"):
        told["requests"] = [
            {
                "pk": row.pk,
                "at": second(row.started_at),
                "model": row.model,
                "team": row.team_name,
                "outcome": row.outcome,
                "level": LEVELS.get(row.outcome, "warning"),
                "took": milliseconds(row.total_ms),
            }
            for row in access.seen(request.user, requests()).filter(node=pk)[:RECENT]
        ]
    if request.user.has_perm("fleet.view_nodeevent"):
        told["events"] = [
            {"at": ago(row.at), "kind": row.kind, "detail": row.detail} for row in events().filter(node=pk)[:RECENT]
        ]
    told["all_requests"] = reverse("admin:fleet_requestrecord_changelist", query={"node": pk})
    told["all_events"] = reverse("admin:fleet_nodeevent_changelist", query={"node__id__exact": pk})
    return told
