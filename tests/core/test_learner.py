"""The learner: priors by class, corrected by what answers report."""

import pytest

from routing.core.learner import Learner, LogMean, Metrics, prior, slowdown
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
        learner.learn(speeds, request(), Metrics(100, 100, 0.1, 1.0 * slowdown("gpu", 4), 0.0, 1.1), "gpu", 4.0)
    assert speeds.output.value == pytest.approx(0.01, rel=0.05)


def test_answer_lengths_are_learned_and_bounded_by_the_client():
    """The expected length follows what was seen, and never exceeds what the client allows."""
    learner, asked = Learner(), request()
    speeds = learner.of(node(1, "ant"), "w", None)
    for _ in range(30):
        learner.learn(speeds, asked, Metrics(10, 40, 0.1, 0.4), "gpu", 1.0)
    assert learner.answer_tokens(asked) == pytest.approx(40, rel=0.05)
    asked.max_tokens = 7
    assert learner.answer_tokens(asked) == 7
