"""Lists of a long history: every filter is answered by an index that holds the list's order, too."""

import pytest
from django.db import connection

from fleet.models import NodeEvent, RequestRecord
from fleet.selectors.history import of_id_or_model, of_model
from tests.fleet.conftest import add_request

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("model", "words"),
    [(RequestRecord, {"team": 1}), (RequestRecord, {"node": 1}), (RequestRecord, {"model": "m"}),
     (RequestRecord, {"outcome": "expired"}), (RequestRecord, {"task_type": "code"}), (NodeEvent, {"node": 1}),
     (NodeEvent, {"kind": "up"})],
    ids=str,
)  # fmt: skip
def test_an_index_holds_the_order(model, words):
    """SQLite looks the rows up and sorts nothing: else it would read a million newest ones for the few that fit."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL plans by what the table holds")
    [plan] = model.objects.filter(**words).explain().splitlines()
    assert "SEARCH" in plan
    assert "USING INDEX" in plan


def test_a_search_asks_for_what_there_is():
    """What is no model's name is not asked for as one, and an id that is also a model's name finds both."""
    add_request(1, model="llama3:latest")
    add_request(2, request_id="llama3", model="qwen:7b")

    def found(condition):
        return set(RequestRecord.objects.filter(condition).values_list("request_id", flat=True))

    assert found(of_id_or_model("r1")) == {"r1"}
    assert "model" not in str(of_id_or_model("r1"))
    assert found(of_id_or_model("llama3")) == {"r1", "llama3"}
    assert found(of_id_or_model("nothing")) == set()
    assert found(of_model("llama3")) == {"r1"}
