"""What gateways have learned of nodes' speeds, to look at."""

from typing import Any

import unfold.admin
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from fleet.admin.page import ReadOnlyAdmin, ago, column, unbroken
from fleet.models import LearnedSpeed
from fleet.selectors.learning import speeds
from routing.core.names import display


class SpeedColumns:
    """Columns of a learned speed, on its own page and on its node's."""

    @column("Model", ordering="model")
    def which(self, row: LearnedSpeed) -> str:
        return display(row.model) if row.model else row.weights[:12]

    @column("Prompt, tokens/s", ordering="prompt_s")
    def prompt(self, row: LearnedSpeed) -> str:
        return rate(row.prompt_s, row.prompt_seen)

    @column("Answer, tokens/s", ordering="output_s")
    def output(self, row: LearnedSpeed) -> str:
        return rate(row.output_s, row.output_seen)

    @column("Load", ordering="load_s")
    def load(self, row: LearnedSpeed) -> str:
        return guess(f"{row.load_s:.1f} s", row.load_seen)

    @column("Observations: prompts, answers, loads")
    def seen(self, row: LearnedSpeed) -> str:
        return unbroken(f"{row.prompt_seen:,} · {row.output_seen:,} · {row.load_seen:,}")

    @column("Basis", measured="success", guess="")
    def basis(self, row: LearnedSpeed) -> str:
        return "measured" if row.prompt_seen or row.output_seen else "guess"

    @column("Changed", ordering="updated_at")
    def changed(self, row: LearnedSpeed) -> str:
        return ago(row.updated_at)


def rate(seconds: float, seen: int) -> str:
    tokens = 1 / seconds
    return guess(f"{tokens:,.0f}" if tokens >= 100 else f"{tokens:,.1f}", seen)  # noqa: PLR2004 (three digits do)


def guess(text: str, seen: int) -> str:
    """What was never seen is marked as the guess that it is."""
    return unbroken(text if seen else f"≈ {text}")


COLUMNS = ("prompt", "output", "load", "seen", "basis", "changed")


class LearnedSpeedInline(SpeedColumns, unfold.admin.TabularInline):  # type: ignore[misc]  # unfold is untyped
    model = LearnedSpeed
    fields = readonly_fields = ("which", *COLUMNS)
    extra = 0
    can_delete = False
    per_page = 25
    hide_title = True
    verbose_name_plural = "Learned speeds, of one request alone (≈: a guess from the node's class)"

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False


class BasisFilter(admin.SimpleListFilter):
    title = "basis"
    parameter_name = "basis"

    def lookups(self, request: HttpRequest, page: Any) -> list[tuple[str, str]]:
        return [("measured", "measured"), ("guess", "guess")]

    def queryset(self, request: HttpRequest, rows: QuerySet[LearnedSpeed]) -> QuerySet[LearnedSpeed]:
        unseen = Q(prompt_seen=0, output_seen=0)
        return {"measured": rows.exclude(unseen), "guess": rows.filter(unseen)}.get(self.value() or "", rows)


@admin.register(LearnedSpeed)
class LearnedSpeedAdmin(SpeedColumns, ReadOnlyAdmin):
    list_display = ("node", "which", *COLUMNS)
    list_filter = ("node", BasisFilter)
    search_fields = ("model", "weights", "node__name")
    search_help_text = "Model, digest or node"

    def get_queryset(self, request: HttpRequest) -> QuerySet[LearnedSpeed]:
        return speeds()
