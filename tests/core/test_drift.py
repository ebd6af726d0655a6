"""Different weights under one name: lists and answers agree on which count."""

from dataclasses import replace

import pytest

from routing.core.drift import preferred
from routing.core.names import canonical
from routing.core.requests import Route
from tests.core.cast import MODELS, SMALL, fleet, node, submit

KEY = canonical(SMALL)
OLD = replace(MODELS[SMALL], digest="old", modified_at=1.0)
NEW = replace(MODELS[SMALL], digest="new", modified_at=2.0)


@pytest.mark.parametrize(
    ("models", "rule", "digest"),
    [
        ([OLD, OLD, NEW], "newest", "new"),
        ([OLD, OLD, NEW], "majority", "old"),
        ([OLD, NEW], "majority", "new"),
        ([OLD, OLD], "newest", None),
        ([OLD, replace(OLD, digest="")], "newest", None),
    ],
)
def test_the_rule_decides(models, rule, digest):
    """Newest by time, majority by count and then by time; where all agree there is nothing to decide."""
    assert preferred(models, rule).get(KEY) == digest


def drifted(*models):
    """A fleet of ant, bee, cat with these variants of one model."""
    names = ("ant", "bee", "cat")
    dispatcher = fleet(*(node(i + 1, names[i]) for i in range(len(models))))
    for i, model in enumerate(models):
        dispatcher.observe_inventory(i + 1, [model], at=1.0)
    return dispatcher


def test_requests_go_where_the_weights_count():
    """A conversation never meets two models."""
    dispatcher = drifted(OLD, OLD, NEW)
    for _ in range(5):
        submit(dispatcher)
    assert [lease.node.spec.name for lease in dispatcher.assign(0.0)] == ["cat", "cat"]


def test_others_serve_while_those_nodes_are_down():
    """What counts is decided among the nodes that answer."""
    dispatcher = drifted(OLD, NEW)
    dispatcher.observe_reach(2, "gone", 1.0, certain=True)
    submit(dispatcher, 1.0)
    assert [lease.node.spec.name for lease in dispatcher.assign(1.0)] == ["ant"]
    dispatcher.observe_reach(2, None, 2.0)
    assert dispatcher.nodes[1].outdated == {KEY}


def test_a_request_that_failed_may_use_the_others():
    """Other weights are better than an error."""
    dispatcher = drifted(OLD, NEW)
    ticket = submit(dispatcher)
    [lease] = dispatcher.assign(0.0)
    dispatcher.release(lease, "failure", 0.0)
    ticket.tried.add(2)
    dispatcher.retry(ticket, 0.0)
    assert [lease.node.spec.name for lease in dispatcher.assign(0.0)] == ["ant"]


def test_older_weights_serve_a_route_that_the_newer_ones_lack():
    """Nobody waits for what cannot come."""
    dispatcher = drifted(OLD, NEW)
    dispatcher.nodes[2].set_version("0.12.0")
    ticket = submit(dispatcher)
    ticket.request.route = Route.V1_MESSAGES
    assert [lease.node.spec.name for lease in dispatcher.assign(0.0)] == ["ant"]
