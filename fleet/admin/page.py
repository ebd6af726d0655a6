"""What the admin pages share: the look, badges, read-only pages, and a paginator that never counts a whole history."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar, TypeVar

import unfold.admin
from django.core.paginator import Paginator
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property

UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))

F = TypeVar("F", bound=Callable[..., Any])


class PageAdmin(unfold.admin.ModelAdmin):  # type: ignore[misc]  # unfold is untyped; our pages derive from here
    list_fullwidth = True
    list_filter_submit = False
    warn_unsaved_form = True


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
