"""The fleet in figures at /api/dashboard, /api/stats and /api/health."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_q.models import Schedule, Success
from rest_framework.test import APIClient

from fleet import live
from fleet.models import LearnedLength, NodeObservation, RoutingStrategy
from fleet.selectors.access import LEAD
from fleet.services import keys
from routing.gateway.tally import Tally
from tests.fleet.conftest import add_quota, add_request, add_speed, add_usage_day, make_node
from tests.fleet.scraped import NODE, view
from tests.fleet.test_rollups import settle

pytestmark = pytest.mark.django_db


@pytest.fixture
def working():
    """The background worker has ended a task just now, and no schedule is overdue."""
    now = timezone.now()
    Schedule.objects.update(next_run=now)
    Success.objects.create(id="a" * 32, name="sweep", func="f", started=now, stopped=now, success=True)


@pytest.fixture
def seen(ant, working):
    """A gateway sees ant up."""
    NodeObservation.objects.create(node=ant, reachable=True, checked_at=timezone.now(), version="0.12.0")
    publish(ant)
    yield ant
    live.publish(None)


def publish(*nodes, **columns):
    live.publish(view(Tally(), [{**NODE, "id": node.pk, "name": node.name, **columns} for node in nodes]))


@pytest.fixture
def lead(bees):
    """Bo leads team Bees."""
    bo = bees.members.get()
    bo.is_staff = True
    bo.save()
    group, _ = Group.objects.get_or_create(name=LEAD)
    names = ("view_team", "change_team", "view_apikey", "add_apikey", "change_apikey", "view_requestrecord")
    group.permissions.add(*Permission.objects.filter(content_type__app_label="fleet", codename__in=names))
    bo.groups.add(group)
    client = APIClient()
    client.force_login(User.objects.get(pk=bo.pk))
    return client


def kinds(answer):
    return [(one["kind"], one["subject"]) for one in answer.json()["alerts"]]


def test_a_fleet_that_does_well(api, seen):
    """Status, memory and the health of each host are as the gateway sees them, and nothing is to be looked at."""
    told = api.get("/api/dashboard").json()
    assert (told["status"]["state"], told["alerts"]) == ("ok", [])
    assert (told["status"]["hosts_total"], told["status"]["hosts_available"]) == (1, 1)
    assert (told["status"]["waiting"], told["status"]["in_flight"]) == (3, 2)
    assert (told["performance"]["gpu_memory_used"], told["performance"]["gpu_memory_total"]) == (6 << 30, 24 << 30)
    assert told["hosts"][0]["models_loaded"] == ["llama3:latest"]
    assert told["hosts"][0]["success_rate"] == 0.9
    assert told["status"]["workers"]["running"] is True


def test_memory_that_is_not_known(api, seen, bee):
    """A host that has no GPU, or whose memory nobody told, counts for nothing and is told as unknown."""
    publish(seen, vram_total=None)
    told = api.get("/api/dashboard").json()
    assert (told["hosts"][0]["gpu_memory_total"], told["hosts"][1]["gpu_memory_total"]) == (None, None)
    assert told["performance"]["gpu_memory_total"] == 0


def test_performance_of_the_last_hour(api, seen):
    """Latency and success are those of what has ended lately; who was refused did not fail."""
    for number, columns in enumerate(
        [{"total_ms": 1000}, {"total_ms": 3000}, {"outcome": "failed", "total_ms": 500}, {"outcome": "refused"}]
    ):
        add_request(number, **{"node_name": "ant", **columns})
    settle()
    told = api.get("/api/dashboard").json()["performance"]
    assert (told["requests"], told["errors"], told["refused"]) == (4, 1, 1)
    assert told["success_rate"] == pytest.approx(2 / 3, abs=0.001)
    assert told["average_latency_ms"] == 1125.0


def test_what_routing_has_learned(api, seen):
    """Kinds of task of which the length of answers is known, and models of which the speed is."""
    for task in ("chat", "summarization"):
        LearnedLength.objects.create(task=task, model="m", mean=50, seen=3, updated_at=timezone.now())
    add_speed(seen, 1)
    RoutingStrategy.objects.create(name="gentle", kind="fastest", is_default=True)
    told = api.get("/api/dashboard").json()["routing"]
    assert (told["task_types_learned"], told["patterns"]) == (["chat", "summarization"], 2)
    assert (told["answers_seen"], told["speeds_learned"], told["hosts_measured"]) == (6, 1, 1)
    assert told["default_strategy"] == "gentle"


def test_hosts_that_do_not_answer(api, seen, bee, cat):
    """A host that is down is an alert; one that an operator has disabled is none."""
    NodeObservation.objects.create(node=bee, reachable=False, last_error="connection refused")
    cat.enabled = False
    cat.save()
    answer = api.get("/api/dashboard")
    assert kinds(answer) == [("host_unavailable", "bee")]
    assert answer.json()["alerts"][0]["detail"] == "connection refused"
    assert (answer.json()["status"]["state"], answer.json()["status"]["hosts_in_use"]) == ("degraded", 2)


@pytest.mark.parametrize(
    "columns", [{"state": "suspect"}, {"breaker": "open"}, {"requests": 100, "failures": 30}], ids=str
)
def test_hosts_that_do_badly(api, seen, columns):
    """A host that has just failed, whose breaker is open, or that fails often is degraded."""
    publish(seen, **columns)
    assert kinds(api.get("/api/dashboard")) == [("host_degraded", "ant")]


def test_degraded_performance(api, seen):
    """Many failures of late are an alert, whichever host they were on."""
    for number in range(20):
        add_request(number, outcome="failed" if number < 5 else "served")
    settle()
    assert kinds(api.get("/api/dashboard")) == [("performance_degraded", "")]


def test_quotas_and_workers(api, seen, bees):
    """A quota that is nearly used and a worker that does nothing are alerts."""
    add_quota(bees, amount=10)
    add_usage_day(bees, requests=9)
    Schedule.objects.update(next_run=timezone.now() - timedelta(minutes=30))
    assert kinds(api.get("/api/dashboard")) == [("quota_nearly_used", "Bees"), ("worker_silent", "")]


def test_nothing_left(api, ant, working):
    """Without any host that answers the fleet is down, and health says so by its status."""
    NodeObservation.objects.create(node=ant, reachable=False)
    assert kinds(api.get("/api/dashboard"))[0] == ("no_host", "")
    answer = api.get("/api/health")
    assert (answer.status_code, answer.json()["status"], answer.json()["hosts_available"]) == (503, "down", 0)


def test_health(api, seen):
    """A fleet that can serve is healthy."""
    answer = api.get("/api/health")
    assert (answer.status_code, answer.json()["status"], answer.json()["worker"]) == (200, "ok", True)


def test_without_a_gateway(api, ant, working):
    """Where no gateway runs, hosts are told as the sweep found them."""
    NodeObservation.objects.create(node=ant, reachable=True, vram_used=5)
    told = api.get("/api/dashboard").json()
    assert (told["status"]["gateway"], told["hosts"][0]["state"], told["hosts"][0]["gpu_memory_used"]) == (
        False,
        "up",
        5,
    )
    assert kinds(api.get("/api/dashboard")) == [("no_gateway", "")]


def test_stats(api, seen, bees):
    """Histories by host, where which requests went, kinds of tasks, and learned baselines."""
    now = timezone.now()
    for number, (name, task, hours) in enumerate(
        [("ant", "chat", 0), ("ant", "chat", 2), ("bee", "chat", 0), ("bee", "embedding", 0)]
    ):
        add_request(number, node_name=name, task_type=task, started_at=now - timedelta(hours=hours), total_ms=1000)
    settle()
    add_speed(seen, 1)
    told = api.get("/api/stats").json()
    assert {one["host"]: (one["requests"], len(one["history"])) for one in told["hosts"]} == {
        "ant": (2, 2),
        "bee": (2, 1),
    }
    assert {(one["task"], one["host"]): one["share"] for one in told["routing_patterns"]} == {
        ("chat", "ant"): pytest.approx(2 / 3, abs=0.001),
        ("chat", "bee"): pytest.approx(1 / 3, abs=0.001),
        ("embedding", "bee"): 1.0,
    }
    assert told["task_types"] == [
        {"task": "chat", "requests": 3, "share": 0.75},
        {"task": "embedding", "requests": 1, "share": 0.25},
    ]
    assert told["baselines"]["speeds"][0]["output_tokens_per_second"] == 50.0
    assert (told["span"], told["total"]["requests"]) == ("hour", 4)


def test_stats_of_a_span(api):
    """Stats go back as far as they are asked to, by day where that is long, and narrow to a team or model."""
    for number, days in enumerate((0, 5, 60)):
        add_request(number, team_name="Bees", started_at=timezone.now() - timedelta(days=days))
    add_request(9, team_name="Cats", model="phi3")
    settle()
    assert api.get("/api/stats", {"hours": 240}).json()["total"]["requests"] == 3
    assert api.get("/api/stats", {"hours": 240}).json()["span"] == "day"
    assert api.get("/api/stats", {"hours": 8784, "team": "bees"}).json()["total"]["requests"] == 3
    assert api.get("/api/stats", {"model": "phi3"}).json()["total"]["requests"] == 1


@pytest.mark.parametrize("asked", [{"hours": 0}, {"hours": "many"}, {"since": "yesterday"}, {"hours": 9000}], ids=str)
def test_bad_questions(api, asked):
    """What does not fit, or is not known, is 400 and named."""
    answer = api.get("/api/stats", asked)
    assert (answer.status_code, list(answer.json())) == (400, list(asked))


@pytest.mark.parametrize("path", ["dashboard", "stats", "health"])
def test_who_may_look(api, ada, path, bees):
    """Keys that manage and staff may, nobody else."""
    assert APIClient().get(f"/api/{path}").status_code == 401
    staff = APIClient()
    staff.force_login(ada)
    assert staff.get(f"/api/{path}").status_code in {200, 503}
    staff.force_login(bees.members.get())
    assert staff.get(f"/api/{path}").status_code == 403


def test_who_leads_a_team_sees_its_figures(lead, seen, bees, cats):
    """Figures and quotas are those of the own team; hosts are everybody's."""
    add_request(1, team_name="Bees", team=bees)
    add_request(2, team_name="Cats", team=cats)
    settle()
    add_quota(cats, amount=10)
    add_usage_day(cats, requests=10)
    told = lead.get("/api/dashboard")
    assert (told.json()["performance"]["requests"], kinds(told)) == (1, [])
    assert lead.get("/api/stats").json()["total"]["requests"] == 1
    assert [row["team"] for row in lead.get("/api/fleet/requests").json()["results"]] == ["Bees"]


