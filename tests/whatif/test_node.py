"""One simulated node, fact by fact as Ollama is known to behave."""

import pytest

from routing.whatif.work import Work
from tests.whatif.cast import Watched, plain


def take(watched, owner, seconds=1.0, model="m", at=0.0, **more):
    work = Work(owner, watched.node.machine.models[model], 0.0, seconds - 0.015, **more)
    watched.timeline.at(at, watched.node.take, work)
    return work


def ends(watched, until=1000.0):
    return {owner: moment for moment, owner, word in watched.until(until) if word == "done"}


def test_a_request_takes_its_time():
    """Work of a second on a loaded model is done after a second."""
    watched = Watched(plain())
    watched.node.preload("m")
    take(watched, "bo")
    assert watched.until(10.0) == [(0.015, "bo", "first"), (1.0, "bo", "done")]


def test_slots_are_of_a_runner():
    """Of three requests for a model with two slots one waits, and one for another model does not."""
    watched = Watched(plain(slots=2, names=("m", "n")))
    watched.node.preload("m")
    watched.node.preload("n")
    for owner in ("a", "b", "c"):
        take(watched, owner)
    take(watched, "d", model="n")
    assert ends(watched) == pytest.approx({"a": 1.0, "b": 1.0, "d": 1.0, "c": 2.0}, abs=0.05)


def test_many_at_once_are_slower_each():
    """With k at work each has k ** (alpha - 1) of its speed: four of a second take 4 ** 0.5 seconds at alpha 0.5."""
    watched = Watched(plain(slots=4, alpha=0.5))
    watched.node.preload("m")
    for owner in range(4):
        take(watched, owner)
    assert list(ends(watched).values()) == pytest.approx([2.0] * 4, rel=0.03)


def test_a_load_comes_first_and_is_told():
    """The first request waits for its model; that is the load time it reports."""
    watched = Watched(plain())
    work = take(watched, "bo")
    end = ends(watched)["bo"]
    assert work.load_s == pytest.approx(2.0, rel=0.5)
    assert end == pytest.approx(1.0 + work.load_s, abs=0.01)
    assert watched.node.loads == 1


def test_one_load_at_a_time():
    """Two models that both fit are loaded one after the other."""
    watched = Watched(plain(names=("m", "n"), load_s=10.0))
    first, second = take(watched, "bo", model="m"), take(watched, "cy", model="n")
    ends(watched)
    assert second.load_s > first.load_s + 5.0


def test_the_idle_runner_used_longest_ago_goes():
    """Where memory is short the runner that was idle longest makes room; the one used last stays."""
    watched = Watched(plain(names=("m", "n", "o")))
    take(watched, "a", model="m")
    take(watched, "b", model="n", at=20.0)
    take(watched, "c", model="o", at=40.0)
    ends(watched, 60.0)
    assert [model.key for model in watched.node.loaded()] == ["n", "o"]
    assert watched.node.evictions == 1


def test_a_busy_runner_is_drained_first():
    """Without an idle one a busy runner ends its work before it makes room, and takes no more."""
    watched = Watched(plain(names=("m", "n"), memory=4.0))
    watched.node.preload("m")
    take(watched, "long", seconds=30.0)
    take(watched, "other", model="n", at=1.0)
    take(watched, "late", at=2.0)
    end = ends(watched)
    assert end["long"] == pytest.approx(30.0, abs=0.01)
    assert 31.0 < end["other"] < end["late"]
    assert watched.node.loads == 2


def test_loaded_models_pass_who_waits_for_a_load():
    """A request for a loaded model does not stand in line behind a load."""
    watched = Watched(plain(names=("m", "n"), load_s=20.0))
    watched.node.preload("m")
    take(watched, "loads", model="n")
    take(watched, "passes", at=0.1)
    end = ends(watched)
    assert end["passes"] == pytest.approx(1.1, abs=0.01)
    assert end["loads"] > 10.0


def test_models_go_when_they_were_idle_for_long():
    """A runner that nobody used for its keep-alive is no longer listed."""
    watched = Watched(plain(keep_alive_s=60.0))
    take(watched, "bo")
    ends(watched, 50.0)
    assert [model.key for model in watched.node.loaded()] == ["m"]
    ends(watched, 90.0)
    assert watched.node.loaded() == []


def test_a_crash_loses_everything():
    """Whoever was on the node hears that the connection broke; afterwards it is empty and can be used."""
    watched = Watched(plain())
    watched.node.preload("m")
    take(watched, "runs", seconds=5.0)
    take(watched, "waits")
    watched.timeline.at(1.0, watched.node.crash)
    take(watched, "comes", at=2.0)
    assert [said for said in watched.until(3.0) if said[2] == "lost"] == [
        (1.0, "runs", "lost"),
        (1.0, "waits", "lost"),
        (2.0, "comes", "lost"),
    ]
    watched.node.recover()
    take(watched, "again", at=3.0)
    assert "again" in ends(watched)
    assert watched.node.loads == 1


def test_a_load_that_a_crash_cuts_never_ends():
    """What was being loaded when the node died is not in memory when it is back."""
    watched = Watched(plain(load_s=10.0))
    take(watched, "bo")
    watched.timeline.at(1.0, watched.node.crash)
    watched.timeline.at(2.0, watched.node.recover)
    watched.until(30.0)
    assert watched.node.loaded() == []


def test_a_brown_out_slows_what_runs():
    """At half its speed the rest of the work takes twice as long."""
    watched = Watched(plain())
    watched.node.preload("m")
    take(watched, "bo", seconds=2.0)
    watched.timeline.at(1.0, watched.node.slow, 0.5)
    assert ends(watched)["bo"] == pytest.approx(3.0, abs=0.01)


def test_a_client_that_leaves_frees_its_slot():
    """The next in line starts when a client has gone, running or waiting."""
    watched = Watched(plain())
    watched.node.preload("m")
    runs, waits = take(watched, "runs", seconds=50.0), take(watched, "waits")
    take(watched, "last")
    watched.timeline.at(1.0, watched.node.drop, waits)
    watched.timeline.at(5.0, watched.node.drop, runs)
    assert ends(watched) == {"last": pytest.approx(6.0, abs=0.01)}


def test_a_full_node_says_so():
    """More waiting requests than the node takes are refused."""
    watched = Watched(plain(most_queued=1))
    watched.node.preload("m")
    for owner in ("runs", "waits", "refused"):
        take(watched, owner)
    assert (0.0, "refused", "full") in watched.until(0.5)


def test_an_error_comes_instead_of_an_answer():
    """Work that is to fail does so once its prompt is read, and frees the slot."""
    watched = Watched(plain())
    watched.node.preload("m")
    take(watched, "bo", fails=True)
    assert watched.until(1.0) == [(0.015, "bo", "error")]
    assert not watched.node.running
