"""What is done to one or many nodes from their list and pages: the switches, looks, measurements."""

from collections.abc import Callable, Mapping
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from fleet.models import Node
from fleet.services import calibration, learning
from fleet.services import nodes as service
from fleet.services.health import sweep
from fleet.services.probe import Sighting

#: Nodes that a message tells one by one; of more it tells those that are down and the number of the others.
TOLD = 20


class NodeActions:
    """Actions of the nodes' pages; each is in Django's log."""

    actions: tuple[str, ...] = ("probe_now", "enable", "disable", "drain", "resume", "measure", "forget")
    actions_submit_line = ("save_and_probe", "save_and_measure")

    log_change: Callable[..., Any]
    message_user: Callable[..., Any]

    @admin.action(description="Probe now", permissions=("change",))
    def probe_now(self, request: HttpRequest, nodes: QuerySet[Node]) -> None:
        chosen = list(nodes)
        tell(self, request, {node.pk: node.name for node in chosen}, sweep(chosen))
        for node in chosen:
            self.log_change(request, node, "Probed.")

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
        self.log_change(request, node, "Speeds are being measured.")
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


def tell(page: Any, request: HttpRequest, names: Mapping[int, str], sightings: list[Sighting]) -> None:
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
