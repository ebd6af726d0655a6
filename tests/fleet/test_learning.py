"""What gateways have learned outlives them, and is forgotten when operators say so."""

import math
from datetime import timedelta

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.models import LearnedLength, LearnedNode, LearnedSpeed, LearnedText, Node
from fleet.services.learning import compact, forget, learn, load_learned, save_learned
from routing.core import learned as core
from routing.core.learned import Learned
from tests.fleet.conftest import add_speed, make_node

pytestmark = pytest.mark.django_db


def speed(node, weights="a" * 64, **values):
    facts = {"prompt_s": 0.001, "prompt_seen": 3, "output_s": 0.02, "output_seen": 4, "load_s": 2.5, "load_seen": 1}
    return core.LearnedSpeed(node.pk, weights, **{"model": "m"} | facts | values)


def everything(node):
    return Learned(
        (speed(node), speed(node, "b" * 64, output_seen=0)),
        (core.LearnedNode(node.pk, 0.6, 7),),
        (core.LearnedLength("chat", "m", 250.5, 2, (200, 301)),),
        (core.LearnedText("m", 4.2, 9),),
    )


def test_there_and_back(ant):
    """What is saved is what is loaded."""
    learned = everything(ant)
    save_learned(learned, {})
    assert load_learned() == learned


def test_saving_again_overwrites(ant):
    """A row is there once, with its newest values and the time of the change."""
    save_learned(everything(ant), {})
    LearnedSpeed.objects.update(updated_at=timezone.now() - timedelta(days=1))
    save_learned(Learned(speeds=(speed(ant, output_s=0.5, output_seen=5),)), {})
    row = LearnedSpeed.objects.get(weights="a" * 64)
    assert (row.output_s, row.output_seen, LearnedSpeed.objects.count()) == (0.5, 5, 2)
    assert timezone.now() - row.updated_at < timedelta(minutes=1)


def test_two_nodes_learn_of_one_model_each(ant, bee):
    """Weights belong to a node: what two nodes make of one model are two rows."""
    save_learned(Learned((speed(ant), speed(bee, output_s=0.1))), {})
    assert [row.output_s for row in load_learned().speeds] == [0.02, 0.1]


def test_part_of_the_nodes(ant, bee):
    """What is kept by node can be loaded of some nodes alone."""
    save_learned(Learned((speed(ant), speed(bee)), (core.LearnedNode(bee.pk, 0.5, 1),)), {})
    found = load_learned([ant.pk])
    assert ([row.node_id for row in found.speeds], found.nodes) == ([ant.pk], ())


def test_nodes_that_are_gone(ant, bee):
    """What is told of a node that was deleted meanwhile is left out, and harms nothing else."""
    learned = Learned((speed(ant), speed(bee)), (core.LearnedNode(bee.pk, 0.5, 1),))
    bee.delete()
    save_learned(learned, {})
    assert (load_learned().speeds, load_learned().nodes) == ((speed(ant),), ())


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_what_cannot_be_is_not_kept(ant, value):
    """A value that no clock can have told is left out alone."""
    bad = Learned(
        (speed(ant, output_s=value), speed(ant, "b" * 64)),
        (core.LearnedNode(ant.pk, value, 1),),
        (core.LearnedLength("chat", "m", value or -0.5, 1),),
        (core.LearnedText("m", value, 1),),
    )
    save_learned(bad, {})
    assert load_learned() == Learned((speed(ant, "b" * 64),))


def test_bad_rows_are_skipped(ant):
    """A row that something else has spoilt is not loaded."""
    add_speed(ant, 1, prompt_seen=2**63 - 1)
    add_speed(ant, 2, load_s=math.inf)
    LearnedLength.objects.create(task="chat", model="m", mean=1, last={"odd": 1}, updated_at=timezone.now())
    found = load_learned()
    assert [row.weights for row in found.speeds] == [f"{1:064}"]
    assert found.lengths == (core.LearnedLength("chat", "m", 1, 0),)


