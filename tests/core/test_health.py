"""A node's health: what one model does there is held against that model, what the node does against the node."""

from dataclasses import dataclass

from routing.core.breaker import BreakerState
from routing.core.dispatcher import Verdict
from routing.core.health import Health
from routing.core.learner import Metrics
from tests.core.cast import LARGE, MODELS, SMALL, assign, fleet, node, submit, ticket
from tests.core.test_dispatcher import warm


@dataclass(eq=False)
class Attempt:
    weights: str = "a"


def fail(health: Health, weights: str, times: int = 3, *, whole: bool = False) -> list[bool]:
    return [health.failure(Attempt(weights), 0.0, whole=whole) for _ in range(times)]


def test_a_broken_model_is_left_alone_and_the_others_go_on():
    """Three failures of one model open its breaker; the node serves its other models."""
    health = Health()
    assert fail(health, "a") == [False, False, True]
    assert not health.allows("a", 0.5)
    assert health.allows("b", 0.5)
    assert health.opens_at("a", 0.5) == 1.0
    assert health.node.state is BreakerState.CLOSED


def test_a_node_on_which_all_models_fail_is_left_alone():
    """A second failing model tells that it is the node; what follows does not cost three requests for each model."""
    health = Health()
    fail(health, "a")
    assert fail(health, "b", 2) == [False, True]
    assert not health.allows("c", 0.5)


def test_a_connection_that_does_not_come_about_is_the_nodes():
    """It says nothing of the model."""
    health = Health()
    assert fail(health, "a", whole=True) == [False, False, True]
    assert not health.allows("b", 0.5)
    assert not health.models


def test_a_models_probe_decides_for_the_model():
    """After the pause one request for the model is let through, and only its answer closes the breaker."""
    health = Health()
    fail(health, "a")
    probe = Attempt("a")
    health.begin(probe, 1.0)
    assert not health.allows("a", 5.0)
    assert not health.success(Attempt("b"))
    assert not health.allows("a", 5.0)
    assert health.success(probe)
    assert health.allows("a", 5.0)
    assert not health.models


def test_a_probe_of_the_node_that_meets_a_broken_model_closes_nothing():
    """The node stays open, for longer."""
    health = Health()
    fail(health, "a", whole=True)
    probe = Attempt("a")
    health.begin(probe, 1.0)
    assert health.failure(probe, 1.0, whole=False)
    assert health.node.open_until == 3.0


def test_a_probe_that_breaks_off_gives_the_models_place_up():
    """A model's probe that ended with the node's connection decided nothing about the model."""
    health = Health()
    fail(health, "a")
    probe = Attempt("a")
    health.begin(probe, 1.0)
    health.failure(probe, 1.0, whole=True)
    assert health.models["a"].probe is None


def test_any_number_of_failing_models_costs_bounded_memory():
    """A client that names models which fail cannot fill it."""
    health = Health()
    for number in range(1000):
        health.failure(Attempt(str(number)), 0.0, whole=False)
    assert len(health.models) <= 200


def pair():
    """Two nodes that have both models loaded."""
    dispatcher = fleet(node(1, "ant", SMALL, LARGE, slots=4), node(2, "bee", SMALL, LARGE, slots=4))
    warm(dispatcher, 1, SMALL, LARGE)
    warm(dispatcher, 2, SMALL, LARGE)
    return dispatcher


def run(dispatcher, name, now, verdict, metrics=None):
    """One request, ended by a verdict; the name of the node that had it."""
    made = ticket(now, name=name)
    lease = dispatcher.submit(made, now)
    dispatcher.grant(lease)
    dispatcher.release(lease, verdict, now + (0.0 if metrics is None else 2.0), metrics)
    dispatcher.end(made, now)
    return lease.node.spec.name


def test_requests_for_a_model_go_around_the_node_where_it_fails():
    """And requests for its other models still go there."""
    dispatcher = pair()
    fail(dispatcher.nodes[1].health, MODELS[SMALL].digest)
    dispatcher.nodes[1].touch()
    assert {run(dispatcher, SMALL, 0.1, Verdict.NEUTRAL) for _ in range(8)} == {"bee"}
    assert {run(dispatcher, LARGE, 0.1, Verdict.NEUTRAL) for _ in range(8)} == {"ant", "bee"}
    assert dispatcher.rejected_nodes(ticket(), 0.1) == {"ant": "breaker_allows"}


def learned(dispatcher, now=0.0):
    """Both nodes are known to take 10 ms a token."""
    for _ in range(40):
        run(dispatcher, SMALL, now, Verdict.SUCCESS, Metrics(100, 200, 0.2, 2.0, 0.0, 2.2))


def test_answers_faster_than_the_model_can_work_are_failures():
    """A node that answers at once with nothing would otherwise draw all requests: it is soon left alone."""
    dispatcher = pair()
    learned(dispatcher)
    black = dispatcher.nodes[1]
    had = 0
    for second in range(1, 60):
        made = submit(dispatcher, second)
        assign(dispatcher, second)
        lease = made.lease
        if lease.node is black:
            had += 1
            dispatcher.release(lease, Verdict.SUCCESS, second + 0.001, Metrics(100, 0, 0.0, 0.0, 0.0, 0.0))
        else:
            dispatcher.release(lease, Verdict.SUCCESS, second + 2.0, Metrics(100, 200, 0.2, 2.0, 0.0, 2.2))
        dispatcher.end(made, second + 2.0)
    assert 1 <= had <= 5
    assert black.failures == had


def test_a_short_answer_is_no_failure():
    """One word takes as long as its token, and less than a second."""
    dispatcher = pair()
    learned(dispatcher)
    for second in range(1, 20):
        made = submit(dispatcher, second)
        assign(dispatcher, second)
        dispatcher.release(made.lease, Verdict.SUCCESS, second + 0.05, Metrics(100, 1, 0.04, 0.01, 0.0, 0.05))
        dispatcher.end(made, second + 0.05)
    assert all(not state.failures for state in dispatcher.nodes.values())


def test_three_doubtful_ends_in_a_row_open_the_models_breaker():
    """One or two tell nothing, and a good answer in between starts the count anew; the node goes on with others."""
    health = Health()
    assert [health.doubtful(Attempt("a"), 0.0) for _ in range(2)] == [False, False]
    health.success(Attempt("a"))
    assert [health.doubtful(Attempt("a"), 0.0) for _ in range(3)] == [False, False, True]
    assert not health.allows("a", 0.5)
    assert health.allows("b", 0.5)


def test_doubtful_ends_of_several_models_are_counted_apart():
    """Each model ends for itself."""
    health = Health()
    assert [health.doubtful(Attempt(weights), 0.0) for weights in "abcabdc"] == [False] * 7
    assert health.doubtful(Attempt("c"), 0.0)


def test_a_doubtful_probe_opens_the_breaker_again():
    """What was doubtful is still so, and the pause is longer."""
    health = Health()
    for _ in range(3):
        health.doubtful(Attempt("a"), 0.0)
    probe = Attempt("a")
    health.begin(probe, 1.0)
    health.answered(probe)
    assert health.doubtful(probe, 1.5)
    assert not health.allows("a", 3.4)
    assert health.allows("a", 3.5)


def test_other_models_do_not_have_a_broken_answer_forgiven():
    """What breaks off in the middle is held against the model, too, or a node's embeddings would hide it for ever."""
    health = Health()
    for _ in range(3):
        health.failure(Attempt("chat"), 0.0, whole=True, sent=True)
        health.success(Attempt("embedder"))
    assert not health.allows("chat", 0.5)
    assert health.allows("embedder", 0.5)
