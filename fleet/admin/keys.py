"""API keys: issued here, shown once, revoked."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.forms import ModelForm, MultipleChoiceField
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from fleet.admin.page import PageAdmin, column
from fleet.models import ApiKey, Scope
from fleet.services import keys as service
from fleet.services.keys import NewKey


class ApiKeyForm(ModelForm):  # type: ignore[type-arg]  # not generic at run time
    scopes = MultipleChoiceField(
        choices=Scope.choices, widget=UnfoldAdminCheckboxSelectMultipleWidget, initial=[Scope.INFERENCE]
    )

    class Meta:
        model = ApiKey
        fields = ("team", "name", "scopes", "expires_at")


@admin.register(ApiKey)
class ApiKeyAdmin(PageAdmin):
    form = ApiKeyForm
    list_display = ("name", "starts_with", "team", "allowed", "state", "expires_at", "created_at", "created_by")
    list_filter = ("team", ("revoked_at", admin.EmptyFieldListFilter), "expires_at")
    list_select_related = ("team", "created_by")
    search_fields = ("name", "prefix", "team__name")
    search_help_text = "Name, prefix or team"
    autocomplete_fields = ("team",)
    actions = ("revoke", "rotate")

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> Sequence[str]:
        return () if obj is None else ("team", "starts_with", "state", "created_by", "created_at", "revoked_at")

    def get_fieldsets(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        editable = ["team", "name", "scopes", "expires_at"]
        shown = [] if obj is None else ["starts_with", "state", ("created_by", "created_at"), "revoked_at"]
        return [(None, {"fields": [*editable, *shown]})]

    @column("Starts with", ordering="prefix")
    def starts_with(self, key: ApiKey) -> str:
        return f"{service.MARK}{key.prefix}_…"

    @column("Scopes")
    def allowed(self, key: ApiKey) -> str:
        return ", ".join(key.scopes)

    @column("State", active="success", expired="warning", revoked="danger")
    def state(self, key: ApiKey) -> str:
        return key.state

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        if change:
            obj.save()
            return
        obj.created_by_id = request.user.pk
        request.issued = [NewKey(obj, service.issue(obj))]  # type: ignore[attr-defined]  # for response_add alone

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """Shows the key in this very answer: neither a session nor a cookie nor a log ever holds it."""
        return self.issued_page(request, request.issued)  # type: ignore[attr-defined]  # set by save_model

    def issued_page(self, request: HttpRequest, issued: Sequence[NewKey]) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": "Key created" if len(issued) == 1 else "Keys created",
            "opts": self.opts,
            "issued": issued,
        }
        return TemplateResponse(request, "admin/fleet/apikey/issued.html", context)

    @admin.action(description="Revoke", permissions=("change",))
    def revoke(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        chosen = list(keys)
        ended = [key for key in chosen if service.revoke(key)]
        for key in ended:
            self.log_change(request, key, "Revoked.")
        same = f"; {len(chosen) - len(ended)} already were" if len(ended) < len(chosen) else ""
        self.message_user(request, f"{len(ended)} of {len(chosen)} keys are now revoked{same}.", messages.SUCCESS)

    @admin.action(description="Rotate: revoke and issue anew", permissions=("change",))
    def rotate(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> HttpResponse | None:
        try:
            with transaction.atomic():
                issued = [service.rotate(key, created_by=request.user) for key in keys]
        except ValueError as error:
            self.message_user(request, f"Nothing was rotated: {error}.", messages.ERROR)
            return None
        for new in issued:
            self.log_addition(request, new.key, "Issued by rotation.")
        return self.issued_page(request, issued)
