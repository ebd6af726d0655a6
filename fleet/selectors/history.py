"""Reads of history, and the oldest part of it that may go."""

from datetime import datetime
from typing import TypeVar

from django.db.models import Model, Q, QuerySet

from fleet.models import NodeEvent, RequestRecord, Rollup
from fleet.selectors.rollups import spellings

T = TypeVar("T", bound=Model)


def requests() -> QuerySet[RequestRecord]:
    """Ended requests, newest first; names stand in the rows, so nothing is joined."""
    return RequestRecord.objects.order_by("-started_at", "-id")


def events() -> QuerySet[NodeEvent]:
    """Nodes' transitions, newest first."""
    return NodeEvent.objects.order_by("-at", "-id")


def rollups() -> QuerySet[Rollup]:
    """Sums by hour and day, newest first."""
    return Rollup.objects.order_by("-begins", "-id")


def of_model(name: str) -> Q:
    """Requests for a model, as clients may have written it: with and without the tag that stands for none.

    Only spellings that occur are asked for: with one that does not, SQLite would read the newest of all, to the end.
    """
    found = [one for one in sorted(spellings(name)) if RequestRecord.objects.filter(model=one).exists()]
    return Q(model=found[0]) if len(found) == 1 else Q(model__in=found)


def of_id_or_model(text: str) -> Q:
    """The request of this id, and those for a model of this name; each exactly, so that the indexes answer."""
    model, same = of_model(text), RequestRecord.objects.filter(request_id=text)
    if not same.exists():
        return model
    return Q(request_id=text) if model == Q(model__in=[]) else model | Q(request_id=text)


def begun_within(since: datetime, until: datetime) -> QuerySet[RequestRecord]:
    """Ended requests that began in a span of time, in no order."""
    return RequestRecord.objects.filter(started_at__gte=since, started_at__lt=until).order_by()


def old_requests(before: datetime) -> QuerySet[RequestRecord]:
    return RequestRecord.objects.filter(started_at__lt=before).order_by("started_at")


def old_events(before: datetime) -> QuerySet[NodeEvent]:
    return NodeEvent.objects.filter(at__lt=before).order_by("at")


def surplus(rows: QuerySet[T], most: int) -> QuerySet[T]:
    """What is older than the newest `most` rows, in the order in which it was written, oldest first."""
    newest = rows.order_by("-pk").values_list("pk", flat=True)
    first_too_many = next(iter(newest[most : most + 1]), 0)
    return rows.filter(pk__lte=first_too_many).order_by("pk")
