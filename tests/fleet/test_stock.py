"""Models pulled to nodes, deleted, loaded and unloaded there, with simulated nodes."""

import time

import httpx
import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django_q.models import OrmQ

from fleet.models import Node, NodeEvent
from fleet.services import stock
from fleet.services.health import sweep
from fleet.tasks import stock as task
from simulator.threads import node_in_thread
from tests.fleet.conftest import make_node
from tests.fleet.test_admin import act

pytestmark = pytest.mark.django_db
CHAT, EMBED, NEW = "llama3.2:3b", "nomic-embed-text:latest", "gemma3:4b"


@pytest.fixture
def simulated():
    with node_in_thread(models=(CHAT, EMBED), speed=100.0) as server:
        yield server


@pytest.fixture
def node(simulated):
    row = Node.objects.create(name="ant", url=simulated.base_url, vram_gb=24)
    sweep([row])
    return row


def do(action, model, *nodes, keep="", **options):
    """The action from its order to its end, as the worker would do it; returns the events."""
    events = stock.order(action, nodes, model, keep)
    stock.carry_out(action, model, [event.pk for event in events], keep, **options)
    for event in events:
        event.refresh_from_db()
    return events


def installed(server):
    return {row["name"] for row in httpx.get(f"{server.base_url}/api/tags").json()["models"]}


def resident(server):
    return {row["name"] for row in httpx.get(f"{server.base_url}/api/ps").json()["models"]}


def test_pulling(simulated, node):
    """A pulled model is on the node and in its inventory, and the event tells so."""
    [event] = do("pull", NEW, node)
    assert (event.kind, event.detail) == ("pulled", NEW)
    assert NEW in installed(simulated)
    assert node.models.filter(name=NEW, installed=True).exists()


def test_a_pull_goes_on_in_the_next_step():
    """What has not ended in one step tells how far it is, and is handed over again; the next one goes on from there."""
    with node_in_thread(models=(CHAT,), speed=1.0) as slow:
        node = Node.objects.create(name="ant", url=slow.base_url)
        [event] = do("pull", NEW, node, step_s=1.0)
        first = progress(event)
        assert (event.kind, OrmQ.objects.count()) == ("pulling", 2)
        stock.carry_out("pull", NEW, [event.pk], step_s=1.0)
        event.refresh_from_db()
    assert 0 < first < progress(event)


def progress(event):
    """Percent that an event tells."""
    return int(event.detail.removeprefix(f"{NEW}: ").partition("%")[0])


def test_a_pull_without_progress_ends(simulated, node):
    """A pull that brings no byte for many steps is given up."""
    [event] = stock.order("pull", [node], NEW)
    stock.carry_out("pull", NEW, [event.pk], "", 10**15, stock.STALLS - 1, step_s=0.05)
    event.refresh_from_db()
    assert (event.kind, "no byte has come" in event.detail) == ("not_pulled", True)


def test_a_model_that_nobody_has(simulated, node):
    """The node's own words tell why a pull has failed."""
    [event] = do("pull", "no-such-model:1b", node)
    assert event.kind == "not_pulled"
    assert "file does not exist" in event.detail


def test_loading_and_unloading(simulated, node):
    """A model that completes and one that embeds are loaded, and unloaded again."""
    for model in (CHAT, EMBED):
        [event] = do("load", model, node, keep="1h")
        assert (event.kind, model in resident(simulated)) == ("loaded", True)
        assert node.models.get(name=model).resident
    [event] = do("unload", CHAT, node)
    deadline = time.monotonic() + 10
    while CHAT in resident(simulated):
        assert time.monotonic() < deadline
    assert event.kind == "unloaded"


def test_deleting(simulated, node):
    """A deleted model is gone from disk and inventory."""
    [event] = do("delete", CHAT, node)
    assert (event.kind, CHAT in installed(simulated)) == ("deleted", False)
    assert not node.models.filter(name=CHAT, installed=True).exists()


@pytest.mark.parametrize(("action", "kind"), [(name, verb.failed) for name, verb in stock.VERBS.items()])
def test_a_node_that_is_down(action, kind):
    """A node that does not answer is told as an event; the others do their part."""
    with node_in_thread(models=(CHAT,), speed=100.0) as server:
        up = Node.objects.create(name="ant", url=server.base_url)
        down, fine = do(action, CHAT, Node.objects.create(name="bee", url="http://127.0.0.1:9"), up)
    assert (down.kind, "cannot connect" in down.detail) == (kind, True)
    assert fine.kind == stock.VERBS[action].done


def test_credentials_are_sent():
    """A node behind a proxy gets its credentials."""
    seen = []

    def answer(request):
        seen.append(request.headers.get("x-key"))
        return httpx.Response(200, json={})

    do("unload", CHAT, make_node("ant", header_name="X-Key", header_value="s"), transport=httpx.MockTransport(answer))
    assert set(seen) == {"s"}


def test_a_node_that_is_gone():
    """A node that was deleted meanwhile is left out."""
    node = make_node("ant")
    [event] = stock.order("load", [node], CHAT)
    node.delete()
    assert task.carry_out("load", CHAT, [event.pk], "", 0, 0) == ""


# The pages


def form(client, action, *nodes, **fields):
    address = reverse("admin:fleet_node_stock", args=(action,))
    return client.post(address, {"node": [node.pk for node in nodes]} | fields, follow=True)


def test_an_action_leads_to_the_form(admin_page, node):
    """Choosing nodes and an action leads to a form that suggests models."""
    answer = act(admin_page, Node, "load_model", node)
    assert f'<option value="{CHAT}">' in answer.content.decode()


def test_ordering(admin_page, node):
    """The form hands the work over, tells where it will be told, and leaves a line in the log."""
    answer = form(admin_page, "pull", node, model=NEW)
    assert "The background worker does it" in answer.content.decode()
    assert (OrmQ.objects.count(), NodeEvent.objects.get(kind="pulling").node) == (1, node)
    assert LogEntry.objects.get().change_message == f"Pull a model: {NEW}."


def test_deleting_asks_twice(admin_page, node, bee):
    """The first answer tells from where the model would go; only the second deletes it."""
    answer = form(admin_page, "delete", node, bee, model=CHAT)
    assert "Yes, delete it from 1 node" in answer.content.decode()
    assert not OrmQ.objects.exists()
    form(admin_page, "delete", node, bee, model=CHAT, sure="yes")
    assert [event.node for event in NodeEvent.objects.filter(kind="deleting")] == [node]


@pytest.mark.parametrize(
    ("model", "told"), [("", "required"), ("two words", "no spaces"), ("gemma3:4b", "None of these nodes has")]
)
def test_bad_models(admin_page, node, model, told):
    """A name that cannot be, or that no node has, is refused on the form."""
    assert told in form(admin_page, "load", node, model=model).content.decode()
    assert not OrmQ.objects.exists()


def test_no_nodes(admin_page):
    """Without nodes there is nothing to do."""
    assert "Choose one or more nodes" in form(admin_page, "pull", model=NEW).content.decode()
