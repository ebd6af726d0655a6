"""The live dashboard's pages, its WebSocket, and what both are fed with."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser, User
from django.test import Client
from django.urls import reverse

from fleet import live
from fleet.consumers.dashboard import DashboardConsumer
from fleet.dashboard import views
from fleet.dashboard.record import laid_out
from fleet.models import RequestRecord
from fleet.services.feed import Feed

pytestmark = pytest.mark.django_db

SECTIONS = {
    "summary": {"waiting": 0},
    "nodes": {"1": {"id": 1, "name": "ant", "state": "up"}},
    "requests": [],
    "series": {},
}
DECISION = {
    "strategy": "fastest",
    "node": "ant",
    "reason": "warm",
    "score_s": 1.0,
    "rejected": {"alive": 1, "has_model": 2},
    "best": [
        {"node": "ant", "cost_s": 1.0, "starts_now": True, "condition": "warm", "terms": {"run": 1.0}},
        {
            "node": "bee",
            "cost_s": 4.0,
            "starts_now": False,
            "condition": "loads-model",
            "terms": {"start": 3.0, "run": 1.0},
        },
    ],
}
TOLD = {"id": "r1", "state": "ended", "node": "ant", "outcome": "served", "status": 200, "decision": DECISION}


class Panorama:
    """A gateway's state as a test wants it; `drawn` counts how often somebody looked."""

    def __init__(self):
        self.parts, self.drawn = dict(SECTIONS), 0

    def sections(self):
        self.drawn += 1
        return dict(self.parts)

    def request(self, request_id):
        return TOLD if request_id == "r1" else None

    def models(self):
        return [{"name": "llama3.2:3b", "nodes": ["ant"], "loaded": []}]


@pytest.fixture
def shown(monkeypatch):
    """A gateway to look at, of which nobody has an older picture."""
    monkeypatch.setattr(views, "FEED", Feed())
    panorama = Panorama()
    live.show(panorama)
    yield panorama
    live.show(None)


def viewer(user):
    communicator = WebsocketCommunicator(DashboardConsumer.as_asgi(), "/ws/dashboard")
    communicator.scope["user"] = user
    return communicator


PAGES = ["dashboard", "playground"]
PARTS = ["dashboard-state", "dashboard-models"]


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_ask_for_a_login(name):
    """Whoever is not staff is sent to the login page."""
    answer = Client().get(reverse(name))
    assert (answer.status_code, reverse("admin:login") in answer["Location"]) == (302, True)


@pytest.mark.parametrize("path", [*map(reverse, PARTS), reverse("dashboard-record", args=["r1"])])
def test_scripts_are_told_that_nobody_is_logged_in(path, shown, client):
    """What scripts ask for is a 401 to others, no page to log in at."""
    assert client.get(path).status_code == 401
    client.force_login(User.objects.create_user("bo"))
    assert client.get(path).status_code == 401
    assert shown.drawn == 0


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_are_strict(admin_page, name):
    """The pages have no inline script or style and nothing from elsewhere, and forbid all three."""
    answer = admin_page.get(reverse(name))
    html = answer.content.decode()
    assert "script-src 'self'" in answer["Content-Security-Policy"]
    assert "unsafe" not in answer["Content-Security-Policy"]
    assert [
        part for part in ("<style", " style=", "<script>", "src=http", 'src="http', "onclick") if part in html
    ] == []


@pytest.mark.parametrize(
    "user", [None, AnonymousUser(), User(username="bo"), User(is_staff=True, is_active=False)], ids=str
)
async def test_only_staff_may_watch(user):
    """Everybody but active staff is let go with the code 4403."""
    communicator = viewer(user)
    await communicator.connect()
    assert await communicator.receive_output() == {"type": "websocket.close", "code": 4403}


async def test_staff_see_the_picture(shown):
    """Ada sees the whole picture at once."""
    communicator = viewer(User(username="ada", is_staff=True, is_superuser=True))
    await communicator.connect()
    told = json.loads(await communicator.receive_from())
    assert (told["gateway"], told["whole"]) == (True, SECTIONS)
    await communicator.disconnect()


async def test_no_gateway_is_told():
    """Where this process runs no gateway, the page is told so."""
    communicator = viewer(User(username="ada", is_staff=True, is_superuser=True))
    await communicator.connect()
    told = json.loads(await communicator.receive_from())
    assert (told["gateway"], "whole" in told) == (False, False)
    await communicator.disconnect()


async def test_changes_alone_are_sent(shown):
    """A viewer gets what has changed, and nothing while nothing has."""
    feed = Feed(period_s=0.001)
    pictures = feed.pictures()
    first = json.loads(await anext(pictures))
    drawn = shown.drawn
    following = asyncio.ensure_future(anext(pictures))
    while shown.drawn < drawn + 3:
        await asyncio.sleep(0.001)
    assert not following.done()
    shown.parts["summary"] = {"waiting": 1}
    told = json.loads(await following)
    assert (told["number"], told["change"]) == (first["number"] + 1, {"summary": {"waiting": 1}})
    await pictures.aclose()


async def test_a_slow_viewer_gets_a_whole_picture(shown):
    """Who has missed a change is told everything, not the next change."""
    feed = Feed(period_s=60)
    pictures = feed.pictures()
    await anext(pictures)
    for waiting in (1, 2):
        shown.parts["summary"] = {"waiting": waiting}
        feed.look()
    assert json.loads(await anext(pictures))["whole"]["summary"] == {"waiting": 2}
    await pictures.aclose()


