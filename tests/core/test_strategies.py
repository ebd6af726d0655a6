"""Strategies: each goes by what it says, and what the operator weighs counts."""

import pytest

from routing.core.snapshot import FleetSnapshot, StrategySpec
from routing.core.strategies import BUILT_IN, FASTEST, is_meant, strategies
from tests.core.cast import GIB, LARGE, SMALL, fleet, node, ticket
from tests.core.test_dispatcher import warm


def trio(*specs, **snapshot):
    """A fleet with the small model loaded everywhere."""
    specs = specs or tuple(node(number, name, slots=4) for number, name in enumerate(("ant", "bee", "cat"), 1))
    dispatcher = fleet(*specs)
    for spec in specs:
        warm(dispatcher, spec.id, SMALL)
    dispatcher.apply(FleetSnapshot(2, specs, **snapshot))
    return dispatcher


def sent(dispatcher, strategy="", now=0.0, **more):
    """Submit one request; the ticket, leased or not."""
    made = ticket(now, **more)
    made.request.strategy = strategy
    lease = dispatcher.submit(made, now)
    if lease is not None:
        dispatcher.grant(lease)
    return made


def names(dispatcher, strategy="", count=1, **more):
    return [
        made.lease.node.spec.name for made in (sent(dispatcher, strategy, **more) for _ in range(count)) if made.lease
    ]


def test_least_loaded_takes_the_node_with_the_fewest_requests_per_slot():
    """Two of eight slots are less than one of two."""
    dispatcher = trio(node(1, "ant", slots=2), node(2, "bee", slots=8))
    for wanted in ("ant", "bee", "bee", "bee"):
        chosen = names(dispatcher, "least_loaded")
        assert chosen == [wanted] or dispatcher.nodes[1].in_flight / 2 <= dispatcher.nodes[2].in_flight / 8 + 0.5
    assert dispatcher.nodes[2].in_flight > dispatcher.nodes[1].in_flight


def test_least_loaded_is_blind_to_speed():
    """It sends half to a CPU, which the built-in default would not."""
    dispatcher = trio(node(1, "ant", slots=4), node(2, "bee", slots=4, node_class="cpu"))
    assert sorted(names(dispatcher, "least_loaded", 4)) == ["ant", "ant", "bee", "bee"]
    assert names(trio(node(1, "ant", slots=4), node(2, "bee", slots=4, node_class="cpu")), "fastest", 2) == ["ant"] * 2


def test_round_robin_takes_turns():
    """Who was sent something longest ago is next, however fast it is."""
    chosen = names(trio(), "round_robin", 9)
    assert sorted(chosen[:3]) == ["ant", "bee", "cat"]
    assert chosen == chosen[:3] * 3


def test_round_robin_passes_over_who_has_no_slot():
    """It has no patience: the turn goes to the next that can begin."""
    dispatcher = trio(node(1, "ant", slots=1), node(2, "bee", slots=4))
    assert names(dispatcher, "round_robin", 4) in (["ant", "bee", "bee", "bee"], ["bee", "ant", "bee", "bee"])


@pytest.mark.parametrize("wanted", ["bee", "BEE", "tier=gold"])
def test_preferred_nodes_come_first(wanted):
    """A node that is named, or has the label that is, gets all until its slots are full; then the others."""
    specs = (node(1, "ant"), node(2, "bee", node_class="cpu", labels={"tier": "gold"}))
    dispatcher = trio(*specs, strategies={"mine": StrategySpec("mine", "priority_nodes", preferred=(wanted,))})
    assert names(dispatcher, "mine", 4) == ["bee", "bee", "ant", "ant"]


def test_the_order_of_preference_is_kept():
    """The first in the list is liked best, those that are not in it least."""
    dispatcher = trio(strategies={"mine": StrategySpec("mine", "priority_nodes", preferred=("cat", "ant"))})
    assert names(dispatcher, "mine", 12) == ["cat"] * 4 + ["ant"] * 4 + ["bee"] * 4


def test_cheapest_takes_the_slower_node_that_costs_nothing():
    """Money outweighs some seconds, which the default does not count at all."""
    specs = (node(1, "ant", cost_per_hour=4.0, vram_bytes=48 * GIB), node(2, "bee", vram_bytes=12 * GIB))
    assert names(trio(*specs), "cheapest") == ["bee"]
    assert names(trio(*specs), "fastest") == ["ant"]


def test_the_operators_price_weight_counts():
    """A strategy of the kind `fastest` with a weight for the price avoids the dear node."""
    specs = (node(1, "ant", cost_per_hour=4.0, vram_bytes=48 * GIB), node(2, "bee", vram_bytes=12 * GIB))
    dispatcher = trio(*specs, strategies={"thrifty": StrategySpec("thrifty", "fastest", {"price": 36_000.0})})
    assert names(dispatcher, "thrifty") == ["bee"]


def test_the_operators_weight_of_a_node_counts():
    """Of two equal nodes, one that is preferred threefold gets what it can begin at less than three times the cost."""
    dispatcher = trio(node(1, "ant", slots=4), node(2, "bee", slots=4, weight=3.0))
    assert names(dispatcher, "", 3) == ["bee"] * 3


def test_a_weight_of_nothing_leaves_a_term_out():
    """Without a weight for the distance a far node is as good as a near one."""
    dispatcher = trio(strategies={"near": StrategySpec("near", "fastest", {"distance": 0.0})})
    dispatcher.nodes[1].rtt = dispatcher.nodes[2].rtt = 1.0
    assert names(dispatcher, "fastest", 2) == ["cat", "cat"]
    assert set(names(dispatcher, "near", 2)) <= {"ant", "bee"}


def test_a_gpu_is_wanted_where_the_request_says_so():
    """The weight `gpu` makes a CPU dearer by its share of the run, for requests that need a GPU only."""
    dispatcher = trio(node(1, "ant", node_class="cpu"))
    made = ticket(0.0)
    plain = dispatcher.judge(made, 0.0).cost
    made.request.needs_gpu = True
    assert dispatcher.judge(made, 0.0).cost == pytest.approx(1.25 * plain)


def test_an_operators_strategy_takes_the_place_of_a_built_in_one():
    """A definition under a built-in name holds; one of an unknown kind does not exist."""
    specs = {"fastest": StrategySpec("fastest", "round_robin"), "odd": StrategySpec("odd", "by_moonlight")}
    known = strategies(specs)
    assert known["fastest"].kind == "round_robin"
    assert known.keys() == BUILT_IN.keys()


def test_the_default_strategy_holds_where_none_is_named():
    """The snapshot names it; one that is not defined any more is the fastest."""
    assert names(trio(strategy="round_robin"), "", 3) == ["ant", "bee", "cat"]
    assert trio(strategy="gone").explain(ticket(), 0.0).strategy == FASTEST.name


def test_a_name_is_no_label():
    """`name=value` means a label, anything else a name in any case."""
    spec = node(1, "ant", LARGE, labels={"rack": "r1"})
    assert is_meant(spec, "Ant")
    assert is_meant(spec, "rack=r1")
    assert not is_meant(spec, "rack")
    assert not is_meant(spec, "rack=r2")
