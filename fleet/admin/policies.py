"""Policies: priorities, shares and quotas, one per team."""

from django.contrib import admin

from fleet.admin.page import PageAdmin
from fleet.models import PriorityPolicy


@admin.register(PriorityPolicy)
class PriorityPolicyAdmin(PageAdmin):
    list_display = (
        "team", "default_priority", "highest_priority", "batch_priority", "share_weight", "max_concurrent",
        "requests_per_minute", "tokens_per_minute", "tokens_per_day", "gpu_seconds_per_day",
    )  # fmt: skip
    list_select_related = ("team",)
    search_fields = ("team__name",)
    autocomplete_fields = ("team",)
    fieldsets = (
        (None, {"fields": ("team",)}),
        (
            "Priorities, 1 (batch) to 10 (critical)",
            {"fields": (("default_priority", "highest_priority", "batch_priority"),)},
        ),
        (
            "Share and quotas",
            {
                "description": "Kept for the team; the gateway does not enforce these yet.",
                "fields": (
                    ("share_weight", "max_concurrent"),
                    ("requests_per_minute", "tokens_per_minute"),
                    ("tokens_per_day", "gpu_seconds_per_day"),
                ),
            },
        ),
    )