async def test_who_comes_later_is_told_the_time_of_now(shown):
    """A page tells ages by the gateway's clock, so that an old picture comes with the time at which it is sent."""
    feed = Feed(period_s=60)
    pictures = feed.pictures()
    first = json.loads(await anext(pictures))
    assert json.loads(feed.now())["at"] > first["at"]
    await pictures.aclose()


async def test_one_computation_for_all(shown):
    """Two viewers share one feed, which ends with the last of them."""
    feed = Feed(period_s=60)
    one, two = feed.pictures(), feed.pictures()
    first, second, polled = (json.loads(text) for text in (await anext(one), await anext(two), feed.now()))
    assert first["whole"] == second["whole"] == polled["whole"] == SECTIONS
    assert first["number"] == second["number"] == polled["number"]
    assert shown.drawn == 1
    task = feed._task
    await one.aclose()
    assert feed._task is task
    await two.aclose()
    assert feed._task is None


async def test_a_picture_that_cannot_be_drawn_ends_nothing(shown, caplog):
    """After a fault the next picture comes."""
    feed = Feed(period_s=0.001)
    pictures = feed.pictures()
    await anext(pictures)
    sections, shown.sections = shown.sections, lambda: 1 / 0
    while "cannot be shown" not in caplog.text:
        await asyncio.sleep(0.001)
    shown.sections = sections
    shown.parts["summary"] = {"waiting": 7}
    assert json.loads(await anext(pictures))["change"]["summary"] == {"waiting": 7}
    await pictures.aclose()


def test_polling_gives_the_same_picture(shown, admin_page):
    """Pages that get no socket ask for what it would send first."""
    told = admin_page.get(reverse("dashboard-state")).json()
    assert told["gateway"] is True
    assert told["whole"]["nodes"] == SECTIONS["nodes"]


def test_the_playground_is_told_the_models(shown, admin_page):
    """The fleet's models, or that there is no gateway."""
    assert admin_page.get(reverse("dashboard-models")).json()["models"][0]["name"] == "llama3.2:3b"
    live.show(None)
    assert admin_page.get(reverse("dashboard-models")).json() == {"gateway": False, "nodes": 0, "models": []}


def test_a_decision_record_is_laid_out(shown, admin_page):
    """The part of the page names the chosen node, draws a bar for each term and says why nodes were rejected."""
    html = admin_page.get(reverse("dashboard-record", args=["r1"])).content.decode()
    assert "on <strong>ant</strong>: model loaded" in html
    assert html.count("<rect class=") >= 3
    assert "1 node:</strong> does not answer" in html
    assert "2 nodes:</strong> does not have the model" in html
    assert "hx-trigger" not in html


def test_every_score_and_every_rejected_node_is_told():
    """Behind the best few stand the others with their costs; who was rejected stands there by name."""
    decision = {**DECISION, "others": [["cat", 5.0], ["dog", 6.5]], "more": 3, "rejected_nodes": {"has_model": ["eel"]}}
    told = laid_out({**TOLD, "decision": decision})
    assert [(one["node"], one["cost"]) for one in told["others"]] == [("cat", 5.0), ("dog", 6.5)]
    assert [one["who"] for one in told["rejected"]] == ["1 node:", "eel and 1 more"]


def test_an_older_record_comes_from_the_history(admin_page):
    """What the gateway has forgotten the database knows; what nobody knows is a 404 that says so."""
    RequestRecord.objects.create(
        request_id="old",
        started_at=datetime(2026, 5, 1, tzinfo=UTC),
        route="/api/chat",
        priority=5,
        stream=True,
        outcome="served",
        status=200,
        node_name="bee",
        decision=DECISION,
    )
    assert "<strong>bee</strong>" in admin_page.get(reverse("dashboard-record", args=["old"])).content.decode()
    answer = admin_page.get(reverse("dashboard-record", args=["nobody"]))
    assert (answer.status_code, "not known any more" in answer.content.decode()) == (404, True)


def test_the_longest_row_fills_the_width():
    """Bars of one row stand beside each other, in percent of the costliest row."""
    ant, bee = laid_out(TOLD)["scores"]
    assert [(bar["x"], bar["width"]) for bar in bee["bars"]] == [("0.00%", "75.00%"), ("75.00%", "25.00%")]
    assert (ant["bars"][0]["width"], ant["chosen"], bee["chosen"]) == ("25.00%", True, False)


def test_nodes_are_named_while_the_request_is_under_way():
    """Before its end it is known by name who rejects the request."""
    told = laid_out({**TOLD, "state": "waiting", "rejected_nodes": {"cat": "not_draining"}})
    assert told["rejected"] == [{"who": "cat", "why": "being drained"}]


def test_a_request_without_decision_has_no_bars():
    """A request that was refused at once was judged for no node."""
    told = laid_out({"id": "r2", "state": "ended", "decision": {}})
    assert (told["scores"], told["rejected"], told["terms"]) == ([], [], [])


def test_a_preference_by_rank_is_a_number_and_no_bar():
    """A rank weighs a million seconds: drawn, it would leave nothing of the others to see."""
    row = {**DECISION["best"][0], "terms": {"run": 1.0, "preference": 1e6}}
    [score] = laid_out({**TOLD, "decision": {**DECISION, "best": [row]}})["scores"]
    assert [bar["term"] for bar in score["bars"]] == ["run"]
    assert ("the operator's preference", 1e6) in score["terms"]
