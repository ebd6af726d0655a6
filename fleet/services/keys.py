"""API keys: issued once in plain, kept as a digest, revoked, rotated."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import transaction
from django.utils import timezone

from fleet.models import ApiKey, Scope, Team
from fleet.models.key import PREFIX_LENGTH

MARK = "sollol_"
ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


class NewKey(NamedTuple):
    """A key that was just issued; `plain` is the whole key, seen here and never again."""

    key: ApiKey
    plain: str


def digest(plain: str) -> str:
    """The hex SHA-256 of a whole key. No salt or stretching: the secret part carries 256 random bits."""
    return hashlib.sha256(plain.encode()).hexdigest()


def issue(key: ApiKey) -> str:
    """Give an unsaved key its secret, save it, and return the whole key: `sollol_<prefix>_<43 characters>`."""
    key.prefix = "".join(secrets.choice(ALPHABET) for _ in range(PREFIX_LENGTH))
    plain = f"{MARK}{key.prefix}_{secrets.token_urlsafe(32)}"
    key.digest = digest(plain)
    key.save(force_insert=True)
    return plain


def create(
    team: Team,
    name: str,
    scopes: Sequence[str] = (Scope.INFERENCE.value,),
    *,
    expires_at: datetime | None = None,
    created_by: Any = None,
) -> NewKey:
    """Issue a key. Raises ValidationError for unknown scopes and for a name that the team uses already."""
    key = ApiKey(team=team, name=name, scopes=list(scopes), expires_at=expires_at, created_by=created_by)
    key.full_clean(exclude=("prefix", "digest"))
    return NewKey(key, issue(key))


def revoke(key: ApiKey) -> bool:
    """End a key at once; False if it was revoked already. Gateways refuse it within a second."""
    now = timezone.now()
    ended = ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=now)
    if ended:
        key.revoked_at = now
    return bool(ended)


def rotate(key: ApiKey, *, created_by: Any = None, overlap: timedelta = timedelta(0)) -> NewKey:
    """Issue a key like this one, in one step; the old one is revoked, or ends after `overlap` under another name.

    Raises ValueError if it has ended already.
    """
    with transaction.atomic():
        if overlap > timedelta(0):
            expires_at, name = key.expires_at, key.name
            outlive(key, timezone.now() + overlap)
            return create(key.team, name, key.scopes, expires_at=expires_at, created_by=created_by)
        if not revoke(key):
            raise ValueError(f"key {key.prefix} is revoked; create a new one instead")
        return create(key.team, key.name, key.scopes, expires_at=key.expires_at, created_by=created_by)


def outlive(key: ApiKey, until: datetime) -> None:
    """Let a key end at `until` at the latest, and leave its name to another. Raises ValueError if it has ended."""
    if key.state != "active":
        raise ValueError(f"key {key.prefix} is {key.state}; create a new one instead")
    ends = until if key.expires_at is None else min(until, key.expires_at)
    mark = f" (old {key.prefix})"
    longest = ApiKey._meta.get_field("name").max_length or 0  # noqa: SLF001 (Django's public name for it)
    name = f"{key.name[: longest - len(mark)]}{mark}"
    if not ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(name=name, expires_at=ends):
        raise ValueError(f"key {key.prefix} is revoked; create a new one instead")
    key.name, key.expires_at = name, ends
