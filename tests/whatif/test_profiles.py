"""Machines out of what a gateway has learned."""

from routing.core.learned import Learned, LearnedNode, LearnedSpeed
from routing.core.snapshot import FleetSnapshot
from routing.whatif.profiles import grounds, machines_of
from tests.core.cast import EMBED, LARGE, SMALL, node


def fleet():
    ant = node(1, "ant", SMALL, EMBED, slots=4, vram_bytes=8 << 30)
    return FleetSnapshot(1, (ant, node(2, "bee", LARGE, vram_bytes=16 << 30), node(3, "cat", enabled=False)))


def learned(seen=5):
    speed = LearnedSpeed(1, f"digest of {SMALL}", SMALL, 0.001, seen, 0.02, seen, 3.0, seen)
    return Learned((speed,), (LearnedNode(1, 0.5, seen), LearnedNode(2, 0.9, 1)))


def by_name(machine):
    return {runnable.weights.removeprefix("digest of "): runnable for runnable in machine.models.values()}


def test_measured_speeds_are_taken():
    """What was learned of a model on a node is how it runs in the model."""
    small = by_name(machines_of(fleet(), learned())[0])[SMALL]
    assert (small.prompt_s, small.output_s, small.load_s, small.slots) == (0.001, 0.02, 3.0, 4)


def test_unmeasured_speeds_are_guessed():
    """A model that never ran has the prior of its node's class, and embedding models one slot."""
    ant = machines_of(fleet(), learned())[0]
    embed = by_name(ant)[EMBED]
    assert embed.output_s > 0.0
    assert embed.slots == 1


def test_alpha_counts_once_it_was_measured():
    """One observation does not make an exponent; several do."""
    ant, bee = machines_of(fleet(), learned())
    assert (ant.alpha, bee.alpha) == (0.5, 0.65)


def test_a_model_larger_than_its_node_takes_all_of_it():
    """What Ollama would put on the processor in part still runs, alone."""
    bee = machines_of(fleet(), learned())[1]
    assert by_name(bee)[LARGE].memory == bee.memory == float(16 << 30)


def test_disabled_nodes_are_no_machines():
    """Nodes that the operator does not use are not part of the model, nor of what it stands on."""
    assert [machine.spec.name for machine in machines_of(fleet(), Learned())] == ["ant", "bee"]
    assert grounds(fleet(), learned()) == (3, 1)
    assert grounds(fleet(), Learned()) == (3, 0)
