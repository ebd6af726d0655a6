"""How many queries every list costs, held against a baseline that is committed.

SOLLOL_WRITE_BASELINE=1 writes it anew; a number that grows wants a reason.
"""

import json
import os
from pathlib import Path

import pytest
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from fleet.models import BatchJob, NodeObservation, Rollup, RoutingRule, RoutingStrategy, Team
from fleet.services import keys
from tests.fleet.conftest import (
    add_event,
    add_model,
    add_probe,
    add_quota,
    add_request,
    add_speed,
    add_usage_day,
    make_node,
)
from tests.fleet.test_api import LISTS

pytestmark = pytest.mark.django_db

BASELINE = Path(__file__).with_name("query_counts.json")
ROWS = 12


@pytest.fixture
def rows(db):
    """Twelve rows of everything, each with all that a row may have."""
    for number in range(ROWS):
        node, team = make_node(f"n{number}"), Team.objects.create(name=f"t{number}")
        NodeObservation.objects.create(node=node, reachable=True)
        add_quota(team)
        add_quota(team, window="minute")
        RoutingStrategy.objects.create(name=f"s{number}", kind="fastest")
        RoutingRule.objects.create(team=team, labels={"rack": "a1"})
        add_speed(node, number)
        add_probe(number)
        add_usage_day(team)
        keys.create(team, "chat")
        add_model(node, number)
        add_request(number, team=team, team_name=team.name, node=node, node_name=node.name)
        add_event(node)
        BatchJob.objects.create(team=team, model="m", state="in_progress", total=9, completed=3, failed=1)
        Rollup.objects.create(span="hour", begins=timezone.now(), team_name=team.name, requests=1)


def count(client, path):
    ContentType.objects.clear_cache()
    with CaptureQueriesContext(connection) as queries:
        answer = client.get(path)
    assert answer.status_code == 200, path
    return len(queries)


def pages():
    """The addresses of admin's lists, by name."""
    return {
        f"admin/{model._meta.app_label}/{model._meta.model_name}/"
        for model, page in admin.site._registry.items()
        if model._meta.app_label == "fleet"
    }


def test_every_list_costs_what_the_baseline_says(api, admin_page, rows):
    """No list of REST or admin costs more queries, or fewer, than when somebody last looked."""
    found = {f"api/fleet/{name}/": count(api, f"/api/fleet/{name}/") for name in LISTS}
    found |= {path: count(admin_page, f"/{path}") for path in sorted(pages())}
    if os.environ.get("SOLLOL_WRITE_BASELINE") == "1":
        BASELINE.write_text(json.dumps(found, indent=2) + "\n")
    assert found == json.loads(BASELINE.read_text())


def test_no_list_asks_once_a_row():
    """The baseline itself has no list that costs a query or more for each of its twelve rows."""
    told = json.loads(BASELINE.read_text())
    assert max(told.values()) < ROWS
    assert len(told) > len(LISTS)
