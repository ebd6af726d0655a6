"""The history of requests: filters, search by id, and the decision record laid out."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from fleet.models import RequestRecord
from tests.fleet.conftest import add_request, make_node
from tests.fleet.test_admin import page

pytestmark = pytest.mark.django_db
DECISION = {
    "strategy": "fastest",
    "node": "ant",
    "reason": "loads-model",
    "score_s": 3.46,
    "rejected": {"has_model": 2, "not_draining": 1},
    "best": [
        {"node": "ant", "cost_s": 3.46, "starts_now": True, "condition": "warm", "terms": {"start": 2.05, "run": 1.41}},
        {"node": "bee", "cost_s": 14.4, "starts_now": False, "condition": "cold", "terms": {"run": 4.4, "evict": 10}},
    ],
}


def found(client, **words):
    answer = client.get(page(RequestRecord, "changelist"), words)
    return {row.request_id for row in answer.context["cl"].result_list}


def test_filters(admin_page, ant, bees):
    """Requests are narrowed by team, model, node, outcome, task and time, and found by their whole id."""
    add_request(1)
    old = timezone.now() - timedelta(hours=3)
    add_request(2, team=bees, node=ant, model="qwen:7b", outcome="failed", task_type="code", started_at=old)
    for words in (
        {"team": bees.pk}, {"node": ant.pk}, {"model": "qwen:7b"}, {"outcome__exact": "failed"},
        {"task": "code"}, {"started_at_to_0": f"{old:%Y-%m-%d}", "started_at_to_1": f"{old:%H:%M}:59"}, {"q": " r2 "},
    ):  # fmt: skip
        assert found(admin_page, **words) == {"r2"}, words
    assert found(admin_page, within="60") == {"r1"}
    assert found(admin_page, within="1440") == {"r1", "r2"}


@pytest.mark.parametrize(
    "words", [{"team": "x"}, {"node": "x"}, {"within": "x"}, {"task": "x"}, {"started_at_from_0": "x"},
    {"started_at_to_0": "2026-99-99"}], ids=str
)  # fmt: skip
def test_strange_filters(admin_page, words):
    """A filter that somebody has made up is no error."""
    add_request(1)
    assert admin_page.get(page(RequestRecord, "changelist"), words).status_code == 200


@pytest.mark.parametrize("wanted", ["llama3", "llama3:latest"])
def test_one_model_in_two_spellings(admin_page, wanted):
    """A model without a tag is the same as with the tag that stands for none."""
    add_request(1, model="llama3")
    add_request(2, model="llama3:latest")
    add_request(3, model="llama3:8b")
    assert found(admin_page, model=wanted) == {"r1", "r2"}


def test_the_decision_is_laid_out(admin_page):
    """The page of a request tells each score by term, who was chosen, and how many nodes were rejected by what."""
    record = add_request(1, decision=DECISION)
    text = admin_page.get(page(RequestRecord, "change", record.pk)).content.decode().replace("\xa0", " ")
    parts = (
        "strategy fastest",
        "loads-model",
        "3.5 s",
        "2.0 s",
        "10.0 s",
        "delay",
        "the model is not there",
        "2 nodes",
    )
    for part in (*parts[:5], *parts[6:]):
        assert part in text, part
    assert text.index("ant <span") < text.index("bee</th>")


@pytest.mark.parametrize(
    "decision",
    [{}, [], {"best": None, "rejected": None}, {"best": ["x"], "rejected": [1]}, {"best": [{"terms": None}]},
     {"resumed": 2, "rejected": {"alive": ["bee", "cat"]}}, {"best": [{}], "others": [1, [2]], "more": "x"},
     {"rejected": {"alive": "x"}, "rejected_nodes": ["y"]}],
    ids=str,
)  # fmt: skip
def test_odd_decisions(admin_page, decision):
    """Whatever another version has written, the page opens."""
    record = add_request(1, decision=decision)
    assert admin_page.get(page(RequestRecord, "change", record.pk)).status_code == 200


def test_who_was_rejected_and_every_score(admin_page):
    """The page names the rejected nodes, as far as they are named, and tells the scores behind the best few."""
    more = {"others": [["cat", 20.0], ["dog", 31.0]], "more": 7, "rejected_nodes": {"has_model": ["eel"]}}
    record = add_request(1, decision=DECISION | more)
    text = admin_page.get(page(RequestRecord, "change", record.pk)).content.decode().replace("\xa0", " ")
    told = ("<strong>cat</strong> 20.0 s", "<strong>dog</strong> 31.0 s", "and 7 more", "eel and 1 more", "1 node<")
    for part in told:
        assert part in text, part


def test_markup_in_a_record_is_text(admin_page):
    """What a client has chosen is shown as text."""
    record = add_request(1, model="<b>x</b>", decision={"reason": "<script>x</script>", "node": "<i>"})
    assert b"<script>x" not in admin_page.get(page(RequestRecord, "change", record.pk)).content


def test_the_list_does_not_grow_with_nodes(admin_page):
    """Ten more nodes in the filter cost no more queries."""
    counts = []
    for numbers in (range(2), range(2, 12)):
        for number in numbers:
            add_request(number, node=make_node(f"n{number}"))
        admin_page.get(page(RequestRecord, "changelist"))
        with CaptureQueriesContext(connection) as queries:
            admin_page.get(page(RequestRecord, "changelist"))
        counts.append(len(queries))
    assert counts[0] == counts[1]
