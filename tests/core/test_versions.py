"""Routes by version."""

import pytest

from routing.core.errors import NoNode
from routing.core.requests import Route
from routing.core.versions import missing_routes
from tests.core.cast import fleet, node, submit


@pytest.mark.parametrize(
    ("version", "missing", "there"),
    [
        ("0.6.0", {"/api/me", "/v1/messages", "/v1/audio/transcriptions"}, {"/api/chat"}),
        ("0.14.0-rc1", {"/api/status"}, {"/v1/messages", "/api/me"}),
        ("0.33.0", set(), {"/v1/audio/transcriptions"}),
        ("1.0", set(), {"/v1/audio/transcriptions"}),
        ("0.0.0", set(), {"/v1/messages"}),
        ("", set(), {"/v1/messages"}),
        ("nightly", set(), {"/v1/messages"}),
    ],
)
def test_a_version_tells_its_routes(version, missing, there):
    """Older servers lack newer routes; who tells no number is believed to have all."""
    assert missing <= missing_routes(version)
    assert not there & missing_routes(version)


def test_requests_go_to_nodes_that_have_the_route():
    """A fleet of several versions serves a route as long as one node has it."""
    dispatcher = fleet(node(1, "ant"), node(2, "bee"))
    dispatcher.nodes[1].set_version("0.6.0")
    ticket = submit(dispatcher)
    ticket.request.route = Route.V1_MESSAGES
    assert [lease.node.spec.name for lease in dispatcher.assign(0.0)] == ["bee"]
    assert ticket.decision.rejected == {"has_route": ["ant"]}


def test_a_route_that_a_node_denied_is_not_asked_there_again():
    """Until the node tells another version."""
    dispatcher = fleet(node(1, "ant"))
    ant = dispatcher.nodes[1]
    ant.lacks("/api/chat", 0.0)
    ticket = submit(dispatcher)
    assert dispatcher.assign(0.0) == []
    dispatcher.refuse_hopeless(0.0)
    assert isinstance(ticket.refusal, NoNode)
    ant.set_version("9.9.9")
    assert ant.offers(ticket.request)


def test_a_denied_route_is_asked_for_again_after_a_while():
    """A proxy in front of a node may say a plain 404 as well, so nothing is believed for good."""
    dispatcher = fleet(node(1, "ant"))
    ant, ticket = dispatcher.nodes[1], submit(dispatcher)
    ant.lacks("/api/chat", 0.0)
    dispatcher.observe_reach(1, None, 10.0)
    assert not ant.offers(ticket.request)
    dispatcher.observe_reach(1, None, 61.0)
    assert ant.offers(ticket.request)


def test_a_node_that_comes_back_may_have_the_route():
    """It was perhaps its proxy that spoke for it."""
    dispatcher = fleet(node(1, "ant"))
    ant, ticket = dispatcher.nodes[1], submit(dispatcher)
    ant.lacks("/api/chat", 0.0)
    dispatcher.observe_reach(1, "gone", 1.0, certain=True)
    dispatcher.observe_reach(1, None, 2.0)
    assert ant.offers(ticket.request)


def test_unknown_paths_without_end_displace_nothing_for_long():
    """What a client makes up is bounded, and the newest counts."""
    ant = fleet(node(1, "ant")).nodes[1]
    for number in range(1000):
        ant.lacks(f"/api/{number}", float(number))
    ant.lacks("/api/chat", 1000.0)
    ant.doubt(1000.0)
    assert "/api/chat" in ant.missing
    assert len(ant.denied) <= 200
