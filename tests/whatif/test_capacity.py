"""The best rate of a fleet."""

import pytest

from routing.whatif.capacity import capacity, maximum
from routing.whatif.figures import figures
from routing.whatif.simulation import Scenario, preloaded, simulate
from routing.whatif.traffic import traffic
from tests.whatif.cast import MIX, asked, fleet, plain


def test_one_node_carries_what_its_time_allows():
    """Work of two seconds on one slot: half a request a second; on four slots at alpha 0.5 twice as many."""
    work = [asked(0, 0.0, 2.0)]
    assert capacity([plain()], work) == pytest.approx(0.5, rel=0.01)
    assert capacity([plain(slots=4, alpha=0.5)], work) == pytest.approx(1.0, rel=0.02)


def test_the_simplex_method():
    """Maximise z in z <= x + y, x + 3 y <= 6, x <= 2 : 2 + 4 / 3."""
    columns = [[-1.0, 1.0, 1.0], [-1.0, 3.0, 0.0], [1.0, 0.0, 0.0]]
    assert maximum(columns, [0.0, 6.0, 2.0]) == pytest.approx(2.0 + 4.0 / 3.0)


def test_a_model_that_no_node_has_cannot_be_carried():
    """A mix that asks for what is nowhere has no rate above zero."""
    assert capacity([plain()], [asked(0, 0.0, 1.0), asked(1, 0.0, 1.0, model="absent")]) == 0.0


def test_below_capacity_nothing_piles_up_and_above_it_does():
    """At half the rate all are served soon; at twice the rate the queue grows to the end."""
    machines = fleet()
    best = capacity(machines, traffic(MIX, 5.0, 400.0, 1, bursts=False))
    half, twice = (
        figures(
            simulate(
                Scenario(
                    machines,
                    traffic(MIX, best * load, 200.0, 1, bursts=False),
                    preload=preloaded(machines, ["embed", "small", "medium"]),
                ),
                "",
                1,
            ).calls
        )
        for load in (0.5, 2.0)
    )
    assert half.queue.mean < 6.0
    assert twice.queue.mean > 30.0
