"""The policy for embeddings: in admin, over REST, in the snapshot, in imports; and what metrics tell."""

import pytest

from fleet.models import PriorityPolicy
from fleet.runtime import gateway_settings
from fleet.services.texts import policy_rows
from fleet.snapshot import load_snapshot
from tests.fleet.test_admin import page

pytestmark = pytest.mark.django_db
FIELDS = ("join_embeddings", "split_embeddings", "cache_embeddings")


def test_all_is_off_by_default(bees):
    """With a policy as without one."""
    assert not load_snapshot().teams[bees.pk].embeds
    PriorityPolicy.objects.create(team=bees)
    assert not load_snapshot().teams[bees.pk].embeds


@pytest.mark.parametrize("name", FIELDS)
def test_the_policy_over_rest(api, bees, name):
    """Each by itself, and from there into the snapshot; what is no yes or no is refused."""
    assert api.post("/api/fleet/policies", {"team": "Bees", name: True}, format="json").status_code == 201
    team = load_snapshot().teams[bees.pk]
    assert [getattr(team, one) for one in FIELDS] == [one == name for one in FIELDS]
    assert team.embeds
    policy = PriorityPolicy.objects.get()
    answer = api.patch(f"/api/fleet/policies/{policy.pk}", {name: "perhaps"}, format="json")
    assert (answer.status_code, list(answer.json())) == (400, [name])


@pytest.mark.parametrize("name", FIELDS)
def test_the_policys_pages_and_files_have_it(admin_page, bees, name):
    """Beside the other fields of the policy."""
    policy = PriorityPolicy.objects.create(team=bees, **{name: True})
    assert f'name="{name}"'.encode() in admin_page.get(page(PriorityPolicy, "change", policy.pk)).content
    [row] = policy_rows([policy])
    assert row[name] is True


def test_the_caches_bounds_come_from_the_environment(settings):
    """In bytes; the file is in the data folder."""
    given = settings.ENV.model_copy(update={"sollol_vectors_mb": 3, "sollol_vectors_disk_mb": 5})
    settings.ENV = given
    made = gateway_settings()
    assert (made.vectors_memory, made.vectors_disk) == (3 << 20, 5 << 20)
    assert made.vectors_file == settings.DATA_DIR / "vectors.sqlite3"
