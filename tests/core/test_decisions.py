"""The decision record: who was rejected by what and every score, bounded for a thousand nodes."""

import json

from routing.core.decisions import NAMED, SCORED
from routing.core.pipeline import KEPT
from tests.core.cast import EMBED, assign, fleet, node, submit


def decided(*nodes):
    dispatcher = fleet(*nodes)
    ticket = submit(dispatcher)
    assign(dispatcher)
    return ticket.decision


def test_who_was_rejected_by_what():
    """Nodes are named by the filter that rejected them: what they are, and what they have done to this request."""
    dispatcher = fleet(node(1, "ant"), node(2, "bee", EMBED), node(3, "cat", enabled=False), node(4, "dog"))
    ticket = submit(dispatcher)
    ticket.tried = {4}
    assign(dispatcher)
    told = ticket.decision.as_dict()
    assert told["rejected"] == {"has_model": 1, "enabled": 1, "not_tried": 1}
    assert told["rejected_nodes"] == {"has_model": ["bee"], "enabled": ["cat"], "not_tried": ["dog"]}


def test_what_befell_one_request_is_not_told_of_the_next():
    """The names that requests share are not changed by one of them."""
    dispatcher = fleet(node(1, "ant"), node(2, "bee", EMBED), node(3, "cat"))
    first, second = submit(dispatcher), submit(dispatcher)
    first.tried = {3}
    assign(dispatcher)
    assert set(first.decision.rejected) == {"has_model", "not_tried"}
    assert set(second.decision.rejected) == {"has_model"}


def test_every_score():
    """The best few tell their terms, all others their cost, in order."""
    told = decided(*(node(number, f"node{number}") for number in range(1, 11))).as_dict()
    assert (len(told["best"]), len(told["others"]), told["more"]) == (KEPT, 10 - KEPT, 0)
    costs = [row["cost_s"] for row in told["best"]] + [cost for _, cost in told["others"]]
    assert costs == sorted(costs)
    assert {row["node"] for row in told["best"]} | {name for name, _ in told["others"]} == {
        f"node{number}" for number in range(1, 11)
    }


def test_a_thousand_nodes():
    """However many nodes there are, a record stays small; it counts what it does not name."""
    able = [node(number, f"node{number}") for number in range(1, 501)]
    others = [node(number, f"node{number}", EMBED) for number in range(501, 1001)]
    decision = decided(*able, *others)
    told = decision.as_dict()
    assert told["rejected"] == {"has_model": 500}
    assert len(told["rejected_nodes"]["has_model"]) == NAMED
    assert len(told["best"]) + len(told["others"]) == SCORED
    assert told["more"] == 500 - SCORED
    assert len(json.dumps(told)) < 5000
