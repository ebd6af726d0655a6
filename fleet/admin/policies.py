"""Policies: priorities, shares and quotas, one per team."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from fleet.admin.page import PageAdmin, TeamRows, column
from fleet.admin.quotas import QuotaInline
from fleet.admin.transfers import Transfers
from fleet.models import PriorityPolicy
from fleet.selectors.access import seen
from fleet.selectors.usage import policies
from fleet.services.texts import Row, policy_rows

FIELDSETS = (
    (
        "Priorities, 1 (batch) to 10 (critical)",
        {"fields": (("default_priority", "highest_priority", "batch_priority"),)},
    ),
    (
        "Share of a busy fleet, and requests at a time",
        {"fields": (("share_weight", "max_concurrent", "concurrent_breach"),)},
    ),
    ("When a node fails, or is slow", {"fields": ("on_break", "hedge")}),
    ("Embeddings", {"fields": (("join_embeddings", "split_embeddings", "cache_embeddings"),)}),
)


@admin.register(PriorityPolicy)
class PriorityPolicyAdmin(Transfers, TeamRows, PageAdmin):
    transferred = "policies"
    list_display = (
        "team", "default_priority", "highest_priority", "batch_priority", "share_weight", "max_concurrent", "limits",
    )  # fmt: skip
    list_select_related = ("team",)
    search_fields = ("team__name",)
    autocomplete_fields = ("team",)
    inlines = (QuotaInline,)
    fieldsets = ((None, {"fields": ("team",)}), *FIELDSETS)

    def get_queryset(self, request: HttpRequest) -> QuerySet[PriorityPolicy]:
        return seen(request.user, policies(timezone.now().date()))

    def rows(self, request: HttpRequest) -> list[Row]:
        return policy_rows(self.get_queryset(request))

    @column("Quotas")
    def limits(self, policy: PriorityPolicy) -> str:
        return "; ".join(map(str, policy.quotas.all())) or "-"
