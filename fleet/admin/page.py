"""What the admin pages share: the look, badges, read-only pages, and a paginator that never counts a whole history."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar, TypeVar

import unfold.admin
from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property
from unfold.decorators import action

from fleet.models import Team
from fleet.selectors import access

UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))

F = TypeVar("F", bound=Callable[..., Any])


class PageAdmin(unfold.admin.ModelAdmin):  # type: ignore[misc]  # unfold is untyped; our pages derive from here
    list_fullwidth = True
    list_filter_submit = False
    warn_unsaved_form = True

    class Media:
        css: ClassVar[dict[str, tuple[str, ...]]] = {"all": ("fleet/admin.css",)}

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
        return rows.filter(team=int(chosen)) if chosen.isdecimal() else rows.none()


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
