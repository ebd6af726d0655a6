"""The landing page: the fleet at a glance."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from fleet import live
from fleet.models import NodeObservation
from fleet.selectors.glance import alerts, live_nodes
from tests.fleet.conftest import add_model, add_quota, add_request, add_usage_day, make_node

pytestmark = pytest.mark.django_db
INDEX = "admin:index"


class Picture:
    """A gateway's view of some nodes."""

    def __init__(self, *rows, depth=0):
        self.rows, self.depth = rows, depth

    def as_dict(self):
        return {
            "nodes": list(self.rows),
            "queue": {"depth": self.depth, "oldest_s": 4.2, "by_priority": {}},
            "in_flight": sum(row["in_flight"] for row in self.rows),
        }


def seen(node, **columns):
    row = {"id": node.pk, "name": node.name, "state": "up", "in_flight": 0, "slots": node.slots, "resident": []}
    return row | {"vram_used": 0, "breaker": "closed", "error": ""} | columns


@pytest.fixture
def gateway():
    """Publishes a picture as the gateway of this process does."""
    yield lambda *rows, **options: live.publish(Picture(*rows, **options))
    live.publish(None)


def text_of(client):
    return " ".join(client.get(reverse(INDEX)).content.decode().replace("\xa0", " ").split())


def look(node, *, up=True, error="", ago=0):
    moment = timezone.now() - timedelta(minutes=ago)
    NodeObservation.objects.create(node=node, reachable=up, checked_at=moment, last_error=error, version="0.12.0")


def told(*nodes):
    return [(alert.level, alert.subject, alert.text) for alert in alerts(nodes, live_nodes(), timezone.now())]


def test_without_a_gateway(admin_page, ant, bee):
    """Without a gateway the page says so, and tells what the worker saw."""
    look(ant)
    look(bee, up=False, error="cannot connect")
    text = text_of(admin_page)
    assert "No gateway runs in this process" in text
    assert "1 of 2" in text
    assert "is down: cannot connect" in text


def test_with_a_gateway(admin_page, ant, bee, gateway):
    """With one it tells what waits and runs, and each node's load and memory."""
    gateway(seen(ant, in_flight=3, resident=["llama3"], vram_used=12 * 2**30), seen(bee, state="suspect"), depth=7)
    text = text_of(admin_page)
    for part in ("2 of 2", "the oldest for 4.2 s", "of 4 slots", "3 of 4", "12.0 of 24 GiB", "is suspect"):
        assert part in text


def test_pace(admin_page):
    """Requests and tokens of the last minute are counted, older ones are not."""
    add_request(1, prompt_tokens=1000, output_tokens=234)
    add_request(2, prompt_tokens=None)
    add_request(3, prompt_tokens=9999, started_at=timezone.now() - timedelta(minutes=2))
    page = admin_page.get(reverse(INDEX))
    assert page.context["pace"] == (2, 1234)


def test_nothing_to_worry_about(admin_page, ant):
    """A fleet that is well says so."""
    look(ant)
    assert "Nothing needs attention." in text_of(admin_page)


def test_an_empty_fleet(admin_page):
    """Where there are no nodes, the page tells how to get some."""
    assert "There are no nodes yet." in text_of(admin_page)


def test_drifted_digests(ant, bee):
    """A name that means different weights on two nodes in use is told, once."""
    add_model(ant, 1)
    add_model(ant, 2)
    row = add_model(bee, 1)
    type(row).objects.filter(pk=row.pk).update(digest="f" * 64)
    add_model(bee, 2)
    assert told() == [("warning", "m1:latest", "is 2 different models: its digests differ by node")]
    bee.enabled = False
    bee.save()
    assert told() == []


@pytest.mark.parametrize(
    ("used", "breach", "level"), [(79, "refuse", None), (80, "refuse", "warning"), (100, "refuse", "danger"),
                                  (100, "demote", "warning")],
)  # fmt: skip
def test_quotas_nearly_used(bees, used, breach, level):
    """From four fifths on a quota is told; one that refuses already, as a danger."""
    add_quota(bees, breach=breach)
    add_usage_day(bees, requests=used)
    assert [alert[:2] for alert in told()] == ([] if level is None else [(level, "Bees")])


def test_an_open_breaker(ant, gateway):
    """A node that answers but has failed too often is told."""
    gateway(seen(ant, breaker="open"))
    assert "its breaker is open" in told(ant)[0][2]


def test_a_worker_that_is_away(ant):
    """Nodes that nobody has looked at for long tell that the worker is away."""
    look(ant, ago=9)
    assert told(ant)[0][1] == "The background worker"


def test_the_page_does_not_grow(admin_page):
    """More nodes, teams and quotas cost no more queries."""
    counts = []
    for numbers in (range(2), range(2, 12)):
        for number in numbers:
            look(make_node(f"node{number}"))
        admin_page.get(reverse(INDEX))
        with CaptureQueriesContext(connection) as queries:
            admin_page.get(reverse(INDEX))
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_the_list_shows_what_the_gateway_sees(admin_page, ant, gateway):
    """The list of nodes has the live state, load, memory, models and error."""
    gateway(seen(ant, state="suspect", in_flight=2, resident=["llama3:latest", "qwen:7b"], error="reset by peer"))
    text = admin_page.get(reverse("admin:fleet_node_changelist")).content.decode().replace("\xa0", " ")
    for part in ("suspect", "2 of 4", "llama3:latest, qwen:7b", "reset by peer", "of 24 GiB"):
        assert part in text
