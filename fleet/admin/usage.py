"""What teams have used, to look at."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from fleet.admin.page import ReadOnlyAdmin, TeamFilter, amount
from fleet.models import UsageDay
from fleet.selectors.access import seen
from fleet.selectors.usage import usage


@admin.register(UsageDay)
class UsageDayAdmin(ReadOnlyAdmin):
    list_display = ("day", "team", "priority", "requests_", "tokens_in_", "tokens_out_", "gpu_seconds_")
    list_filter = (TeamFilter, "day", "priority")
    search_fields = ("team__name",)
    search_help_text = "Team"
    list_per_page = 50

    requests_ = amount("Requests", "requests")
    tokens_in_ = amount("Tokens in", "tokens_in")
    tokens_out_ = amount("Tokens out", "tokens_out")
    gpu_seconds_ = amount("GPU-seconds", "gpu_seconds", 1)

    def get_queryset(self, request: HttpRequest) -> QuerySet[UsageDay]:
        return seen(request.user, usage())
