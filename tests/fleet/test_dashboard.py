"""The live dashboard."""

import json

import pytest
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser, User
from django.test import Client
from django.urls import reverse
from fleet.consumers.feed import Feed

from fleet import live
from fleet.consumers.dashboard import DashboardConsumer

pytestmark = pytest.mark.django_db

VIEW = {
    "at": 1.0,
    "nodes": [{"id": 1, "name": "ant", "state": "up"}],
    "queue": {"depth": 0},
    "totals": {},
    "recent": [],
}


class View:
    def __init__(self, **parts):
        self.parts = VIEW | parts

    def as_dict(self):
        return self.parts


@pytest.fixture
def published():
    live.publish(View())
    yield
    live.publish(None)


def viewer(user):
    communicator = WebsocketCommunicator(DashboardConsumer.as_asgi(), "/ws/dashboard")
    communicator.scope["user"] = user
    return communicator


def test_the_page_asks_for_a_login(db):
    """Whoever is not staff is sent to the login page."""
    answer = Client().get("/dashboard/")
    assert (answer.status_code, reverse("admin:login") in answer["Location"]) == (302, True)


def test_the_page_is_strict(admin_page):
    """The page has no inline script or style and forbids them."""
    answer = admin_page.get("/dashboard/")
    html = answer.content.decode()
    assert "script-src 'self'" in answer["Content-Security-Policy"]
    assert ("<style" in html, " style=" in html, "<script>" in html, "http://" in html, "onclick" in html) == (
        False,
    ) * 5


@pytest.mark.parametrize(
    "user", [None, AnonymousUser(), User(username="bo"), User(is_staff=True, is_active=False)], ids=str
)
async def test_only_staff_may_watch(user):
    """Everybody but active staff is let go with the code 4403."""
    communicator = viewer(user)
    await communicator.connect()
    assert await communicator.receive_output() == {"type": "websocket.close", "code": 4403}


async def test_staff_see_the_picture(published):
    """Ada sees the picture at once."""
    communicator = viewer(User(username="ada", is_staff=True))
    await communicator.connect()
    assert json.loads(await communicator.receive_from()) == {"gateway": True, "view": VIEW}
    await communicator.disconnect()


async def test_no_gateway_is_told():
    """Where this process runs no gateway, the page is told so."""
    communicator = viewer(User(username="ada", is_staff=True))
    await communicator.connect()
    assert json.loads(await communicator.receive_from()) == {"gateway": False, "view": None}
    await communicator.disconnect()


async def test_changes_are_sent_once(published):
    """A viewer gets a new picture when something but the clock has changed."""
    feed = Feed(period_s=0.001)
    pictures = feed.pictures()
    await anext(pictures)
    await anext(pictures)
    live.publish(View(at=2.0))
    live.publish(View(at=3.0, queue={"depth": 1}))
    assert json.loads(await anext(pictures))["view"]["queue"] == {"depth": 1}
    await pictures.aclose()


async def test_one_computation_for_all(published):
    """Two viewers share one feed, which ends with the last of them."""
    feed = Feed(period_s=0.001)
    one, two = feed.pictures(), feed.pictures()
    assert await anext(one) == await anext(two)
    task = feed._task
    await one.aclose()
    assert feed._task is task
    await two.aclose()
    assert feed._task is None