def test_odd_texts_are_kept_as_far_as_they_go(ant):
    """Names that a database does not take are cut and cleaned."""
    odd = "x" * 999 + "\0"
    save_learned(Learned((speed(ant, odd, model=odd),), (), (core.LearnedLength("chat", odd, 1, 1),)), {})
    assert len(LearnedSpeed.objects.get().weights) == 640
    assert len(LearnedLength.objects.get().model) == 600


def test_few_statements(ant, django_assert_max_num_queries):
    """However many rows are saved, they are a few statements; loading is four queries."""
    many = Learned(tuple(speed(ant, f"{number:064}") for number in range(1200)))
    with django_assert_max_num_queries(12):
        save_learned(many, {})
    with django_assert_max_num_queries(4):
        assert load_learned() == many


def test_forgetting(ant, bee):
    """What was learned of the chosen nodes goes, of others it stays, and of models too."""
    save_learned(everything(ant), {})
    save_learned(everything(bee), {})
    assert forget([ant]) == 1
    found = load_learned()
    assert {row.node_id for row in (*found.speeds, *found.nodes)} == {bee.pk}
    assert (len(found.lengths), len(found.texts)) == (1, 1)


def test_what_a_gateway_knew_before_does_not_come_back(ant, bee):
    """A gateway that has not heard yet that a node was forgotten does not write what it knew of it."""
    forget([ant])
    save_learned(Learned((speed(ant), speed(bee)), (core.LearnedNode(ant.pk, 0.5, 1),)), {})
    assert (load_learned().speeds, load_learned().nodes) == ((speed(bee),), ())
    moment = Node.objects.get(pk=ant.pk).relearn_at.timestamp()
    save_learned(Learned((speed(ant),)), {ant.pk: moment})
    assert len(load_learned().speeds) == 2


def test_a_measurement_replaces_what_was_known(ant, bee):
    """What was measured stands instead of what was learned, of the models measured; gateways are told."""
    add_speed(ant, 1)
    add_speed(ant, 2)
    learn(ant, [speed(ant, f"{1:064}", output_s=0.5)])
    assert [row.output_s for row in load_learned().speeds] == [0.5, 0.02]
    ant.refresh_from_db()
    bee.refresh_from_db()
    assert (ant.relearn_at is None, bee.relearn_at) == (False, None)


def test_measuring_a_node_that_is_gone(ant):
    """A node that was deleted while it was measured leaves nothing."""
    rows = [speed(ant)]
    gone = Node(pk=ant.pk)
    ant.delete()
    learn(gone, rows)
    assert not LearnedSpeed.objects.exists()


def test_what_nobody_uses_goes(ant):
    """What has not changed for many days is deleted."""
    save_learned(everything(ant), {})
    for rows in (LearnedSpeed, LearnedNode, LearnedLength, LearnedText):
        rows.objects.update(updated_at=timezone.now() - timedelta(days=31))
    save_learned(Learned((speed(ant),)), {})
    assert (compact(30), load_learned()) == (4, Learned((speed(ant),)))


POSITIVE = st.floats(1e-6, 1e6)
SEEN = st.integers(0, 2**40)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abc"), POSITIVE, SEEN), max_size=12),
    st.lists(st.tuples(st.sampled_from(["chat", "analysis"]), st.sampled_from("mn"), SEEN), max_size=6),
)
def test_the_last_word_counts(ant, bee, cat, speeds, lengths):
    """Whatever is written in whatever order, of each key the last is what is there."""
    LearnedSpeed.objects.all().delete()
    LearnedLength.objects.all().delete()
    nodes = (ant, bee, cat)
    expected = {}
    for place, weights, seconds, seen in speeds:
        row = speed(nodes[place], weights, output_s=seconds, output_seen=seen)
        expected[row.node_id, row.weights] = row
        save_learned(Learned((row,)), {})
    for task, model, seen in lengths:
        row = core.LearnedLength(task, model, float(seen), seen, (seen % 100,))
        expected[task, model] = row
        save_learned(Learned(lengths=(row,)), {})
    found = load_learned()
    assert {*found.speeds, *found.lengths} == set(expected.values())


def test_a_new_node_starts_with_nothing():
    """A node of which nothing was ever learned loads as nothing."""
    assert load_learned([make_node("dog").pk]) == Learned()
