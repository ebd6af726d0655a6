"""The health sweep: what it sees, what it stores, and what it leaves alone."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from fleet.models import Node, NodeEvent, NodeModel, NodeObservation
from fleet.selectors.nodes import to_sweep
from fleet.services.health import sweep
from fleet.services.inventory import store
from fleet.services.probe import Sighting
from tests.fleet.conftest import revision
from tests.fleet.ollama import FakeOllama

pytestmark = pytest.mark.django_db


def look(fleet):
    return sweep(to_sweep(), transport=fleet.transport())


def kinds():
    return list(NodeEvent.objects.order_by("pk").values_list("node_name", "kind"))


def test_a_first_look(ant, fleet):
    """The first look stores version, models with their descriptions, and what is loaded."""
    fleet.hosts["ant"].loaded = ["llama3:latest"]
    [sighting] = look(fleet)
    model = NodeModel.objects.get()
    assert (sighting.reachable, ant.seen.version, ant.seen.reachable, ant.seen.vram_used) == (
        True,
        "0.12.0",
        True,
        5_000_000_000,
    )
    assert (model.key, model.digest, model.size) == (
        "registry.ollama.ai/library/llama3:latest",
        "a" * 64,
        4_000_000_000,
    )
    assert (model.capabilities, model.context_length, round(model.parameters_b, 2)) == (
        ["completion", "tools"],
        8192,
        8.03,
    )
    assert (model.resident, model.loaded_context, model.expires_at.year) == (True, 4096, 2318)
    assert kinds() == [("ant", "up"), ("ant", "inventory")]


def test_nothing_new(ant, fleet):
    """A second look at an unchanged node moves no revision, tells no event and describes nothing again."""
    look(fleet)
    before, asked = revision(), fleet.hosts["ant"].asked
    asked.clear()
    look(fleet)
    assert (revision(), len(kinds()), asked) == (before, 2, ["/api/version", "/api/tags", "/api/ps"])


def test_residency_moves_no_revision(ant, fleet):
    """Loading and unloading a model is stored, but routing need not read the database for it."""
    look(fleet)
    before = revision()
    fleet.hosts["ant"].loaded = ["llama3:latest"]
    look(fleet)
    assert NodeModel.objects.get().resident
    fleet.hosts["ant"].loaded = []
    look(fleet)
    model = NodeModel.objects.get()
    assert (model.resident, model.size_vram, model.expires_at, revision()) == (False, None, None, before)


def test_down_and_up(ant, fleet):
    """A node that goes and comes is told once each; what it had stays known meanwhile."""
    look(fleet)
    before = revision()
    fleet.hosts["ant"].error = httpx.ConnectError
    look(fleet)
    look(fleet)
    seen = NodeObservation.objects.get()
    assert (seen.reachable, seen.last_error, seen.version) == (False, "cannot connect: the fake is down", "0.12.0")
    assert (seen.last_seen < seen.checked_at, NodeModel.objects.count()) == (True, 1)
    fleet.hosts["ant"].error = None
    look(fleet)
    assert [kind for _, kind in kinds()] == ["up", "inventory", "down", "up"]
    assert revision() == before


def test_a_new_version(ant, fleet):
    """A new version is an event, moves the revision, and has every model described again."""
    look(fleet)
    before, fake = revision(), fleet.hosts["ant"]
    fake.version = "0.13.0"
    fake.asked.clear()
    look(fleet)
    assert NodeEvent.objects.get(kind="version").detail == "0.12.0 → 0.13.0"
    assert revision() > before
    assert "/api/show" in fake.asked


def test_models_come_change_and_go(ant, fleet):
    """What was added, removed and changed on a node stands in one event."""
    fleet.hosts["ant"].models = {"stays:1": "a" * 64, "goes:1": "b" * 64, "changes:1": "c" * 64}
    look(fleet)
    before = revision()
    fleet.hosts["ant"].models = {"stays:1": "a" * 64, "comes:1": "d" * 64, "changes:1": "e" * 64}
    look(fleet)
    assert (
        NodeEvent.objects.filter(kind="inventory").latest("pk").detail
        == "added comes:1; removed goes:1; changed changes:1"
    )
    assert set(NodeModel.objects.values_list("name", flat=True)) == {"stays:1", "comes:1", "changes:1"}
    assert revision() > before


def test_loaded_but_deleted(ant, fleet):
    """A model that is still in memory after it was deleted stays listed, as not installed, until it is unloaded."""
    fake = fleet.hosts["ant"]
    fake.models, fake.loaded = {}, ["old:1"]
    look(fleet)
    assert (NodeModel.objects.get().installed, NodeModel.objects.get().resident) == (False, True)
    fake.loaded = []
    look(fleet)
    assert not NodeModel.objects.exists()


def test_a_list_that_fails(ant, fleet):
    """If one list fails the node is up, the error is told, and what was known stays."""
    look(fleet)
    fleet.hosts["ant"].broken = {"/api/tags", "/api/ps"}
    look(fleet)
    seen = NodeObservation.objects.get()
    assert seen.reachable
    assert "/api/tags answered HTTP 500" in seen.last_error
    assert NodeModel.objects.filter(installed=True).count() == 1


def test_a_model_that_cannot_be_described(ant, fleet):
    """A model whose description fails is listed without one and asked for again."""
    fleet.hosts["ant"].broken = {"/api/show"}
    look(fleet)
    assert (NodeModel.objects.get().described, NodeModel.objects.get().capabilities) == (False, [])
    fleet.hosts["ant"].broken = set()
    look(fleet)
    assert NodeModel.objects.get().described


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (httpx.Response(200, html="<p>It works</p>"), "not Ollama's: text/html"),
        (httpx.Response(200, json={"name": "other"}), "no version"),
        (httpx.Response(200, json=[1]), "not Ollama's"),
        (httpx.Response(401, json={}), "check the node's credentials header"),
        (httpx.Response(301, headers={"Location": "https://ant"}), "HTTP 301"),
    ],
)
def test_not_an_ollama_server(ant, fleet, answer, told):
    """Whatever else listens at the address is told as such."""
    fleet.hosts["ant"].body = answer
    look(fleet)
    assert told in NodeObservation.objects.get().last_error


@pytest.mark.parametrize("error", [httpx.ConnectTimeout, httpx.ReadTimeout, httpx.RemoteProtocolError])
def test_every_failure_has_words(ant, fleet, error):
    """Each way of failing leaves a text and harms no other node."""
    fleet.hosts["ant"].error = error
    look(fleet)
    assert NodeObservation.objects.get().last_error


def test_one_dead_node_harms_nobody(ant, bee, cat, fleet):
    """A dead node leaves the others' observations whole; disabled nodes are not asked."""
    Node.objects.filter(pk=cat.pk).update(enabled=False)
    fleet.hosts["ant"].error = httpx.ConnectTimeout
    assert [sighting.reachable for sighting in look(fleet)] == [False, True]
    assert bee.seen.reachable
    assert fleet.hosts["cat"].asked == []


