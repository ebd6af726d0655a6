"""Requests that are drawn."""

import pytest

from routing.whatif.faults import Pattern, faults
from routing.whatif.traffic import traffic
from tests.whatif.cast import MIX


@pytest.mark.parametrize("bursts", [True, False])
def test_the_rate_is_what_was_asked_for(bursts):
    """On average as many requests come as the rate says, in order, numbered, within the horizon."""
    drawn = traffic(MIX, 5.0, 2000.0, 2, bursts=bursts)
    assert len(drawn) == pytest.approx(10_000, rel=0.1)
    assert [one.number for one in drawn] == list(range(len(drawn)))
    assert sorted(one.at for one in drawn) == [one.at for one in drawn]


def test_bursts_are_denser_than_chance():
    """The number of arrivals in ten seconds varies more than that of a Poisson process."""

    def dispersion(bursts):
        counts = [0] * 300
        for one in traffic(MIX, 5.0, 3000.0, 2, bursts=bursts):
            counts[int(one.at / 10)] += 1
        mean = sum(counts) / len(counts)
        return sum((count - mean) ** 2 for count in counts) / len(counts) / mean

    assert dispersion(bursts=False) < 1.5
    assert dispersion(bursts=True) > 3.0


def test_lengths_have_their_medians():
    """Half of the prompts are longer than the median of their kind."""
    chats = [one for one in traffic(MIX, 5.0, 2000.0, 2) if one.profile.priority == 8]
    longer = sum(one.profile.prompt_tokens > 300 for one in chats) / len(chats)
    assert longer == pytest.approx(0.5, abs=0.05)


def test_faults_are_a_nodes_own():
    """A seed gives a node the same faults each time, and another node others; without a pattern there are none."""
    pattern = Pattern(crash_every_s=100.0, slow_every_s=100.0)
    assert faults(pattern, 1, 900.0, 5) == faults(pattern, 1, 900.0, 5) != faults(pattern, 2, 900.0, 5)
    assert all(fault.at < fault.until for fault in faults(pattern, 1, 900.0, 5))
    assert faults(Pattern(), 1, 900.0, 5) == []
