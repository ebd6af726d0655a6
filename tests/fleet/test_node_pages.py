"""Adding a node looks at it first; its page tells what it has and does."""

import http.server
import threading

import pytest
from django.contrib.admin.models import LogEntry

from fleet.models import Node, RequestRecord, Team
from fleet.services import keys
from simulator.threads import node_in_thread
from tests.fleet.conftest import add_event, add_model, add_quota, add_request, add_speed, add_usage_day
from tests.fleet.test_admin import act, node_form, page

pytestmark = pytest.mark.django_db


@pytest.fixture
def simulated():
    with node_in_thread(models=("llama3.2:3b",), speed=100.0) as server:
        yield server


@pytest.fixture
def web_server():
    """A web server that is no Ollama."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def add(client, url, **fields):
    return client.post(page(Node, "add"), node_form(url=url, **fields), follow=True)


def test_what_was_found_is_told(admin_page, simulated):
    """A node that answers is saved, with its models, and the page says what it is."""
    answer = add(admin_page, simulated.base_url)
    [told] = [str(message) for message in answer.context["messages"] if "is up" in str(message)]
    assert told.startswith(f"{simulated.base_url} is up, Ollama 0.")
    assert "1 models installed" in told
    assert Node.objects.get().models.get().capabilities


def test_an_unreachable_host(admin_page):
    """What does not answer is not saved, and the page says why and what to do."""
    text = add(admin_page, "http://127.0.0.1:9").content.decode()
    assert "http://127.0.0.1:9: cannot connect" in text
    assert "save the node disabled" in text
    assert not Node.objects.exists()


def test_no_ollama(admin_page, web_server):
    """Another web server is told apart from an Ollama."""
    text = add(admin_page, web_server).content.decode()
    assert "is this an Ollama server?" in text
    assert not Node.objects.exists()


def test_a_wrong_address_is_not_looked_at(admin_page):
    """An address that cannot be one is told as such."""
    text = add(admin_page, "http://127.0.0.1:9/api").content.decode()
    assert "no path, query or fragment" in text
    assert "cannot connect" not in text


@pytest.mark.parametrize("fields", [{"_save_disabled": "1"}, {"enabled": ""}], ids=str)
def test_saving_disabled(admin_page, fields):
    """It can be saved disabled, by a button or by the switch."""
    answer = add(admin_page, "http://127.0.0.1:9", **fields)
    assert Node.objects.get().enabled is False
    assert "was not looked at" in answer.content.decode()


def test_changing_a_node_that_is_down(admin_page, ant):
    """A node that is there already can be changed while it is down."""
    admin_page.post(page(Node, "change", ant.pk), node_form(slots=7, url="http://127.0.0.1:9"))
    assert Node.objects.get().slots == 7


def test_the_page_of_a_node(admin_page, ant, bee):
    """Recent requests and events of the node, and of no other, stand on its page."""
    add_request(1, node=ant, model="of-ant", team_name="Bees")
    add_request(2, node=bee, model="of-bee")
    add_event(ant, "version")
    add_event(bee, "breaker_open")
    add_model(ant, 7)
    text = admin_page.get(page(Node, "change", ant.pk)).content.decode()
    assert ("of-ant" in text, "of-bee" in text) == (True, False)
    assert (">version<" in text, ">breaker_open<" in text) == (True, False)
    assert "m7:latest" in text


def test_a_page_that_is_no_node(admin_page):
    """An address that names no node leads to the list, not to an error."""
    assert admin_page.get(page(Node, "change", "x")).status_code == 302


@pytest.mark.parametrize("action", ["probe_now", "enable", "disable", "drain", "resume", "measure", "forget"])
def test_every_action_is_in_the_log(admin_page, action):
    """What is done to a node from the list is in Django's log."""
    node = Node.objects.create(name="ant", url="http://127.0.0.1:9")
    act(admin_page, Node, action, node)
    assert LogEntry.objects.get(object_id=str(node.pk)).change_message


def test_deleting_a_node(admin_page, ant):
    """A node goes with its models and speeds; its requests and events stay in the history."""
    add_model(ant)
    add_speed(ant)
    add_request(1, node=ant, node_name="ant")
    admin_page.post(page(Node, "delete", ant.pk), {"post": "yes"})
    assert not Node.objects.exists()
    assert RequestRecord.objects.get().node_name == "ant"


def test_deleting_a_team(admin_page, bees):
    """A team goes with its policy, keys and usage."""
    add_quota(bees)
    add_usage_day(bees)
    keys.create(bees, "chat")
    admin_page.post(page(Team, "delete", bees.pk), {"post": "yes"})
    assert not Team.objects.exists()
