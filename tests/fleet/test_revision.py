"""Every way of writing what routing reads moves the revision on; nothing else does."""

import pytest
from django.core import serializers
from django.db import transaction
from django.utils import timezone

from fleet.models import ApiKey, Node, NodeModel, PriorityPolicy, Quota, RoutingRule, RoutingStrategy, Team
from fleet.services import keys, learning, usage
from routing.core.learned import Learned, LearnedNode
from routing.core.usage import DayUse, Use
from tests.fleet.conftest import add_event, add_model, add_quota, add_request, make_node, revision

pytestmark = pytest.mark.django_db

WRITES = {
    "save": lambda node, _team: node.save(),
    "create": lambda _node, _team: make_node("bee"),
    "delete": lambda node, _team: node.delete(),
    "update": lambda _node, _team: Node.objects.update(slots=2),
    "related update": lambda node, _team: node.models.update(size=2),
    "queryset delete": lambda node, _team: Node.objects.filter(pk=node.pk).delete(),
    "bulk_create": lambda _node, _team: Team.objects.bulk_create([Team(name="Dogs")]),
    "bulk_update": lambda node, _team: Node.objects.bulk_update([node], ["weight"]),
    "get_or_create": lambda _node, team: PriorityPolicy.objects.get_or_create(team=team),
    "update_or_create": lambda _node, team: Team.objects.update_or_create(pk=team.pk, defaults={"name": "Wasps"}),
    "model": lambda node, _team: add_model(node),
    "key": lambda _node, team: keys.create(team, "a"),
    "revoked key": lambda _node, _team: ApiKey.objects.update(revoked_at=timezone.now()),
    "quota": lambda _node, team: add_quota(team),
    "strategy": lambda _node, _team: RoutingStrategy.objects.create(name="near"),
    "rule": lambda _node, _team: RoutingRule.objects.create(strategy="fastest"),
    "forgotten": lambda node, _team: learning.forget([node]),
    "fixture": lambda node, _team: [
        row.save() for row in serializers.deserialize("json", serializers.serialize("json", [node]))
    ],
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_every_write_bumps(write, ant, bees):
    """A write of what routing reads moves the revision on."""
    before = revision()
    write(ant, bees)
    assert revision() > before


UNREAD = {
    "residency": lambda _node, _team: NodeModel.objects.update(resident=True, size_vram=5, expires_at=timezone.now()),
    "team's text": lambda _node, _team: Team.objects.update(description="buzz"),
    "save of unread fields": lambda node, _team: node.save(update_fields=["gpu", "changed_at"]),
    "nothing": lambda _node, _team: Node.objects.bulk_create([]),
    "request": lambda _node, _team: add_request(),
    "event": lambda node, _team: add_event(node),
    "learned": lambda node, _team: learning.save_learned(Learned(nodes=(LearnedNode(node.pk, 0.5, 3),)), {}),
    "used": lambda _node, team: usage.add_usage([DayUse(team.pk, 738_000, 5, Use(1, 2, 3, 4.0))], []),
    "notes": lambda _node, _team: RoutingRule.objects.update(note="why"),
}


@pytest.mark.parametrize("write", UNREAD.values(), ids=UNREAD)
def test_what_routing_does_not_read(write, ant, bees):
    """A write of what routing does not read leaves the revision alone."""
    add_model(ant)
    before = revision()
    write(ant, bees)
    assert revision() == before


def test_rolled_back_together(ant):
    """A change that is rolled back takes its revision with it."""
    before = revision()
    with transaction.atomic():
        ant.save()
        transaction.set_rollback(True)
    assert revision() == before


def test_unread_fields_are_real():
    """The names of columns that routing does not read are names of columns."""
    for model in (Node, NodeModel, Team, ApiKey, PriorityPolicy, Quota, RoutingStrategy, RoutingRule):
        assert model.unrouted <= {field.name for field in model._meta.fields}