def test_credentials_are_sent(ant, fleet):
    """The node's credentials header goes with every question."""
    ant.header_name, ant.header_value = "Authorization", "Bearer secret"
    ant.save()
    look(fleet)
    assert fleet.hosts["ant"].headers["Authorization"] == "Bearer secret"


def test_odd_lists(ant, fleet):
    """Rows without a name, odd numbers and empty lists are taken as what they are."""
    answers = {"models": [{"name": ""}, 3, {"name": "x", "size": -1, "digest": None, "details": None}]}
    fleet.hosts["ant"].tags = lambda _request: answers
    fleet.hosts["ant"].ps = lambda _request: {"models": None}
    look(fleet)
    assert list(NodeModel.objects.values_list("name", "size", "digest")) == [("x", 0, "")]


def test_old_news(ant):
    """A look that began before the stored one is dropped, as is one at an address that the node has left."""
    now = datetime.now(UTC)
    store(Sighting(ant.pk, ant.url, now, reachable=True, version="2"))
    store(Sighting(ant.pk, ant.url, now - timedelta(seconds=9), reachable=False))
    store(Sighting(ant.pk, "http://elsewhere:1", now + timedelta(seconds=9), reachable=False))
    store(Sighting(ant.pk + 1, ant.url, now, reachable=False))
    assert (ant.seen.reachable, ant.seen.version) == (True, "2")


def test_news_by_a_clock_that_was_set_back(ant):
    """What is stored as of a time that has not come yet keeps nothing from being stored."""
    now = datetime.now(UTC)
    store(Sighting(ant.pk, ant.url, now + timedelta(hours=1), reachable=True, version="2"))
    store(Sighting(ant.pk, ant.url, now, reachable=False))
    ant.refresh_from_db()
    assert (ant.seen.reachable, ant.seen.checked_at) == (False, now)


def test_bounded_sweep(ant):
    """A sweep whose time is over tells so for the nodes that have not answered."""
    [sighting] = sweep([ant], transport=httpx.MockTransport(lambda _request: httpx.Response(200)), seconds=0)
    assert sighting.error == "no whole answer within 0 s"


def test_description_of_many_models(ant, fleet):
    """Each digest is described once, however many names it has."""
    fleet.hosts["ant"] = FakeOllama(models={f"copy{number}:1": "a" * 64 for number in range(5)})
    look(fleet)
    assert fleet.hosts["ant"].asked.count("/api/show") == 1
    assert NodeModel.objects.filter(described=True).count() == 5


def test_models_without_digests(ant, fleet):
    """Models that a node tells no digest of are described one by one."""
    fleet.hosts["ant"] = FakeOllama(models={"one:1": "", "two:1": ""})
    look(fleet)
    look(fleet)
    assert fleet.hosts["ant"].asked.count("/api/show") == 2
