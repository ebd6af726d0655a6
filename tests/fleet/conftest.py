"""The cast: Ada the operator, team Bees with Bo, team Cats with Cy; nodes ant, bee, cat."""

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from fleet.models import (
    BatchJob,
    LearnedSpeed,
    Node,
    NodeEvent,
    NodeModel,
    NodeObservation,
    PrefillProbe,
    PriorityPolicy,
    Quota,
    RequestRecord,
    Revision,
    Rollup,
    RoutingRule,
    RoutingStrategy,
    Team,
    UsageDay,
)
from fleet.services import keys
from tests.fleet.ollama import FakeOllama, Fleet


@pytest.fixture(autouse=True)
def plain_static_files(settings):
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


@pytest.fixture(autouse=True)
def passwords_are_hashed_fast(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def ada(db):
    return User.objects.create_superuser("ada", password="a long enough password")


@pytest.fixture
def bees(db):
    team = Team.objects.create(name="Bees")
    team.members.add(User.objects.create_user("bo"))
    return team


@pytest.fixture
def cats(db):
    team = Team.objects.create(name="Cats")
    team.members.add(User.objects.create_user("cy"))
    return team


def make_node(name, **columns):
    return Node.objects.create(name=name, url=f"http://{name}:11434", **columns)


@pytest.fixture
def ant(db):
    return make_node("ant", slots=4, vram_gb=24)


@pytest.fixture
def bee(db):
    return make_node("bee")


@pytest.fixture
def cat(db):
    return make_node("cat", node_class="cpu")


@pytest.fixture
def fleet():
    return Fleet({name: FakeOllama() for name in ("ant", "bee", "cat")})


@pytest.fixture
def admin_page(ada):
    client = Client()
    client.force_login(ada)
    return client


@pytest.fixture
def manage_key(bees):
    return keys.create(bees, "ops", ["manage"]).plain


@pytest.fixture
def api(manage_key):
    return APIClient(headers={"Authorization": f"Bearer {manage_key}"})


def revision():
    return Revision.objects.filter(pk=1).values_list("number", flat=True).first() or 0


def add_model(node, number=0, **columns):
    key = f"registry.ollama.ai/library/m{number}:latest"
    return NodeModel.objects.create(node=node, key=key, name=f"m{number}:latest", digest=f"{number:064}", **columns)


def add_request(number=0, **columns):
    defaults = {
        "request_id": f"r{number}",
        "started_at": timezone.now(),
        "route": "/api/chat",
        "model": "llama3",
        "task_type": "chat",
        "priority": 5,
        "stream": True,
        "outcome": "served",
        "status": 200,
    }
    return RequestRecord.objects.create(**defaults | columns)


def add_quota(team, **columns):
    """A quota of the team, by default of 100 requests each day."""
    policy, _ = PriorityPolicy.objects.get_or_create(team=team)
    return Quota.objects.create(policy=policy, **{"amount": 100} | columns)


def add_usage_day(team, day=None, **columns):
    return UsageDay.objects.create(team=team, day=day or timezone.now().date(), **{"priority": 5} | columns)


def add_speed(node, number=0, **columns):
    """A learned speed: 1000 tokens/s in, 50 tokens/s out, loads in 3 s."""
    seen = {"prompt_seen": 5, "output_seen": 5, "load_seen": 1}
    return LearnedSpeed.objects.create(
        **{
            "node": node,
            "weights": f"{number:064}",
            "model": f"registry.ollama.ai/library/m{number}:latest",
            "prompt_s": 0.001,
            "output_s": 0.02,
            "load_s": 3.0,
            "updated_at": timezone.now(),
        }
        | seen
        | columns
    )


def add_probe(number=0, **columns):
    """The result of a probe: the model continues."""
    return PrefillProbe.objects.create(
        **{
            "digest": f"{number:064}",
            "model": f"m{number}:latest",
            "behaviour": "continue",
            "node_name": "ant",
            "probed_at": timezone.now(),
        }
        | columns
    )


def add_event(node, kind="up"):
    return NodeEvent.objects.create(node=node, node_name=node.name, at=timezone.now(), kind=kind)


def add_rollup(span="hour", **columns):
    """Sums of the hour (or day) that it is, by default of one request."""
    now = timezone.now().replace(minute=0, second=0, microsecond=0)
    begins = now if span == "hour" else now.replace(hour=0)
    return Rollup.objects.create(**{"span": span, "begins": begins, "requests": 1} | columns)


def populate(number):
    """One more row of everything, each with all that a row may have."""
    node = make_node(f"node{number}", header_name="X-Key", header_value="secret-of-the-node")
    NodeObservation.objects.create(node=node, reachable=False, last_error="cannot connect" * 20)
    team = Team.objects.create(name=f"team{number}")
    team.members.add(User.objects.create_user(f"user{number}"))
    add_quota(team)
    add_quota(team, window="minute", from_priority=8)
    add_usage_day(team, requests=number + 1)
    strategy = RoutingStrategy.objects.create(name=f"strategy{number}", weights={"run": 2})
    RoutingRule.objects.create(team=team, strategy=strategy.name, labels={"rack": "a1"})
    add_speed(node, number)
    add_probe(number)
    keys.create(team, "chat")
    add_model(node, number, resident=True, size_loaded=5, size_vram=5)
    add_request(number, team=team, node=node, team_name=team.name, node_name=node.name)
    add_event(node)
    add_rollup(team_name=team.name, node_name=node.name)
    BatchJob.objects.create(team=team, model="m", state="in_progress", total=9, completed=3, failed=1)
    Group.objects.create(name=f"group{number}")
    return node
