"""What routing gets to see of the database."""

from datetime import timedelta

import pytest
from django.utils import timezone

from fleet.models import NodeObservation, PriorityPolicy
from fleet.services import keys
from fleet.snapshot import current_revision, load_snapshot
from routing.core.snapshot import InstalledModel, TeamPolicy
from tests.fleet.conftest import add_model, make_node

pytestmark = pytest.mark.django_db


def test_an_empty_database():
    """Without any row there is an empty snapshot at revision 0."""
    snapshot = load_snapshot()
    assert (snapshot.revision, snapshot.nodes, dict(snapshot.teams), dict(snapshot.keys)) == (0, (), {}, {})


def test_nodes(ant):
    """A node arrives with its memory in bytes, its credentials and what was observed of its version."""
    ant.header_name, ant.header_value, ant.labels = "X-Key", "secret", {"rack": "a1"}
    ant.save()
    NodeObservation.objects.create(node=ant, version="0.12.0")
    [spec] = load_snapshot().nodes
    assert (spec.id, spec.name, spec.url, spec.slots, spec.vram_bytes) == (
        ant.pk,
        "ant",
        "http://ant:11434",
        4,
        24 * 2**30,
    )
    assert (spec.headers, dict(spec.labels), spec.version) == ((("X-Key", "secret"),), {"rack": "a1"}, "0.12.0")


def test_disabled_nodes_are_told(ant):
    """A disabled node is in the snapshot, marked as such."""
    ant.enabled = False
    ant.save()
    assert [node.enabled for node in load_snapshot().nodes] == [False]


def test_installed_models_only(ant):
    """Models on disk are told; one that is only loaded any more is not."""
    add_model(ant, 1, capabilities=["completion"], parameters_b=8.0, context_length=8192, size=4)
    add_model(ant, 2, installed=False, resident=True)
    [spec] = load_snapshot().nodes
    assert spec.models == (
        InstalledModel(
            "registry.ollama.ai/library/m1:latest", "m1:latest", f"{1:064}", 4, frozenset({"completion"}), 8.0, 8192
        ),
    )


def test_policies(bees, cats):
    """A team's policy arrives; a team without one has the defaults."""
    PriorityPolicy.objects.create(team=bees, default_priority=3, highest_priority=7, share_weight=2, max_concurrent=4)
    teams = load_snapshot().teams
    assert teams[bees.pk] == TeamPolicy(bees.pk, "Bees", 3, 7, 1, 2.0, 4)
    assert teams[cats.pk] == TeamPolicy(cats.pk, "Cats")


def test_usable_keys_only(bees):
    """Keys are found by digest; revoked and expired ones are not there."""
    _, plain = keys.create(bees, "a", expires_at=timezone.now() + timedelta(days=1))
    keys.create(bees, "b", expires_at=timezone.now() - timedelta(days=1))
    keys.revoke(keys.create(bees, "c").key)
    [(digest, key)] = load_snapshot().keys.items()
    assert (digest, key.digest, key.team_id, key.scopes) == (keys.digest(plain), digest, bees.pk, {"inference"})


def test_revision_follows_changes(ant):
    """The snapshot carries the revision that polls compare with."""
    assert load_snapshot().revision == current_revision()
    ant.save()
    assert load_snapshot().revision == current_revision()


def test_queries_do_not_grow(ant, bees, django_assert_num_queries):
    """However many nodes, models, teams and keys there are, the snapshot is five queries."""
    for number in range(5):
        add_model(make_node(f"n{number}"), number)
        keys.create(bees, f"k{number}")
    with django_assert_num_queries(5):
        load_snapshot()
