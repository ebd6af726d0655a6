"""Keys on their own pages and on their team's: shown once, rotated with an overlap."""

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from fleet.models import ApiKey, Team
from fleet.selectors.keys import by_digest
from fleet.services import keys
from tests.fleet.test_admin import act, page
from tests.fleet.test_quotas import rows

pytestmark = pytest.mark.django_db
PLAIN = re.compile(r"sollol_\w{8}_[\w-]{43}")


def rotate(client, key, **fields):
    words = {"action": "rotate", "_selected_action": [key.pk]} | fields
    return client.post(page(ApiKey, "changelist"), words, follow=True)


def team_form(team, *forms, **columns):
    fields = {"name": team.name, "description": "", "members": [user.pk for user in team.members.all()]}
    return fields | rows("keys") | rows("keys-2", *forms) | rows("policy") | columns


def new_key(name, *scopes):
    return {"id": "", "team": "", "name": name, "scopes": list(scopes), "expires_at_0": "", "expires_at_1": ""}


def test_rotating_asks_first(admin_page, bees):
    """Before anything is issued, the page asks how long the old key stays valid."""
    key = keys.create(bees, "chat").key
    answer = rotate(admin_page, key)
    assert "The old key stays valid for" in answer.content.decode()
    assert ApiKey.objects.count() == 1


def test_rotating_at_once(admin_page, bees):
    """Without an overlap the old key is revoked, and the new one is shown."""
    old = keys.create(bees, "chat")
    [plain] = PLAIN.findall(rotate(admin_page, old.key, overlap="0").content.decode())
    assert by_digest(keys.digest(plain)).name == "chat"
    assert by_digest(keys.digest(old.plain)) is None


def test_rotating_with_an_overlap(admin_page, bees):
    """The old key stays valid for the chosen time, under another name; the log tells both."""
    old = keys.create(bees, "chat")
    [plain] = PLAIN.findall(rotate(admin_page, old.key, overlap="24").content.decode())
    assert by_digest(keys.digest(plain)).name == "chat"
    kept = by_digest(keys.digest(old.plain))
    assert kept.name == f"chat (old {kept.prefix})"
    assert timedelta(hours=23) < kept.expires_at - timezone.now() <= timedelta(hours=24)
    assert LogEntry.objects.filter(object_id__in=[str(key.pk) for key in ApiKey.objects.all()]).count() == 2


def test_an_overlap_lengthens_no_life(bees):
    """A key that ends before the overlap does still ends then."""
    soon = timezone.now() + timedelta(minutes=5)
    key = keys.create(bees, "n" * 64, expires_at=soon).key
    keys.rotate(key, overlap=timedelta(days=1))
    key.refresh_from_db()
    assert (key.expires_at, len(key.name) <= 64) == (soon, True)


@pytest.mark.parametrize("overlap", ["0", "24"])
def test_what_has_ended_is_not_rotated(admin_page, bees, overlap):
    """A revoked key has no successor."""
    key = keys.create(bees, "chat").key
    keys.revoke(key)
    assert "is revoked" in rotate(admin_page, key, overlap=overlap).content.decode()
    assert ApiKey.objects.count() == 1


def test_keys_on_the_page_of_a_team(admin_page, ada, bees):
    """A key that is added on the team's page is shown in that answer, and nowhere after."""
    answer = admin_page.post(page(Team, "change", bees.pk), team_form(bees, new_key("chat", "inference")))
    [plain] = PLAIN.findall(answer.content.decode())
    key = by_digest(keys.digest(plain))
    assert (key.team, key.created_by) == (bees, ada)
    text = admin_page.get(page(Team, "change", bees.pk)).content.decode()
    assert (plain in text, key.prefix in text) == (False, True)


@pytest.mark.parametrize(
    ("names", "told"), [(("chat", "chat"), "choose another name"), (("old",), "choose another name")], ids=str
)
def test_bad_keys_on_the_page_of_a_team(admin_page, bees, names, told):
    """Names that are taken, in the form itself too, are told; nothing is issued."""
    keys.create(bees, "old")
    forms = [new_key(name, "inference") for name in names]
    answer = admin_page.post(page(Team, "change", bees.pk), team_form(bees, *forms))
    assert told in answer.content.decode()
    assert ApiKey.objects.count() == 1


def test_revoked_keys_are_told_by_name(admin_page, bees):
    """Each revocation is in Django's log."""
    key = keys.create(bees, "chat").key
    act(admin_page, ApiKey, "revoke", key)
    assert LogEntry.objects.get(object_id=str(key.pk)).change_message == "Revoked."
