"""Teams: who belongs to them, and what they may ask for."""

from typing import Any

import unfold.admin
from django.contrib import admin
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest

from fleet.admin.page import PageAdmin, column
from fleet.admin.policies import FIELDSETS
from fleet.admin.quotas import QuotaInline
from fleet.models import PriorityPolicy, Team
from fleet.selectors.teams import teams


class PolicyForm(ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """A policy that was added to the page is meant, also if nothing of it differs from the defaults."""

    def has_changed(self) -> bool:
        return self.instance.pk is None or super().has_changed()


class PolicyInline(unfold.admin.StackedInline):  # type: ignore[misc]  # unfold is untyped
    model = PriorityPolicy
    form = PolicyForm
    extra = 0
    verbose_name_plural = "Policy (without one the defaults apply)"
    fieldsets = FIELDSETS
    inlines = (QuotaInline,)


@admin.register(Team)
class TeamAdmin(PageAdmin):
    list_display = ("name", "description", "people", "active_keys", "priorities", "share")
    search_fields = ("name", "description", "members__username")
    search_help_text = "Name, description or member"
    autocomplete_fields = ("members",)
    inlines = (PolicyInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Team]:
        return teams()

    @column("Members", ordering="people")
    def people(self, team: Any) -> int:
        return int(team.people)

    @column("Keys in use", ordering="active_keys")
    def active_keys(self, team: Any) -> int:
        return int(team.active_keys)

    @column("Priority: default, highest, batch")
    def priorities(self, team: Team) -> str:
        policy = getattr(team, "policy", None)
        if policy is None:
            return "defaults"
        return f"{policy.default_priority}, {policy.highest_priority}, {policy.batch_priority}"

    @column("Share")
    def share(self, team: Team) -> str:
        policy = getattr(team, "policy", None)
        return "1" if policy is None else f"{policy.share_weight:g}"
