"""Reads of history, and the oldest part of it that may go."""

from datetime import datetime

from django.db.models import QuerySet

from fleet.models import NodeEvent, RequestRecord


def requests() -> QuerySet[RequestRecord]:
    """Ended requests, newest first; names stand in the rows, so nothing is joined."""
    return RequestRecord.objects.order_by("-started_at", "-id")


def events() -> QuerySet[NodeEvent]:
    """Nodes' transitions, newest first."""
    return NodeEvent.objects.order_by("-at", "-id")


def begun_within(since: datetime, until: datetime) -> QuerySet[RequestRecord]:
    """Ended requests that began in a span of time, in no order."""
    return RequestRecord.objects.filter(started_at__gte=since, started_at__lt=until).order_by()


def old_requests(before: datetime) -> QuerySet[RequestRecord]:
    return RequestRecord.objects.filter(started_at__lt=before).order_by("started_at")


def old_events(before: datetime) -> QuerySet[NodeEvent]:
    return NodeEvent.objects.filter(at__lt=before).order_by("at")
