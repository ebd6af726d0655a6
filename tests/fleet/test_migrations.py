"""What operators had set before is there after an update, and again after going back."""

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

pytestmark = pytest.mark.django_db(transaction=True)

BEFORE, AFTER = ("fleet", "0002_cloud_node"), ("fleet", "0003_policies_as_data")
OLD = {"requests_per_minute": 60, "tokens_per_minute": None, "tokens_per_day": 2**40, "gpu_seconds_per_day": 3600}


def migrate(target):
    executor = MigrationExecutor(connection)
    executor.migrate([target])
    return MigrationExecutor(connection).loader.project_state([target]).apps


@pytest.fixture
def before():
    yield migrate(BEFORE)
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


def test_limits_become_hard_quotas(before):
    """Each limit of a policy becomes a quota that refuses; no limit becomes none; all else stays."""
    team = before.get_model("fleet", "Team").objects.create(name="Bees")
    before.get_model("fleet", "PriorityPolicy").objects.create(team=team, share_weight=2, max_concurrent=4, **OLD)
    after = migrate(AFTER)
    rows = after.get_model("fleet", "Quota").objects.values_list(
        "policy__team__name", "measure", "window", "amount", "breach", "from_priority"
    )
    assert set(rows) == {
        ("Bees", "requests", "minute", 60, "refuse", None),
        ("Bees", "tokens", "day", 2**40, "refuse", None),
        ("Bees", "gpu_seconds", "day", 3600, "refuse", None),
    }
    policy = after.get_model("fleet", "PriorityPolicy").objects.get()
    assert (policy.share_weight, policy.max_concurrent, policy.concurrent_breach) == (2, 4, "wait")


def test_going_back(before):
    """Going back restores the limits; quotas that the old version did not know are dropped."""
    team = before.get_model("fleet", "Team").objects.create(name="Bees")
    before.get_model("fleet", "PriorityPolicy").objects.create(team=team, **OLD)
    after = migrate(AFTER)
    quotas, policy = after.get_model("fleet", "Quota").objects, after.get_model("fleet", "PriorityPolicy").objects.get()
    quotas.create(policy=policy, measure="requests", window="month", amount=5, breach="refuse")
    quotas.create(policy=policy, measure="tokens", window="minute", amount=5, breach="demote")
    old = migrate(BEFORE).get_model("fleet", "PriorityPolicy").objects.get()
    assert {name: getattr(old, name) for name in OLD} == OLD
