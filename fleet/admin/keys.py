"""API keys: issued here, shown once, revoked, rotated."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import unfold.admin
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.forms import ModelForm, MultipleChoiceField
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from unfold.forms import PaginationInlineFormSet
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from fleet.admin.page import PageAdmin, TeamFilter, TeamRows, column
from fleet.models import ApiKey, Scope, Team
from fleet.models.key import NAME_TAKEN
from fleet.selectors import access
from fleet.services import keys as service
from fleet.services.keys import NewKey

#: For how long a rotated key stays valid beside its successor, in hours.
OVERLAPS = {0: "not at all: it ends now", 1: "1 hour", 24: "1 day", 168: "7 days", 720: "30 days"}
#: Choosing rows shows the question about the overlap; this answers it.
ANSWERED = "overlap"


class ApiKeyForm(ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """Offers the scopes that the person may give out."""

    #: What the person may give out; set by the page for each request.
    grantable: frozenset[str] = frozenset(Scope.values)

    scopes = MultipleChoiceField(
        choices=Scope.choices, widget=UnfoldAdminCheckboxSelectMultipleWidget, initial=[Scope.INFERENCE]
    )

    class Meta:
        model = ApiKey
        fields = ("team", "name", "scopes", "expires_at")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if "scopes" in self.fields:
            offered = [(value, words) for value, words in Scope.choices if value in self.grantable]
            self.fields["scopes"].choices = offered  # type: ignore[attr-defined]  # a field of choices


class KeyColumns:
    """Columns of a key, on its own page and on its team's."""

    @column("Starts with", ordering="prefix")
    def starts_with(self, key: ApiKey) -> str:
        return f"{service.MARK}{key.prefix}_…"

    @column("Scopes")
    def allowed(self, key: ApiKey) -> str:
        return ", ".join(key.scopes)

    @column("State", active="success", expired="warning", revoked="danger")
    def state(self, key: ApiKey) -> str:
        return key.state


class KeyRows(TeamRows):
    """Keys that a person may change: of teams that he may change, and without scopes that he may not give out."""

    def is_own(self, request: HttpRequest, obj: Any) -> bool:
        if isinstance(obj, ApiKey) and not set(obj.scopes) <= access.grantable(request.user):
            return False
        return super().is_own(request, obj)


class ApiKeyInline(KeyColumns, unfold.admin.TabularInline):  # type: ignore[misc]  # unfold is untyped
    """The keys that a team has, each with the way to where it is rotated and revoked."""

    model = ApiKey
    fields = readonly_fields = ("name", "allowed", "state", "expires_at", "created_at", "way")
    extra = 0
    can_delete = False
    per_page = 25
    hide_title = True
    verbose_name_plural = "API keys"

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @column("Rotate or revoke")
    def way(self, key: ApiKey) -> str:
        address = reverse("admin:fleet_apikey_changelist", query={"q": key.prefix})
        return format_html('<a class="fleet-link" href="{}">{}</a>', address, self.starts_with(key))


class NewKeyFormSet(PaginationInlineFormSet):  # type: ignore[misc]  # unfold is untyped
    """Refuses two new keys of one name: the database would, but in no words."""

    def clean(self) -> None:
        super().clean()
        names: set[str] = set()
        for form in self.forms:
            name = getattr(form, "cleaned_data", {}).get("name")
            if name in names:
                form.add_error("name", NAME_TAKEN)
            names |= {name} if name else set()


class NewKeyInline(unfold.admin.TabularInline):  # type: ignore[misc]  # unfold is untyped
    """Keys to come: issued when the page is saved, and shown then, once."""

    model = ApiKey
    form = ApiKeyForm
    formset = NewKeyFormSet
    fields = ("name", "scopes", "expires_at")
    extra = 0
    can_delete = False
    verbose_name = "key"
    verbose_name_plural = "New API keys: each is shown once, when you save"

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        return ApiKey.objects.none()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(self.has_add_permission(request, obj))

    def get_formset(self, request: HttpRequest, obj: Any = None, **options: Any) -> Any:
        form = type("TeamKeyForm", (ApiKeyForm,), {"grantable": access.grantable(request.user)})
        return super().get_formset(request, obj, form=form, **options)


