"""The learner: priors by class, corrected by what answers report."""

import pytest

from routing.core.concurrency import slowdown
from routing.core.learner import Learner, Lengths, LogMean, Metrics, prior
from tests.core.cast import GIB, MODELS, SMALL, node, request


def test_a_faster_class_is_expected_to_be_faster():
    """More memory means a larger card; a CPU is slower than any."""
    large, small, cpu = (
        prior(spec, MODELS[SMALL])
        for spec in (
            node(1, "ant", vram_bytes=24 * GIB),
            node(2, "bee", vram_bytes=8 * GIB),
            node(3, "cat", node_class="cpu"),
        )
    )
    for speed in ("prompt", "output"):
        assert getattr(large, speed).value < getattr(small, speed).value < getattr(cpu, speed).value


def test_a_wrong_prior_is_forgotten_within_a_few_answers():
    """Ten times wrong at first, within a fifth after five answers."""
    mean = LogMean(1.0)
    for _ in range(5):
        mean.take(0.1)
    assert mean.value == pytest.approx(0.1, rel=0.2)


def test_a_hiccup_does_not_spoil_an_estimate():
    """One observation, however odd, moves a settled estimate by a third at most."""
    mean = LogMean(0.1)
    for _ in range(20):
        mean.take(0.1)
    mean.take(1000.0)
    assert mean.value < 0.14


def test_speeds_are_learned_as_if_alone():
    """What ran beside a request explains a part of its time."""
    learner, spec = Learner(), node(1, "ant")
    speeds = learner.of(spec, "w", MODELS[SMALL])
    for _ in range(30):
        told = Metrics(100, 100, 0.1, 1.0 * slowdown(0.65, 4), 0.0, 1.1)
        learner.learn(spec, speeds, request(), told, 0.0, (1.0, 1.0 / slowdown(0.65, 4)), 4.0)
    assert speeds.output.value == pytest.approx(0.01, rel=0.05)


def test_answer_lengths_are_learned_and_bounded_by_the_client():
    """The expected length follows what was seen, and never exceeds what the client allows."""
    learner, asked = Learner(), request()
    spec = node(1, "ant")
    speeds = learner.of(spec, "w", None)
    for _ in range(200):
        learner.learn(spec, speeds, asked, Metrics(10, 40, 0.1, 0.4), 0.0)
    assert learner.expectation(asked).output == pytest.approx(40, rel=0.1)
    asked.max_tokens = 7
    assert learner.expectation(asked).output == 7


def test_a_long_answer_is_expected_to_go_on():
    """Of answers that are mostly short, one that is long already has more left than one that has just begun."""
    lengths = Lengths(100.0)
    for tokens in [10] * 40 + [1000] * 40:
        lengths.take(tokens)
    assert lengths.left(500) > 400
    assert lengths.left(20) > lengths.left(0)


def test_how_a_node_takes_many_at_once_is_learned():
    """Answers that take longer beside others than expected lower the exponent, and leave the speed alone."""
    learner, spec = Learner(), node(1, "ant")
    speeds = learner.of(spec, "w", MODELS[SMALL])
    for turn in range(4000):
        running = (1, 2, 4, 8)[turn % 4]
        told = Metrics(100, 100, 0.1, slowdown(0.4, running), 0.0, 1.1)
        share = 1.0 / slowdown(learner.pace(spec).alpha, running)
        learner.learn(spec, speeds, request(), told, turn * 300.0, (1.0, share), float(running))
    assert learner.pace(spec).alpha == pytest.approx(0.4, abs=0.05)
    assert speeds.output.value == pytest.approx(0.01, rel=0.15)


def test_a_brown_out_shows_on_all_models_and_fades():
    """What one model suffers, the others of the node are expected to suffer, for a while."""
    learner, spec = Learner(), node(1, "ant")
    speeds = learner.of(spec, "w", MODELS[SMALL])
    for _ in range(30):
        learner.learn(spec, speeds, request(), Metrics(100, 100, 0.1, 1.0), 0.0)
    for _ in range(6):
        learner.learn(spec, speeds, request(), Metrics(100, 100, 0.1, 2.5), 1.0)
    assert learner.pace(spec).slower(1.0) > 0.4
    assert learner.pace(spec).slower(300.0) < 0.02


def test_what_was_learned_outlives_a_restart():
    """A learner that reads what another has kept expects the same."""
    learner, spec = Learner(), node(1, "ant")
    speeds = learner.of(spec, "w", MODELS[SMALL])
    for _ in range(20):
        learner.learn(spec, speeds, request(), Metrics(200, 40, 0.1, 0.4), 0.0, (1.0, 0.8), 2.0)
    other = Learner()
    other.take(learner.learned())
    assert other.learned() == learner.learned()
    assert other.expectation(request()).output == learner.expectation(request()).output
    assert other.prompt_tokens(request()) == learner.prompt_tokens(request()) > 100
    learner.forget([1])
    assert learner.learned().speeds == ()
