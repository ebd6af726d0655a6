"""One request of the history by its id."""

import pytest
from django.db import OperationalError

from fleet.models import Node, Team
from fleet.services.lookup import DatabaseHistory, found
from fleet.services.recording import DatabaseStore
from routing.core.decisions import Decision, Score
from routing.gateway.inquiry import ended_view
from tests.fleet.test_recorder import ended

pytestmark = pytest.mark.django_db


def test_the_history_tells_what_the_memory_told():
    """Member for member, so that nobody notices where an answer comes from."""
    team, node = Team.objects.create(name="Bees"), Node.objects.create(name="ant", url="http://ant:11434")
    best = [Score("ant", 1.5, True, "warm", {"start": 1.5})]
    decision = Decision("fastest", best, {"alive": ["bee"]}, "warm", "ant", 1.5)
    row = ended(1, team_id=team.pk, node_id=node.pk, total_ms=12.5, output_tokens=7, error="x", decision=decision)
    DatabaseStore()([row])
    assert found("r1") == ended_view(row, "Bees", "ant")


def test_an_unknown_request_is_none():
    """Nothing is made up."""
    assert found("nobody") is None


async def test_a_database_that_fails_is_no_error_of_the_caller(caplog):
    """The request counts as unknown, and the log says why."""

    def away(request_id):
        raise OperationalError("away")

    history = DatabaseHistory(away)
    assert await history.find("r1") is None
    assert "the history cannot be read" in caplog.text
    await history.stop()
