"""What routing gets to see of the database."""

from datetime import timedelta

import pytest
from django.utils import timezone

from fleet.models import NodeObservation, PriorityPolicy, RoutingRule, RoutingStrategy, Team
from fleet.services import keys
from fleet.services.learning import forget
from fleet.snapshot import current_revision, load_snapshot
from routing.core import snapshot
from routing.core.names import canonical
from routing.core.snapshot import Breach, InstalledModel, Measure, StrategySpec, TeamPolicy, Window
from tests.fleet.conftest import add_model, add_quota, make_node

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
    """However many rows of everything there are, the snapshot is nine queries."""
    for number in range(5):
        add_model(make_node(f"n{number}"), number)
        keys.create(bees, f"k{number}")
        add_quota(Team.objects.create(name=f"t{number}"))
        RoutingStrategy.objects.create(name=f"s{number}")
        RoutingRule.objects.create(model=f"m{number}", strategy="fastest")
    with django_assert_num_queries(9):
        load_snapshot()


def test_quotas(bees, cats):
    """A team's quotas arrive with its policy, whatever other teams have."""
    soft = add_quota(bees, measure="tokens", window="month", amount=1e6, breach="demote", from_priority=8)
    add_quota(cats)
    [quota] = load_snapshot().teams[bees.pk].quotas
    assert quota == snapshot.Quota(soft.pk, Measure.TOKENS, Window.MONTH, 1e6, Breach.DEMOTE, 8)


@pytest.mark.parametrize(("kept", "meant"), [("wait", Breach.REFUSE), ("demote", Breach.DEMOTE)])
def test_what_happens_beyond_the_most_at_a_time(bees, kept, meant):
    """Waiting is the hard bound, demotion the soft one."""
    PriorityPolicy.objects.create(team=bees, max_concurrent=2, concurrent_breach=kept)
    assert load_snapshot().teams[bees.pk].concurrent_breach is meant


def test_strategies():
    """The operator's strategies arrive as they are; without a default row the fastest node holds."""
    assert load_snapshot().strategy == "fastest"
    RoutingStrategy.objects.create(name="cheap", kind="cheapest", weights={"price": 5}, is_default=True)
    RoutingStrategy.objects.create(name="near", kind="priority_nodes", preferred=["ant", "rack=a1"])
    found = load_snapshot()
    assert found.strategy == "cheap"
    assert found.strategies == {
        "cheap": StrategySpec("cheap", "cheapest", {"price": 5.0}),
        "near": StrategySpec("near", "priority_nodes", {}, ("ant", "rack=a1")),
    }


def test_the_most_specific_rule_comes_first(bees):
    """A rule of a team and a model counts before one of the team, that before one of the model; none if disabled."""
    model = canonical("llama3")
    RoutingRule.objects.create(strategy="round_robin")
    RoutingRule.objects.create(model=model, labels={"rack": "a1"})
    RoutingRule.objects.create(team=bees, num_ctx=8192)
    RoutingRule.objects.create(team=bees, model=model, strategy="fastest")
    RoutingRule.objects.create(team=bees, model="other", strategy="fastest", enabled=False)
    assert load_snapshot().rules == (
        snapshot.RoutingRule(bees.pk, model, "fastest"),
        snapshot.RoutingRule(bees.pk, num_ctx=8192),
        snapshot.RoutingRule(None, model, labels={"rack": "a1"}),
        snapshot.RoutingRule(strategy="round_robin"),
    )


def test_when_to_learn_anew(ant, bee):
    """A node that was forgotten tells when, to the microsecond; one that was not tells 0."""
    forget([ant])
    ant.refresh_from_db()
    moments = {spec.name: spec.relearn_at for spec in load_snapshot().nodes}
    assert moments == {"ant": ant.relearn_at.timestamp(), "bee": 0.0}
