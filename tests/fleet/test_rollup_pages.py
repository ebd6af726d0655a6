"""Sums by hour and day in admin: filters, the chart above them, and whose they are."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from fleet.admin.rollups import SHOWN, bars, first_shown
from fleet.models import Rollup
from tests.fleet.conftest import add_rollup
from tests.fleet.test_admin import page
from tests.fleet.test_groups import member

pytestmark = pytest.mark.django_db


def shown(client, **words):
    return client.get(page(Rollup, "changelist"), words).context["sums"]


def counts(client, **words):
    answer = client.get(page(Rollup, "changelist"), words)
    return [row.requests for row in answer.context["cl"].result_list]


def test_days_unless_hours_are_asked_for(admin_page):
    """Hours and days tell of the same requests, so that one of them is shown."""
    add_rollup("hour", requests=3)
    add_rollup("day", requests=7)
    assert counts(admin_page) == [7]
    assert counts(admin_page, span="hour") == [3]
    assert shown(admin_page)["totals"]["requests"] == 7


def test_filters(admin_page, bees, ant):
    """Sums are narrowed by team, model in both spellings, node and time, and the chart with them."""
    add_rollup("day", team_name="Bees", model="llama3:latest", node_name="ant", requests=2)
    add_rollup("day", team_name="Cats", model="qwen:7b", node_name="bee", requests=5,
               begins=timezone.now() - timedelta(days=20))  # fmt: skip
    for words in ({"team_name": "Bees"}, {"model": "llama3"}, {"node_name": "ant"}, {"within": "7"}):
        assert counts(admin_page, **words) == [2], words
        assert shown(admin_page, **words)["totals"]["requests"] == 2
    assert shown(admin_page, team_name="nobody")["totals"]["requests"] == 0


def test_the_chart(admin_page):
    """A bar for each hour; the highest fills the height, what failed is drawn in it, and nothing has no bar."""
    now = timezone.now()
    first = first_shown("hour", now)
    found = {
        first: {"requests": 50, "errors": 0, "refused": 0, "tokens": 1},
        first + timedelta(hours=47): {"requests": 100, "errors": 25, "refused": 0, "tokens": 9},
    }
    drawn = bars(found, "hour", first)
    assert len(drawn) == SHOWN["hour"]
    assert (drawn[0]["height"], drawn[1]["height"], drawn[-1]["height"], drawn[-1]["failed"]) == (
        "50.00", "0.00", "100.00", "25.00",
    )  # fmt: skip
    assert drawn[-1]["requests"] == 100
    add_rollup("hour", requests=4, errors=1, tokens_in=1000, tokens_out=234)
    text = admin_page.get(page(Rollup, "changelist"), {"span": "hour"}).content.decode()
    assert len(re.findall(r'<rect class="fleet-bar-fill( fleet-danger)?" x', text)) == 2
    assert "4 requests, 1 failed, 1,234 tokens" in text


def test_parts_by_team_model_and_node(admin_page):
    """Beside the sum stand the teams, models and nodes with most requests."""
    add_rollup("day", team_name="Bees", model="llama3", node_name="ant", requests=30)
    add_rollup("day", team_name="Cats", model="llama3", node_name="bee", requests=10)
    parts = {title: "".join(told) for title, told in shown(admin_page)["shares"]}
    assert parts["By team"].index("Bees") < parts["By team"].index("Cats")
    assert "40 requests" in parts["By model"]
    assert 'width="75.0"' in parts["By node"]


def test_a_lead_reads_the_own_teams_sums(bees, cats):
    """Rows, chart and parts are those of the own team."""
    add_rollup("day", team_name="Bees", requests=2)
    add_rollup("day", team_name="Cats", requests=5)
    bo = member("bo", "team lead")
    assert counts(bo) == [2]
    assert shown(bo)["totals"]["requests"] == 2
    assert "Cats" not in bo.get(page(Rollup, "changelist")).content.decode()


def test_made_up_choices(admin_page):
    """What nobody offered shows days, and a page that is not there is no fault."""
    add_rollup("day")
    for words in ({"span": "week"}, {"within": "x"}, {"p": "99"}, {"begins__gte": "x"}, {"team_name": "\0"}):
        assert admin_page.get(page(Rollup, "changelist"), words).status_code < 500