def test_what_who_leads_a_team_may_do(lead, bees, cats, ant):
    """Keys for inference of the own team, and its description: no more."""

    def create(**columns):
        return lead.post("/api/fleet/keys", {"team": "Bees", "name": "chat", **columns}, format="json").status_code

    assert create() == 201
    assert (create(name="b", team="Cats"), create(name="c", scopes=["manage"])) == (400, 400)
    assert [row["name"] for row in lead.get("/api/fleet/teams").json()["results"]] == ["Bees"]
    path = f"/api/fleet/teams/{bees.pk}"
    assert lead.patch(path, {"description": "buzz"}, format="json").status_code == 200
    assert lead.patch(path, {"members": []}, format="json").status_code == 400
    assert lead.patch(f"/api/fleet/teams/{cats.pk}", {"description": "purr"}, format="json").status_code == 404
    assert lead.get("/api/fleet/nodes").status_code == 403
    assert lead.post(f"/api/fleet/nodes/{ant.pk}/drain").status_code == 403
    assert lead.get("/metrics").status_code == 403


def test_a_lead_does_not_become_an_operator_by_rotation(lead, bees):
    """A key that manages is not the lead's to rotate."""
    key = keys.create(bees, "ops", ["manage"]).key
    assert lead.post(f"/api/fleet/keys/{key.pk}/rotate").status_code == 403


def test_few_queries(api):
    """A large fleet costs as many queries as a small one."""
    counts = []
    for numbers in (range(2), range(2, 12)):
        for number in numbers:
            NodeObservation.objects.create(node=make_node(f"n{number}"), reachable=True)
            add_request(number, node_name=f"n{number}")
        settle()
        for path in ("dashboard", "stats"):
            with CaptureQueriesContext(connection) as queries:
                api.get(f"/api/{path}")
            counts.append(len(queries))
    assert counts[:2] == counts[2:]
