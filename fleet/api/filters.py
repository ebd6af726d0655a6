"""Filters that a view declares as `{parameter: lookup}`, and pages for long histories."""

from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.core.exceptions import ValidationError as Unfit
from django.db import models
from django.db.models import QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.filters import BaseFilterBackend
from rest_framework.pagination import CursorPagination, LimitOffsetPagination
from rest_framework.request import Request

BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class ColumnFilter(BaseFilterBackend):
    """Narrows by the view's `filter_columns`; a parameter that no one knows is 400, not silently everything."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        columns: dict[str, str] = getattr(view, "filter_columns", {})
        paging: frozenset[str] = getattr(view, "paging_parameters", frozenset({"limit", "offset", "cursor", "format"}))
        for name, value in request.query_params.items():
            if name in paging:
                continue
            if name not in columns:
                known = ", ".join(columns) or "none"
                raise ValidationError({name: [f"Unknown filter; this list knows: {known}."]})
            lookup = columns[name]
            if "\0" in value:
                raise ValidationError({name: ["A text has no null characters."]})
            allowed = shape(view.model, lookup).get("enum", (value,))
            if value not in allowed:
                raise ValidationError({name: [f"Give one of {', '.join(allowed)}."]})
            wanted: Any = BOOLEANS.get(str(value).lower(), value) if lookup.endswith("__exact") else value
            try:
                queryset = queryset.filter(**direct(view.model, lookup, wanted))
            except (Unfit, ValueError, TypeError):
                raise ValidationError({name: [f"{value!r} does not fit here."]}) from None
        return queryset

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """The filters for the OpenAPI description, with the types of the columns behind them."""
        columns: dict[str, str] = getattr(view, "filter_columns", {})
        return [
            {"name": name, "in": "query", "required": False, "schema": shape(view.model, lookup)}
            for name, lookup in columns.items()
        ]


def direct(model: Any, lookup: str, wanted: Any) -> dict[str, Any]:
    """The lookup, with the ids of what it names instead of a join: only so does SQLite use an index of a long table."""
    name, _, rest = lookup.partition("__")
    field = model._meta.get_field(name)  # noqa: SLF001 (Django's public name for it)
    if not (rest and isinstance(field, models.ForeignKey)):
        return {lookup: wanted}
    rows: QuerySet[Any] = field.related_model._default_manager.filter(**{rest: wanted})  # noqa: SLF001
    return {f"{name}__in": list(rows.values_list("pk", flat=True))}


def shape(model: Any, lookup: str) -> dict[str, Any]:
    """The JSON schema of values that a lookup takes."""
    *path, last = lookup.split("__")
    field: Any = None
    for step in (*path, last):
        try:
            field = model._meta.get_field(step)  # noqa: SLF001 (Django's public name for it)
        except FieldDoesNotExist:
            break  # a comparison: gte, iexact, ...
        model = field.related_model or model
    if isinstance(field, models.BooleanField):
        return {"type": "boolean"}
    if isinstance(field, models.DateTimeField):
        return {"type": "string", "format": "date-time"}
    if isinstance(field, models.DateField):
        return {"type": "string", "format": "date"}
    if isinstance(field, models.IntegerField):
        return {"type": "integer"}
    if field.choices:
        return {"type": "string", "enum": [str(value) for value, _ in field.choices]}
    return {"type": "string"}


def whole(request: Request, name: str, least: int, most: int, default: int) -> int:
    """A whole number of the query; a wrong one is 400, not silently the default."""
    value = request.query_params.get(name)
    if value is None:
        return default
    if not (value.isascii() and value.isdigit() and len(value) < 12 and least <= int(value) <= most):  # noqa: PLR2004
        raise ValidationError({name: [f"Give a whole number from {least} to {most}."]})
    return int(value)


class Numbered(LimitOffsetPagination):
    """Pages by `limit` and `offset`."""

    default_limit = 100
    max_limit = 1000
    last = 2**31

    def get_limit(self, request: Request) -> int:
        return whole(request, "limit", 1, self.max_limit, self.default_limit)

    def get_offset(self, request: Request) -> int:
        return whole(request, "offset", 0, self.last, 0)

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        return [
            parameter("limit", 1, self.max_limit, "Rows in a page."),
            parameter("offset", 0, self.last, "Rows before the first one."),
        ]


def parameter(name: str, least: int, most: int, text: str) -> dict[str, Any]:
    shape = {"type": "integer", "minimum": least, "maximum": most}
    return {"name": name, "in": "query", "required": False, "description": text, "schema": shape}


class NewestFirst(CursorPagination):
    """Requests by the time they came; the cursor holds its place while new rows arrive, and nothing is counted."""

    ordering = ("-started_at", "-id")
    page_size = 100
    page_size_query_param = "limit"
    max_page_size = 1000

    def get_page_size(self, request: Request) -> int:
        return whole(request, "limit", 1, self.max_page_size, self.page_size)

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        cursor: list[dict[str, Any]] = super().get_schema_operation_parameters(view)
        return [cursor[0], parameter("limit", 1, self.max_page_size, "Rows in a page.")]


class NewestEventsFirst(NewestFirst):
    ordering = ("-at", "-id")


class NewestRollupsFirst(NewestFirst):
    ordering = ("-begins", "-id")
