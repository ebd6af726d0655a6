"""How nodes are chosen: strategies, and the rules that name them."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.forms import CharField, ChoiceField, FloatField, ModelForm
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from fleet.admin.page import PageAdmin, column
from fleet.models import RoutingRule, RoutingStrategy
from fleet.models.routing import MOST, MOST_PRICE, told, using
from fleet.selectors.routing import doubts, known, model_names, rules, strategies, strategy_names
from fleet.services.routing import make_default
from routing.core.names import display
from routing.core.strategies import BUILT_IN, DEFAULTS, FASTEST, TERMS

MEANINGS = {
    "start": "Seconds until the node can begin.",
    "run": "Seconds that the request itself takes.",
    "others": "Seconds that it delays those who run there.",
    "evict": "Seconds of loads that evicted models will cost.",
    "gpu": "A CPU where a GPU is wanted.",
    "price": "What the node's time costs; in seconds for a unit of money.",
    "distance": "Seconds of the way there.",
}


def weight_field(term: str) -> str:
    return f"weight_{term}"


class StrategyForm(ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """Weights as numbers, one for each term; preferred nodes one a line."""

    preferred = CharField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4, "placeholder": "gpu-1\nrack=a1"}),
        label="Preferred nodes",
        help_text="For priority nodes only: names, or labels as name=value, one a line, the first liked best.",
    )

    class Meta:
        model = RoutingStrategy
        fields = ("name", "kind", "is_default", "preferred", "note")
        widgets = {"note": UnfoldAdminTextareaWidget(attrs={"rows": 2})}  # noqa: RUF012 (Django's own form)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.initial["preferred"] = "\n".join(self.instance.preferred)
        for term in TERMS:
            self.initial[weight_field(term)] = self.instance.weights.get(term)

    def clean_preferred(self) -> list[str]:
        return [line.strip() for line in self.cleaned_data["preferred"].splitlines() if line.strip()]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        given = {term: data.get(weight_field(term)) for term in TERMS}
        self.instance.weights = {term: weight for term, weight in given.items() if weight is not None}
        return data


for _term in TERMS:
    StrategyForm.base_fields[weight_field(_term)] = StrategyForm.declared_fields[weight_field(_term)] = FloatField(
        required=False,
        label=_term,
        min_value=0,
        max_value=MOST_PRICE if _term == "price" else MOST,
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any"}),
        help_text=MEANINGS.get(_term, ""),
    )


def own_weights() -> str:
    """What the kinds' own weights are."""
    return "; ".join(
        f"{kind}: {', '.join(f'{term} {weight:g}' for term, weight in weights._asdict().items() if weight) or 'none'}"
        for kind, weights in DEFAULTS.items()
    )


