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

from tests.fleet.conftest import populate
from tests.fleet.test_api import LISTS

pytestmark = pytest.mark.django_db

BASELINE = Path(__file__).with_name("query_counts.json")
ROWS = 12


@pytest.fixture
def rows(db):
    """Twelve rows of everything."""
    for number in range(ROWS):
        populate(number)


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
