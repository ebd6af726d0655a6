"""Nodes: what they are, what they say, and the switches."""

from collections.abc import Callable, Mapping
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextareaWidget

from fleet import live
from fleet.admin.inventory import NodeModelInline
from fleet.admin.learned import LearnedSpeedInline
from fleet.admin.page import PageAdmin, ago, column, gib, milliseconds, unbroken
from fleet.models import Node
from fleet.selectors.inventory import with_counts
from fleet.services import calibration, learning
from fleet.services import nodes as service
from fleet.services.health import sweep
from fleet.services.probe import Sighting

#: Nodes that a message tells one by one; of more it tells those that are down and the number of the others.
TOLD = 20


class NodeForm(ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """Credentials are never sent back to the browser; an empty field keeps them."""

    class Meta:
        model = Node
        fields = ()  # the page names them
        widgets = {  # noqa: RUF012 (Django's own form)
            "header_value": UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
            "labels": UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        }

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.header_value and "header_value" in self.fields:
            self.fields["header_value"].help_text = "Kept. Type to replace it; clear the header's name to remove it."

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not data.get("header_name"):
            data["header_value"] = ""
        elif not data.get("header_value"):
            data["header_value"] = self.instance.header_value
        return data


@admin.register(Node)
class NodeAdmin(PageAdmin):
    form = NodeForm
    list_display = (
        "name", "url", "use", "answers", "now", "slots", "vram", "models_", "version", "last_seen", "last_error",
    )  # fmt: skip
    list_filter = ("enabled", "draining", "observation__reachable", "node_class", "region")
    search_fields = ("name", "url", "region", "observation__last_error")
    search_help_text = "Name, address, region or error"
    ordering = ("name",)
    actions = ("probe_now", "enable", "disable", "drain", "resume", "measure", "forget")
    actions_submit_line = ("save_and_probe", "save_and_measure")
    inlines = (NodeModelInline, LearnedSpeedInline)
    readonly_fields = (
        "answers", "now", "version", "latency", "last_seen", "checked", "vram_used", "error",
        "relearned", "created_at", "changed_at",
    )  # fmt: skip
    fieldsets = (
        (None, {"fields": ("name", "url", ("enabled", "draining"), "cloud", "region", "labels")}),
        (
            "Capabilities, as configured",
            {"fields": (("node_class", "gpu"), ("slots", "max_loaded"), ("vram_gb", "ram_gb", "cores"))},
        ),
        ("Preference and cost", {"fields": (("weight", "cost_per_hour"),)}),
        ("Credentials", {"fields": ("header_name", "header_value"), "classes": ("collapse",)}),
        (
            "As observed",
            {
                "fields": (
                    ("answers", "now"), ("version", "latency"), ("last_seen", "checked"), "vram_used", "error",
                    ("created_at", "changed_at"), "relearned",
                ),
            },
        ),
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Node]:
        return with_counts(super().get_queryset(request))

    def get_fieldsets(self, request: HttpRequest, obj: Node | None = None) -> Any:
        return self.fieldsets if obj is not None else self.fieldsets[:-1]

    def get_inlines(self, request: HttpRequest, obj: Node | None = None) -> Any:
        return self.inlines if obj is not None else ()

    @column("Use", ordering="enabled", enabled="success", disabled="", draining="warning")
    def use(self, node: Node) -> str:
        if not node.enabled:
            return "disabled"
        return "draining" if node.draining else "enabled"

    @column("Answers", ordering="observation__reachable", up="success", down="danger", unknown="")
    def answers(self, node: Node) -> str:
        return {True: "up", False: "down", None: "unknown"}[node.seen.reachable]

    @column("Now")
    def now(self, node: Node) -> str:
        """Slots in use and the state that this process's gateway sees, if there is one."""
        seen = live_nodes().get(node.pk)
        if seen is None:
            return "-"
        return unbroken(f"{seen.get('in_flight', 0)}/{seen.get('slots', node.slots)} {seen.get('state', '')}")

    @column("VRAM", ordering="vram_gb")
    def vram(self, node: Node) -> str:
        return "-" if node.vram_gb is None else unbroken(f"{node.vram_gb:g} GiB")

    @column("Models", ordering="installed")
    def models_(self, node: Any) -> str:
        return unbroken(f"{node.installed} ({node.resident} loaded)") if node.resident else str(node.installed)

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
        text = node.seen.last_error
        return f"{text[:79]}…" if len(text) > 80 else text or "-"  # noqa: PLR2004 (a cell's width)

    @column("Last error")
    def error(self, node: Node) -> str:
        return node.seen.last_error or "-"

    @column("Latency")
    def latency(self, node: Node) -> str:
        return milliseconds(node.seen.latency_ms)

    @column("GPU memory in use")
    def vram_used(self, node: Node) -> str:
        return gib(node.seen.vram_used)

    @column("Speeds forgotten or measured")
    def relearned(self, node: Node) -> str:
        return ago(node.relearn_at)

    @admin.action(description="Probe now", permissions=("change",))
    def probe_now(self, request: HttpRequest, nodes: QuerySet[Node]) -> None:
        chosen = list(nodes)
        tell(self, request, {node.pk: node.name for node in chosen}, sweep(chosen))

    @admin.action(description="Enable", permissions=("change",))
    def enable(self, request: HttpRequest, nodes: QuerySet[Node]) -> None:
        self.switch(request, nodes, service.enable, "enabled")

    @admin.action(description="Disable", permissions=("change",))
    def disable(self, request: HttpRequest, nodes: QuerySet[Node]) -> None:
        self.switch(request, nodes, service.disable, "disabled")

    @admin.action(description="Drain: no new requests", permissions=("change",))
    def drain(self, request: HttpRequest, nodes: QuerySet[Node]) -> None:
        self.switch(request, nodes, service.drain, "draining")

    @admin.action(description="Resume: end draining", permissions=("change",))
    def resume(self, request: HttpRequest, nodes: QuerySet[Node]) -> None:
        self.switch(request, nodes, service.resume, "taking requests again")

    @admin.action(description="Save and probe", permissions=("change",))
    def save_and_probe(self, request: HttpRequest, node: Node) -> None:
        tell(self, request, {node.pk: node.name}, sweep([node]))

    @admin.action(description="Measure speeds (calibrate)", permissions=("change",))
    def measure(self, request: HttpRequest, nodes: QuerySet[Node]) -> None:
        chosen = list(nodes)
        calibration.queue(chosen)
        for node in chosen:
            self.log_change(request, node, "Speeds are being measured.")
        self.message_user(request, measuring(chosen), messages.SUCCESS)

    @admin.action(description="Save and measure speeds", permissions=("change",))
    def save_and_measure(self, request: HttpRequest, node: Node) -> None:
        calibration.queue([node])
        self.message_user(request, measuring([node]), messages.SUCCESS)

    @admin.action(description="Forget what was learned", permissions=("change",))
    def forget(self, request: HttpRequest, nodes: QuerySet[Node]) -> None:
        chosen = list(nodes)
        learning.forget(chosen)
        for node in chosen:
            self.log_change(request, node, "What was learned of it is forgotten.")
        told = "node starts from its class" if len(chosen) == 1 else "nodes start from their classes"
        self.message_user(request, f"Forgotten: {len(chosen)} {told} again.", messages.SUCCESS)

    def switch(self, request: HttpRequest, nodes: QuerySet[Node], act: Callable[..., int], state: str) -> None:
        chosen = list(nodes)
        changed = act(chosen)
        for node in chosen:
            self.log_change(request, node, f"Now {state}.")
        same = f"; {len(chosen) - changed} already were" if changed < len(chosen) else ""
        self.message_user(request, f"{changed} of {len(chosen)} nodes are now {state}{same}.", messages.SUCCESS)


def tell(page: NodeAdmin, request: HttpRequest, names: Mapping[int, str], sightings: list[Sighting]) -> None:
    every = len(sightings) <= TOLD
    up = 0
    for sighting in sightings:
        up += sighting.reachable
        if every or not sighting.reachable:
            level = (
                messages.ERROR if not sighting.reachable else messages.WARNING if sighting.error else messages.SUCCESS
            )
            page.message_user(request, f"{names[sighting.node_id]}: {in_words(sighting)}", level)
    if not every:
        page.message_user(request, f"{up} of {len(sightings)} nodes are up.", messages.SUCCESS)


def measuring(nodes: list[Node]) -> str:
    """What follows when nodes are to be measured, with a link to where it will be told."""
    return format_html(
        'The background worker measures {}, up to {} s each; the results come as <a class="underline" href="{}">'
        "node events</a>.",
        ", ".join(node.name for node in nodes[:TOLD]) + (f" and {len(nodes) - TOLD} more" * (len(nodes) > TOLD)),
        f"{calibration.SECONDS:.0f}",
        reverse("admin:fleet_nodeevent_changelist", query={"q": calibration.DONE}),
    )


def in_words(sighting: Sighting) -> str:
    if not sighting.reachable:
        return f"down: {sighting.error}"
    models = "its models unknown" if sighting.installed is None else f"{len(sighting.installed)} models installed"
    loaded = "" if sighting.resident is None else f", {len(sighting.resident)} loaded"
    error = f"; {sighting.error}" if sighting.error else ""
    return f"up, Ollama {sighting.version}, {models}{loaded}, {sighting.latency_ms or 0:.0f} ms{error}"


def live_nodes() -> dict[int, dict[str, Any]]:
    view = live.view()
    return {} if view is None else {row["id"]: row for row in view.as_dict().get("nodes", ())}