class TellsDoubts:
    """Tells what will not do what the operator may expect, once it is saved."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)  # type: ignore[misc]  # a mixin
        for doubt in doubts(obj, known()):
            self.message_user(request, doubt, messages.WARNING)  # type: ignore[attr-defined]  # a mixin


@admin.register(RoutingStrategy)
class RoutingStrategyAdmin(TellsDoubts, PageAdmin):
    form = StrategyForm
    list_display = ("name", "what_kind", "default", "differing", "liked", "rules_", "note")
    list_filter = ("kind", "is_default")
    search_fields = ("name", "note")
    actions = ("use_as_default",)
    list_before_template = "admin/fleet/routingstrategy/about.html"
    fieldsets = (
        (None, {"fields": (("name", "kind"), "is_default", "preferred", "note")}),
        (
            "Weights: a node's cost is the weighted sum of these terms; empty: as the kind has it",
            {
                "description": f"The kinds' own weights: {own_weights()}.",
                "fields": tuple(tuple(map(weight_field, TERMS[i : i + 2])) for i in range(0, len(TERMS), 2)),
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[RoutingStrategy]:
        return strategies()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        default = RoutingStrategy.objects.filter(is_default=True).values_list("name", flat=True).first()
        context = {"kinds": list(BUILT_IN), "default": default or FASTEST.name}
        answer: HttpResponse = super().changelist_view(request, (extra_context or {}) | context)
        return answer

    @column("Kind", ordering="kind")
    def what_kind(self, strategy: RoutingStrategy) -> str:
        return strategy.kind.replace("_", " ")

    @column("Default", ordering="is_default", default="success")
    def default(self, strategy: RoutingStrategy) -> str:
        return "default" if strategy.is_default else ""

    @column("Weights")
    def differing(self, strategy: RoutingStrategy) -> str:
        return ", ".join(f"{term} {weight:g}" for term, weight in strategy.weights.items()) or "the kind's own"

    @column("Preferred")
    def liked(self, strategy: RoutingStrategy) -> str:
        return ", ".join(strategy.preferred) or "-"

    @column("Rules", ordering="rules")
    def rules_(self, strategy: Any) -> int:
        return int(strategy.rules)

    @admin.action(description="Use as default", permissions=("change",))
    def use_as_default(self, request: HttpRequest, chosen: QuerySet[RoutingStrategy]) -> None:
        rows = list(chosen)
        if len(rows) != 1:
            self.message_user(request, "Choose one strategy: only one can be the default.", messages.ERROR)
            return
        make_default(rows[0])
        self.log_change(request, rows[0], "Now the default.")
        self.message_user(request, f"{rows[0].name} now holds wherever no rule names another.", messages.SUCCESS)

    def get_deleted_objects(self, objs: Iterable[RoutingStrategy], request: HttpRequest) -> Any:
        """What rules name stays: the page names those rules instead of a button."""
        chosen = list(objs)
        gone, counts, permissions, protected = super().get_deleted_objects(chosen, request)
        for strategy in chosen:
            named = [] if strategy.name in BUILT_IN else using(strategy.name)
            if named:
                protected.append(f"Rules that name {strategy.name}: {told(named)}. Change them first.")
        return gone, counts, permissions, protected


class Suggesting(UnfoldAdminTextInputWidget):  # type: ignore[misc]  # unfold is untyped
    """A text field that suggests, and takes anything else too."""

    suggestions: Iterable[str] = ()

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> str:
        field = super().render(name, value, {**(attrs or {}), "list": f"{name}-known"}, renderer)
        options = format_html_join("", '<option value="{}">', ((one,) for one in self.suggestions))
        return format_html('{}<datalist id="{}-known">{}</datalist>', field, name, options)


class RuleForm(ModelForm):  # type: ignore[type-arg]  # not generic at run time
    class Meta:
        model = RoutingRule
        fields = ("team", "model", "strategy", "labels", "num_ctx", "enabled", "note")
        widgets = {  # noqa: RUF012 (Django's own form)
            "model": Suggesting(attrs={"placeholder": "llama3.1:8b"}),
            "labels": UnfoldAdminTextareaWidget(attrs={"rows": 2}),
            "note": UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        }

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.model:
            self.initial["model"] = display(self.instance.model)
        if "strategy" not in self.fields:  # whoever may only look gets no fields
            return
        self.fields["model"].widget.suggestions = model_names()
        names = [(name, name.replace("_", " ") if name in BUILT_IN else name) for name in strategy_names()]
        field = self.fields["strategy"]
        self.fields["strategy"] = ChoiceField(
            choices=[("", "as without this rule"), *names],
            required=False,
            label=field.label,
            help_text=field.help_text,
            widget=UnfoldAdminSelectWidget,
        )


@admin.register(RoutingRule)
class RoutingRuleAdmin(TellsDoubts, PageAdmin):
    form = RuleForm
    list_display = ("whose", "which", "how", "where", "num_ctx", "use", "note")
    list_display_links = ("whose", "which")
    list_filter = ("enabled", "team")
    search_fields = ("team__name", "model", "strategy", "note")
    search_help_text = "Team, model, strategy or note"
    autocomplete_fields = ("team",)
    fieldsets = (
        ("Whose requests", {"fields": (("team", "model"), "enabled")}),
        ("What holds for them", {"fields": (("strategy", "num_ctx"), "labels")}),
        (None, {"fields": ("note",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[RoutingRule]:
        return rules()

    @column("Team", ordering="team__name")
    def whose(self, rule: RoutingRule) -> str:
        return "every team" if rule.team is None else str(rule.team)

    @column("Model", ordering="model")
    def which(self, rule: RoutingRule) -> str:
        return display(rule.model) if rule.model else "every model"

    @column("Strategy", ordering="strategy")
    def how(self, rule: RoutingRule) -> str:
        return rule.strategy or "-"

    @column("Nodes")
    def where(self, rule: RoutingRule) -> str:
        return ", ".join(f"{name}={value}" for name, value in rule.labels.items()) or "any"

    @column("Use", ordering="enabled", enabled="success", disabled="")
    def use(self, rule: RoutingRule) -> str:
        return "enabled" if rule.enabled else "disabled"
