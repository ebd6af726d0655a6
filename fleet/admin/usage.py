"""What teams have used, to look at."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from fleet.admin.page import ReadOnlyAdmin, TeamFilter, column
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

    def get_queryset(self, request: HttpRequest) -> QuerySet[UsageDay]:
        return seen(request.user, usage())

    @column("Requests", ordering="requests")
    def requests_(self, row: UsageDay) -> str:
        return f"{row.requests:,}"

    @column("Tokens in", ordering="tokens_in")
    def tokens_in_(self, row: UsageDay) -> str:
        return f"{row.tokens_in:,}"

    @column("Tokens out", ordering="tokens_out")
    def tokens_out_(self, row: UsageDay) -> str:
        return f"{row.tokens_out:,}"

    @column("GPU-seconds", ordering="gpu_seconds")
    def gpu_seconds_(self, row: UsageDay) -> str:
        return f"{row.gpu_seconds:,.1f}"