@admin.register(ApiKey)
class ApiKeyAdmin(KeyColumns, KeyRows, PageAdmin):
    form = ApiKeyForm
    list_display = ("name", "starts_with", "team", "allowed", "state", "expires_at", "created_at", "created_by")
    list_filter = (TeamFilter, ("revoked_at", admin.EmptyFieldListFilter), "expires_at")
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

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any) -> Any:
        form = super().get_form(request, obj, change=change, **options)
        form.grantable = access.grantable(request.user)
        return form

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        if db_field.name == "team":
            options["queryset"] = access.changed(request.user, Team.objects.all(), "pk")
        return super().formfield_for_foreignkey(db_field, request, **options)

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        if change:
            obj.save()
            return
        obj.created_by_id = request.user.pk
        request.issued = [NewKey(obj, service.issue(obj))]  # type: ignore[attr-defined]  # for response_add alone

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """Shows the key in this very answer: neither a session nor a cookie nor a log ever holds it."""
        return issued_page(self, request, request.issued)  # type: ignore[attr-defined]  # set by save_model

    @admin.action(description="Revoke", permissions=("change",))
    def revoke(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        chosen = self.permitted(request, keys)
        ended = [key for key in chosen if service.revoke(key)]
        for key in ended:
            self.log_change(request, key, "Revoked.")
        same = f"; {len(chosen) - len(ended)} already were" if len(ended) < len(chosen) else ""
        self.message_user(request, f"{len(ended)} of {len(chosen)} keys are now revoked{same}.", messages.SUCCESS)

    @admin.action(description="Rotate: issue anew …", permissions=("change",))
    def rotate(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> HttpResponse | None:
        """Asks first for how long the old keys stay valid; then issues the new ones and shows them."""
        chosen = self.permitted(request, keys)
        answer = request.POST.get(ANSWERED, "")
        if not chosen:
            return None
        if not answer.isdecimal() or int(answer) not in OVERLAPS:
            return self.rotation_page(request, chosen)
        overlap = timedelta(hours=int(answer))
        try:
            with transaction.atomic():
                issued = [service.rotate(key, created_by=request.user, overlap=overlap) for key in chosen]
        except ValueError as error:
            self.message_user(request, f"Nothing was rotated: {error}.", messages.ERROR)
            return None
        ends = f"Rotated: it stays valid for {OVERLAPS[int(answer)]}." if overlap else "Rotated: it is revoked."
        for key in chosen:
            self.log_change(request, key, ends)
        for new in issued:
            self.log_addition(request, new.key, "Issued by rotation.")
        return issued_page(self, request, issued)

    def permitted(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> list[ApiKey]:
        """Of the chosen keys those that the person may change; tells how many others there are."""
        chosen = list(keys)
        permitted = [key for key in chosen if self.has_change_permission(request, key)]
        if len(permitted) < len(chosen):
            told = f"{len(chosen) - len(permitted)} of the keys are beyond what you may change."
            self.message_user(request, told, messages.ERROR)
        return permitted

    def rotation_page(self, request: HttpRequest, keys: Sequence[ApiKey]) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": "Rotate keys" if len(keys) > 1 else "Rotate a key",
            "opts": self.opts,
            "keys": keys,
            "overlaps": OVERLAPS.items(),
        }
        return TemplateResponse(request, "admin/fleet/apikey/rotate.html", context)


def issued_page(page: Any, request: HttpRequest, issued: Sequence[NewKey]) -> HttpResponse:
    """The answer that shows new keys, the only one that ever does."""
    context = {
        **page.admin_site.each_context(request),
        "title": "Key created" if len(issued) == 1 else "Keys created",
        "opts": page.opts,
        "issued": issued,
    }
    return TemplateResponse(request, "admin/fleet/apikey/issued.html", context)
