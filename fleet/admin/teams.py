"""Teams: who belongs to them, their keys, and what they may ask for."""

from collections.abc import Iterator, Sequence
from typing import Any

import unfold.admin
from django.contrib import admin
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from fleet.admin.keys import ApiKeyInline, NewKeyInline, issued_page
from fleet.admin.page import PageAdmin, TeamRows, column
from fleet.admin.policies import FIELDSETS
from fleet.admin.quotas import QuotaInline, used_bar
from fleet.models import ApiKey, PriorityPolicy, Team
from fleet.selectors import access
from fleet.selectors.teams import teams
from fleet.selectors.usage import fullest_of
from fleet.services import keys as service
from fleet.services.keys import NewKey


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
class TeamAdmin(TeamRows, PageAdmin):
    team_path = "pk"
    fields = ("name", "description", "members")
    list_display = ("name", "description", "people", "active_keys", "priorities", "share", "fullest")
    search_fields = ("name", "description", "members__username")
    search_help_text = "Name, description or member"
    autocomplete_fields = ("members",)
    inlines = (ApiKeyInline, NewKeyInline, PolicyInline)

    class Media:
        js = ("fleet/members.js",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Team]:
        return access.seen(request.user, teams(timezone.now().date()), "pk")

    def get_readonly_fields(self, request: HttpRequest, obj: Team | None = None) -> Sequence[str]:
        """Who leads a team says what it is for, and gives out keys; who belongs to it is the operators' matter."""
        return () if access.changes_all(request.user) else ("name", "members")

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """New keys get their secrets here; the answer shows them."""
        if formset.model is not ApiKey:
            super().save_formset(request, form, formset, change)
            return
        issued = []
        for key in formset.save(commit=False):
            key.created_by_id = request.user.pk
            issued.append(NewKey(key, service.issue(key)))
        for new in issued:
            page = self.admin_site.get_model_admin(ApiKey)
            page.log_addition(request, new.key, "Issued on the team's page.")
        request.issued = issued  # type: ignore[attr-defined]  # for the answer alone

    def response_add(self, request: HttpRequest, obj: Team, post_url_continue: str | None = None) -> HttpResponse:
        answer: HttpResponse = super().response_add(request, obj, post_url_continue)
        return self.with_keys(request, answer)

    def response_change(self, request: HttpRequest, obj: Team) -> HttpResponse:
        answer: HttpResponse = super().response_change(request, obj)
        return self.with_keys(request, answer)

    def with_keys(self, request: HttpRequest, answer: HttpResponse) -> HttpResponse:
        issued = getattr(request, "issued", ())
        return issued_page(self, request, issued) if issued else answer

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any) -> Any:
        """Faults in quotas, forms inside a form, are told at the top too; the theme tells the outer ones only."""
        if request.method == "POST" and not context.get("errors"):
            context["errors"] = nested_errors(context["inline_admin_formsets"])
        return super().render_change_form(request, context, *args, **options)

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

    @column("Fullest quota")
    def fullest(self, team: Team) -> str:
        policy = getattr(team, "policy", None)
        quota = None if policy is None else fullest_of(policy.quotas.all(), timezone.now())
        return "-" if quota is None else used_bar(quota)


def nested_errors(inlines: Sequence[Any]) -> list[Any]:
    return [
        fault for formset in nested(inlines) for fault in (*formset.non_form_errors(), *filter(None, formset.errors))
    ]


def nested(inlines: Sequence[Any]) -> Iterator[Any]:
    """The formsets inside the forms of these inlines."""
    for inline in inlines:
        for form in inline.formset.forms:
            for inner in getattr(form, "nested_formsets", ()):
                yield inner.formset
