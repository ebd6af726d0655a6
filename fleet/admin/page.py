"""What the admin pages share: the look, badges, read-only pages, and a paginator that never counts a whole history."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar, TypeVar

import unfold.admin
from django import forms
from django.contrib import admin
from django.core.paginator import Paginator
from django.db import models
from django.db.models import QuerySet
from django.forms.fields import InvalidJSONInput
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property
from unfold.decorators import action

from fleet.models import Team
from fleet.selectors import access

#: Decimal digits of the largest id of which every one of that length fits into a column.
LONGEST_ID = 18
UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))

F = TypeVar("F", bound=Callable[..., Any])


class JSONText(forms.JSONField):
    """JSON that somebody types; what is nested too deeply, or holds half a character, is no fault of ours."""

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except RecursionError:
            raise forms.ValidationError(self.error_messages["invalid"], code="invalid", params={"value": "…"}) from None

    def bound_data(self, data: Any, initial: Any) -> Any:
        try:
            return super().bound_data(data, initial)
        except RecursionError:
            return InvalidJSONInput(data)

    def prepare_value(self, value: Any) -> Any:
        text = super().prepare_value(value)
        return text if isinstance(text, InvalidJSONInput) else text.encode("utf-8", "replace").decode()


class PageAdmin(unfold.admin.ModelAdmin):  # type: ignore[misc]  # unfold is untyped; our pages derive from here
    list_fullwidth = True
    list_filter_submit = False
    warn_unsaved_form = True
    formfield_overrides: ClassVar[dict[Any, dict[str, Any]]] = {models.JSONField: {"form_class": JSONText}}

    class Media:
        css: ClassVar[dict[str, tuple[str, ...]]] = {"all": ("fleet/admin.css",)}

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Of columns only those that the list offers as filters narrow it: by others, secrets could be guessed."""
        columns = {one.name for one in self.opts.get_fields()} - {self.opts.pk.name}
        offered = [one[0] if isinstance(one, tuple) else one for one in self.list_filter]
        named = [one for one in offered if isinstance(one, str)]
        named += [one.parameter_name for one in offered if getattr(one, "parameter_name", None)]
        foreign = lookup.partition("__")[0] in columns and not any(
            lookup == name or lookup.startswith(f"{name}__") for name in named
        )
        return not foreign and "\0" not in str(value) and bool(super().lookup_allowed(lookup, value, request))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Rows that the machine has written go with the row that they are about: nobody needs a permission for them."""
        gone, counts, lacking, protected = super().get_deleted_objects(objs, request)
        pages = self.admin_site._registry.items()  # noqa: SLF001 (Django offers no other way to all pages)
        written = {model._meta.verbose_name for model, page in pages if isinstance(page, ReadOnlyAdmin)}  # noqa: SLF001
        return gone, counts, set(lacking) - written, protected


class TeamRows:
    """Rows of teams: who leads a team sees and changes those of the own team only."""

    #: From a row to its team.
    team_path = "team"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return access.seen(request.user, super().get_queryset(request), self.team_path)  # type: ignore[misc]  # a mixin

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and self.is_own(request, obj)  # type: ignore[misc]  # as above

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and self.is_own(request, obj)  # type: ignore[misc]  # as above

    def is_own(self, request: HttpRequest, obj: Any) -> bool:
        """Whether a person may change this row, as far as permissions let them change any."""
        if obj is None or obj.pk is None or access.changes_all(request.user):
            return True
        return access.changed(request.user, type(obj)._default_manager.filter(pk=obj.pk), self.team_path).exists()  # noqa: SLF001 (Django's public name for it)


class TeamFilter(admin.SimpleListFilter):
    """The teams whose rows the person may see."""

    title = "team"
    parameter_name = "team"

    def lookups(self, request: HttpRequest, page: Any) -> list[tuple[str, str]]:
        teams = access.seen(request.user, Team.objects.order_by("name"), "pk")
        return [(str(pk), name) for pk, name in teams.values_list("pk", "name")]

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        if chosen is None:
            return rows
        team = row_id(chosen)
        return rows.none() if team is None else rows.filter(team=team)


class ReadOnlyAdmin(PageAdmin):
    """Rows that the machine writes; people only look."""

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class CappedPaginator(Paginator):  # type: ignore[type-arg]  # not generic at run time
    """Counts up to `most` rows and stops: a full count of a large history takes seconds; nobody turns to page 200."""

    most: ClassVar[int] = 10_000

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: self.most].count())


class HistoryAdmin(ReadOnlyAdmin):
    show_full_result_count = False
    paginator = CappedPaginator
    list_per_page = 50
    list_disable_select_all = True
    show_facets = admin.ShowFacets.NEVER  # they would count the whole history, once for each choice


def row_id(text: str) -> int | None:
    """An id in an address, which anybody may have made up; None for what can be none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= LONGEST_ID else None


def column(description: str, *, ordering: str | None = None, **colours: str) -> Callable[[F], F]:
    """A list column; with colours (success, warning, danger, info, "" for plain) by value it is shown as badges."""

    def mark(function: F) -> F:
        marks: dict[str, Any] = {"short_description": description, "admin_order_field": ordering}
        if colours:
            marks["label"] = colours
        for name, value in marks.items():
            setattr(function, name, value)
        return function

    return mark


def amount(description: str, name: str, digits: int = 0) -> Callable[[Any, Any], str]:
    """A list column of a number, which it is ordered by."""

    @column(description, ordering=name)
    def told(_: Any, row: Any) -> str:
        return f"{getattr(row, name):,.{digits}f}"

    return told


def button(description: str, permissions: tuple[str, ...], url_path: str | None = None) -> Callable[[F], F]:
    """A button above a list or a row's page; it leads to an address of its own, so it must not change anything."""
    mark: Callable[[F], F] = action(description=description, permissions=permissions, url_path=url_path)
    return mark


def unbroken(text: str) -> str:
    """The text with spaces at which no line breaks, for narrow columns."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def gib(size: float | None) -> str:
    """Bytes as GiB with one digit after the point; `-` if unknown."""
    return "-" if size is None else unbroken(f"{size / 2**30:.1f} GiB")


def milliseconds(value: float | None) -> str:
    """A duration as people read it: `12 ms`, `3.4 s`; `-` if unknown."""
    if value is None:
        return "-"
    return unbroken(f"{value:.0f} ms" if value < 1000 else f"{value / 1000:,.1f} s")  # noqa: PLR2004 (ms in a second)


def ago(at: datetime | None) -> str:
    """How long ago that was, in its largest unit; `never` for None."""
    if at is None:
        return "never"
    seconds = max(0, int((timezone.now() - at).total_seconds()))
    size, unit = next((size, unit) for size, unit in UNITS if seconds >= size or size == 1)
    return unbroken(f"{seconds // size} {unit} ago")


def second(at: datetime) -> str:
    """A moment to the second, in the server's time zone."""
    return unbroken(f"{timezone.localtime(at):%d %b %Y %H:%M:%S}")
