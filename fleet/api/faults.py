"""Faults that no view can do anything about, told as an answer."""

from typing import Any

from django.db import InterfaceError, OperationalError
from rest_framework.response import Response
from rest_framework.views import exception_handler


def answer(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's own answer; 503 while the database is away or busy."""
    if isinstance(error, (OperationalError, InterfaceError)):
        detail = "The database cannot be reached or is busy; try again in a moment."
        return Response({"detail": detail}, status=503, headers={"Retry-After": "5"})
    return exception_handler(error, context)
