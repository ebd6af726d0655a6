"""Models pulled to nodes, deleted, loaded and unloaded there: a form, and for a deletion a second question."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from unfold.widgets import UnfoldAdminSelectWidget

from fleet.admin.page import gib, row_id
from fleet.admin.routing import Suggesting
from fleet.models import Node, NodeModel
from fleet.selectors.routing import model_names
from fleet.services import stock
from fleet.services.stock import KEEP, VERBS, having
from routing.core.names import display

TITLES = {
    "pull": "Pull a model",
    "delete": "Delete a model",
    "load": "Load a model into memory",
    "unload": "Unload a model from memory",
}
#: Characters of a model's name that Ollama takes.
LONGEST = 600


class ModelForm(forms.Form):
    model = forms.CharField(max_length=LONGEST, label="Model")
    keep = forms.ChoiceField(
        choices=[(value, words) for value, words in KEEP.items()],
        required=False,
        label="Keep it loaded",
        widget=UnfoldAdminSelectWidget,
    )

    def __init__(self, action: str, nodes: Sequence[Node], *args: Any) -> None:
        super().__init__(*args)
        self.action, self.nodes = action, nodes
        self.fields["model"].widget = widget = Suggesting(attrs={"placeholder": "llama3.1:8b", "autofocus": True})
        widget.suggestions = model_names() if action == "pull" else on_them(action, nodes)
        if action != "load":
            del self.fields["keep"]

    def clean_model(self) -> str:
        model: str = self.cleaned_data["model"].strip()
        if not model.isprintable() or any(letter.isspace() for letter in model):
            raise forms.ValidationError("The name of a model has no spaces: name, or name:tag.")
        if self.action != "pull" and not having(model, self.nodes):
            raise forms.ValidationError(f"None of these nodes has a model {display(model)}, as far as is known.")
        return model


def on_them(action: str, nodes: Sequence[Node]) -> list[str]:
    """The models that the nodes have, or have loaded."""
    rows = NodeModel.objects.filter(node__in=nodes, **{"resident" if action == "unload" else "installed": True})
    return sorted({display(key) for key in rows.values_list("key", flat=True).distinct()})


class StockActions:
    """The actions of the nodes' list and pages that concern a model; each leads to the form."""

    admin_site: Any
    opts: Any
    log_change: Any
    message_user: Any
    has_change_permission: Any

    @admin.action(description="Pull a model …", permissions=("change",))
    def pull_model(self, request: HttpRequest, nodes: QuerySet[Node]) -> HttpResponse:
        return self.to_form("pull", nodes)

    @admin.action(description="Load a model …", permissions=("change",))
    def load_model(self, request: HttpRequest, nodes: QuerySet[Node]) -> HttpResponse:
        return self.to_form("load", nodes)

    @admin.action(description="Unload a model …", permissions=("change",))
    def unload_model(self, request: HttpRequest, nodes: QuerySet[Node]) -> HttpResponse:
        return self.to_form("unload", nodes)

    @admin.action(description="Delete a model …", permissions=("change",))
    def delete_model_(self, request: HttpRequest, nodes: QuerySet[Node]) -> HttpResponse:
        return self.to_form("delete", nodes)

    def to_form(self, action: str, nodes: QuerySet[Node]) -> HttpResponse:
        chosen = [str(pk) for pk in nodes.values_list("pk", flat=True)]
        return HttpResponseRedirect(reverse("admin:fleet_node_stock", args=(action,), query={"node": chosen}))

    def stock_urls(self) -> list[URLPattern]:
        return [path("models/<str:action>/", self.admin_site.admin_view(self.stock_page), name="fleet_node_stock")]

    def stock_page(self, request: HttpRequest, action: str) -> HttpResponse:
        if not self.has_change_permission(request) or action not in VERBS:
            raise PermissionDenied
        given = (request.POST if request.method == "POST" else request.GET).getlist("node")
        nodes = list(Node.objects.filter(pk__in=[pk for pk in map(row_id, given) if pk]).order_by("name"))
        if not nodes:
            self.message_user(request, "Choose one or more nodes first.", messages.ERROR)
            return HttpResponseRedirect(reverse("admin:fleet_node_changelist"))
        form = ModelForm(action, nodes, request.POST if request.method == "POST" else None)
        asked = False
        if request.method == "POST" and form.is_valid():
            if action != "delete" or "sure" in request.POST:
                return self.order(request, action, form)
            asked = True
        return self.stock_answer(request, action, nodes, form, asked=asked)

    def stock_answer(
        self, request: HttpRequest, action: str, nodes: Sequence[Node], form: ModelForm, *, asked: bool
    ) -> HttpResponse:
        rows = having(form.cleaned_data["model"], nodes) if asked else []
        context = {
            **self.admin_site.each_context(request),
            "title": TITLES[action],
            "opts": self.opts,
            "form": form,
            "action": action,
            "nodes": nodes,
            "asked": asked,
            "doomed": [{"node": row.node, "size": gib(row.size), "resident": row.resident} for row in rows],
        }
        return TemplateResponse(request, "admin/fleet/node/stock.html", context)

    def order(self, request: HttpRequest, action: str, form: ModelForm) -> HttpResponse:
        model, keep = form.cleaned_data["model"], form.cleaned_data.get("keep", "")
        nodes = list(form.nodes)
        if action != "pull":
            present = {row.node_id for row in having(model, nodes)}
            nodes = [node for node in nodes if node.pk in present]
        stock.order(action, nodes, model, keep)
        for node in nodes:
            self.log_change(request, node, f"{TITLES[action]}: {model}.")
        told = format_html(
            'The background worker does it: {} {} on {}. How it goes is told by <a class="underline" href="{}">node '
            "events</a>.",
            VERBS[action].now,
            model,
            ", ".join(node.name for node in nodes[:20]) + (f" and {len(nodes) - 20} more" if len(nodes) > 20 else ""),  # noqa: PLR2004 (enough)
            reverse("admin:fleet_nodeevent_changelist"),
        )
        self.message_user(request, told, messages.SUCCESS)
        if len(form.nodes) == 1:
            return HttpResponseRedirect(reverse("admin:fleet_node_change", args=(form.nodes[0].pk,)))
        return HttpResponseRedirect(reverse("admin:fleet_node_changelist"))
