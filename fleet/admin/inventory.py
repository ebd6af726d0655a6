"""Models on nodes: the inventory, as the sweep found it."""

from typing import Any

import unfold.admin
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from fleet.admin.page import ReadOnlyAdmin, column, gib
from fleet.models import NodeModel
from fleet.selectors.inventory import node_models


class ModelColumns:
    """Columns of a model's row, on its own page and on its node's."""

    @column("State", ordering="resident", loaded="success", installed="", deleted="warning")
    def state(self, row: NodeModel) -> str:
        """`deleted`: still in memory, but no longer on disk."""
        if not row.installed:
            return "deleted"
        return "loaded" if row.resident else "installed"

    @column("Size", ordering="size")
    def on_disk(self, row: NodeModel) -> str:
        return gib(row.size)

    @column("In memory", ordering="size_loaded")
    def in_memory(self, row: NodeModel) -> str:
        if not row.resident or not row.size_loaded:
            return "-"
        return f"{gib(row.size_loaded)}, {100 * (row.size_vram or 0) // row.size_loaded}% GPU"

    @column("Can")
    def can(self, row: NodeModel) -> str:
        return ", ".join(row.capabilities) or "-"

    @column("Parameters", ordering="parameters_b")
    def parameters(self, row: NodeModel) -> str:
        return "-" if row.parameters_b is None else f"{row.parameters_b:.3g} B"

    @column("Digest", ordering="digest")
    def short_digest(self, row: NodeModel) -> str:
        return row.digest[:12] or "-"


class NodeModelInline(ModelColumns, unfold.admin.TabularInline):  # type: ignore[misc]  # unfold is untyped
    model = NodeModel
    fields = readonly_fields = (
        "state", "on_disk", "in_memory", "loaded_context", "context_length", "can", "parameters", "quantization",
        "short_digest", "expires_at",
    )  # fmt: skip
    extra = 0
    can_delete = False
    show_change_link = True
    per_page = 25

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False


@admin.register(NodeModel)
class NodeModelAdmin(ModelColumns, ReadOnlyAdmin):
    list_display = (
        "name",
        "node",
        "state",
        "on_disk",
        "in_memory",
        "context_length",
        "can",
        "parameters",
        "short_digest",
    )
    list_filter = ("resident", "installed", "node")
    search_fields = ("name", "key", "digest")
    search_help_text = "Name or digest"

    def get_queryset(self, request: HttpRequest) -> QuerySet[NodeModel]:
        return node_models()
