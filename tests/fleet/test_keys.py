"""The life of an API key."""

import re
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from fleet.models import ApiKey
from fleet.selectors.keys import by_digest
from fleet.services import keys

pytestmark = pytest.mark.django_db


def test_the_key_itself_is_not_kept(bees):
    """Only the digest and the prefix of a key are stored."""
    key, plain = keys.create(bees, "chat")
    assert re.fullmatch(rf"sollol_{key.prefix}_[A-Za-z0-9_-]{{43}}", plain)
    assert plain not in str(ApiKey.objects.values().get())
    assert by_digest(keys.digest(plain)) == key


def test_revoked_keys_are_not_found(bees):
    """A revoked key is not found any more; revoking twice is told."""
    key, plain = keys.create(bees, "chat")
    assert keys.revoke(key)
    assert not keys.revoke(key)
    assert by_digest(keys.digest(plain)) is None


def test_expired_keys_are_not_found(bees):
    """A key ends at its time."""
    key, plain = keys.create(bees, "chat", expires_at=timezone.now() - timedelta(seconds=1))
    assert by_digest(keys.digest(plain)) is None
    assert key.state == "expired"


def test_rotation(bees):
    """Rotating ends the old key and issues one of the same name and scopes."""
    old, plain = keys.create(bees, "chat", ["inference", "models"])
    new, fresh = keys.rotate(old)
    assert by_digest(keys.digest(plain)) is None
    assert by_digest(keys.digest(fresh)) == new
    assert (new.name, new.scopes) == ("chat", ["inference", "models"])


def test_a_revoked_key_is_not_rotated(bees):
    """Rotation is no way to bring a revoked key back."""
    key, _ = keys.create(bees, "chat")
    keys.revoke(key)
    with pytest.raises(ValueError, match="is revoked"):
        keys.rotate(key)


@pytest.mark.parametrize("scopes", [[], ["everything"], ["inference", "inference"]])
def test_scopes_are_known_ones(bees, scopes):
    """Scopes that do not exist are refused, with the list of those that do."""
    with pytest.raises(ValidationError, match="inference, models, manage"):
        keys.create(bees, "chat", scopes)


def test_names_are_free_again_after_revocation(bees, cats):
    """A team's keys in use have different names; other teams and revoked keys do not count."""
    key, _ = keys.create(bees, "chat")
    keys.create(cats, "chat")
    with pytest.raises(ValidationError, match="choose another name"):
        keys.create(bees, "chat")
    keys.revoke(key)
    assert keys.create(bees, "chat").key.state == "active"
