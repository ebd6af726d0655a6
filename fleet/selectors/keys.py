"""Reads of API keys."""

from django.db.models import Q, QuerySet
from django.utils import timezone

from fleet.models import ApiKey


def usable() -> QuerySet[ApiKey]:
    """Keys that are neither revoked nor expired, each with its team."""
    return ApiKey.objects.filter(Q(expires_at=None) | Q(expires_at__gt=timezone.now()), revoked_at=None).select_related(
        "team"
    )


def by_digest(digest: str) -> ApiKey | None:
    """The usable key with this hex SHA-256, or None."""
    return usable().filter(digest=digest).first()
