"""What a gateway learns and what teams use is kept, whatever the database does meanwhile."""

import asyncio
from collections import Counter

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.persistence import Persistence, Shelf
from fleet.services.learning import forget
from fleet.snapshot import load_snapshot
from routing.core.learned import Learned, LearnedNode
from routing.core.resuming import Behaviour, Probed
from routing.core.snapshot import FleetSnapshot, NodeSpec
from routing.core.usage import DayUse, Level, Taken, Use
from tests.fleet.conftest import make_node
from tests.fleet.test_recorder import until

LEARNED = Learned(nodes=(LearnedNode(1, 0.5, 3),))
DAYS = (DayUse(1, 738_000, 5, Use(7, 0, 0, 0.0)),)
PROBED = Probed("d" * 64, "llama3.2:3b", "ant", Behaviour.CONTINUE, 1e9)
LEVELS = (Level(1, 2.0, 1e9),)


class FakeGateway:
    """A gateway that remembers; `use` makes a team use something."""

    def __init__(self):
        self.known = Learned()
        self.loaded, self.levels, self.relearned = [], None, []
        self.unsaved = 0
        self.probed = []

    def use(self, requests=1):
        self.unsaved += requests

    def learn(self, learned):
        self.known = learned

    def learned(self):
        return self.known

    def relearn(self, nodes, learned):
        self.relearned.append((list(nodes), learned))

    def load_usage(self, days, levels):
        self.loaded, self.levels = [*self.loaded, *days], levels

    def taken_usage(self):
        requests, self.unsaved = self.unsaved, 0
        return Taken((DayUse(1, 738_000, 5, Use(requests)),) if requests else ())

    def give_back_usage(self, taken):
        self.unsaved += sum(day.use.requests for day in taken.days)

    def taken_prefills(self):
        probed, self.probed = self.probed, []
        return probed

    def give_back_prefills(self, taken):
        self.probed = [*taken, *self.probed]


class FakeShelf:
    """A database in memory, which may be away; `turns` are the next answers of all calls, False for away."""

    def __init__(self, learned=LEARNED, turns=()):
        self.learned, self.turns = learned, list(turns)
        self.away = False
        self.sum = 7
        self.saved, self.calls = [], Counter()
        self.probed = []

    def come(self, call):
        self.calls[call] += 1
        if self.away or (self.turns and not self.turns.pop(0)):
            raise OperationalError("away")

    def load_learned(self, nodes):
        self.come("load_learned")
        return self.learned

    def save_learned(self, learned, relearned):
        self.come("save_learned")
        self.saved.append((learned, dict(relearned)))

    def load_usage(self, today):
        self.come("load_usage")
        return (DayUse(1, 738_000, 5, Use(self.sum, 0, 0, 0.0)),), LEVELS

    def add_usage(self, days, levels):
        self.come("add_usage")
        self.sum += sum(day.use.requests for day in days)

    def save_prefills(self, probed):
        self.come("save_prefills")
        self.probed += probed


def kept(shelf):
    return Shelf(shelf.load_learned, shelf.save_learned, shelf.load_usage, shelf.add_usage, shelf.save_prefills)


def of(*nodes):
    """A snapshot of nodes by id, each with when it is to be learned anew."""
    return FleetSnapshot(1, tuple(NodeSpec(node, f"n{node}", "http://n:1", relearn_at=at) for node, at in nodes))


@pytest.fixture
def gateway():
    return FakeGateway()


async def started(gateway, shelf, snapshot=None, **intervals):
    persistence = Persistence(gateway, kept(shelf), **{"add_s": 0.001} | intervals)
    await persistence.start(snapshot or of())
    return persistence


async def test_a_gateway_starts_with_what_was_kept(gateway):
    """When the start is over the gateway has what was learned and used, levels included."""
    persistence = await started(gateway, FakeShelf())
    assert (gateway.known, gateway.loaded, gateway.levels) == (LEARNED, list(DAYS), LEVELS)
    await persistence.stop()


async def test_use_is_added_all_the_time(gateway):
    """What is used goes to the database without anybody asking."""
    shelf = FakeShelf()
    persistence = await started(gateway, shelf)
    gateway.use()
    await until(lambda: shelf.sum == 8)
    await persistence.stop()


async def test_what_probes_found_is_kept(gateway):
    """A result is written within a moment, and comes again while the database is away."""
    shelf = FakeShelf()
    persistence = await started(gateway, shelf)
    shelf.away = True
    gateway.probed = [PROBED]
    await until(lambda: shelf.calls["save_prefills"] > 2)
    assert shelf.probed == []
    shelf.away = False
    await until(lambda: shelf.probed == [PROBED])
    await persistence.stop()
    assert gateway.probed == []


async def test_nothing_used_asks_nothing(gateway):
    """Where nothing is used the database is left alone."""
    shelf = FakeShelf()
    persistence = await started(gateway, shelf)
    await persistence.stop()
    assert shelf.calls["add_usage"] == 0


async def test_everything_is_written_at_the_stop(gateway):
    """Stopping writes what was used and learned since the last time."""
    shelf = FakeShelf()
    persistence = await started(gateway, shelf, add_s=3600)
    gateway.use(3)
    gateway.known = Learned(nodes=(LearnedNode(1, 0.6, 4),))
    await persistence.stop()
    assert (shelf.sum, shelf.saved) == (10, [(gateway.known, {})])


async def test_what_was_learned_is_saved_by_and_by(gateway):
    """What was learned is saved each time that the interval is over, if something of it is new."""
    shelf = FakeShelf()
    persistence = await started(gateway, shelf, save_s=0.0)
    gateway.known = Learned(nodes=(*LEARNED.nodes, LearnedNode(2, 0.6, 4)))
    await until(lambda: shelf.saved)
    await persistence.stop()
    assert shelf.saved == [(Learned(nodes=(LearnedNode(2, 0.6, 4),)), {})]


async def test_use_outlives_a_database_that_is_away(gateway, caplog):
    """While the database is away what was used stays with the gateway, and is added once when it is back."""
    shelf = FakeShelf()
    persistence = await started(gateway, shelf)
    shelf.away = True
    gateway.use()
    await until(lambda: shelf.calls["add_usage"] > 2)
    gateway.use()
    shelf.away = False
    await until(lambda: shelf.sum == 9)
    await persistence.stop()
    assert (shelf.sum, caplog.text.count("cannot be kept"), caplog.text.count("is back")) == (9, 1, 1)


async def test_a_database_that_comes_late(gateway):
    """Nothing is written before what is kept was read; what was used until then is added after that, once."""
    shelf = FakeShelf()
    shelf.away = True
    persistence = await started(gateway, shelf, save_s=0.0)
    gateway.use(2)
    await until(lambda: shelf.calls["load_learned"] > 2)
    assert (shelf.calls["add_usage"], shelf.calls["save_learned"], gateway.known) == (0, 0, Learned())
    shelf.away = False
    await until(lambda: shelf.sum == 9)
    assert (gateway.known, gateway.loaded, gateway.levels) == (LEARNED, list(DAYS), ())
    await persistence.stop()


async def test_what_is_lost_at_the_stop_is_told(gateway, caplog):
    """A database that is away at the end is told in the log, and the stop ends all the same."""
    shelf = FakeShelf()
    persistence = await started(gateway, shelf)
    shelf.away = True
    gateway.use()
    await persistence.stop()
    assert "is lost" in caplog.text


async def test_stopping_what_never_started(gateway):
    """Stopping before the start does nothing."""
    await Persistence(gateway, kept(FakeShelf())).stop()


async def test_a_node_is_learned_anew(gateway):
    """When a snapshot tells that a node was forgotten or measured, what is kept of it is read again, of it alone."""
    shelf = FakeShelf()
    persistence = await started(gateway, shelf, of((1, 0.0), (2, 5.0)))
    persistence.follow(of((1, 9.0), (2, 5.0), (3, 0.0), (4, 2.0)))
    await until(lambda: gateway.relearned)
    await persistence.stop()
    assert gateway.relearned == [([1, 4], LEARNED)]


async def test_learning_anew_waits_for_the_database(gateway):
    """While the database is away a node stays as it is known, also in what is saved; then it is learned anew once."""
    shelf = FakeShelf()
    persistence = await started(gateway, shelf, of((1, 0.0)), save_s=0.0)
    shelf.away = True
    persistence.follow(of((1, 9.0)))
    await until(lambda: shelf.calls["load_learned"] > 2)
    assert gateway.relearned == []
    shelf.away = False
    await until(lambda: gateway.relearned)
    gateway.known = Learned(nodes=(LearnedNode(1, 0.7, 1),))
    await persistence.stop()
    assert (len(gateway.relearned), shelf.saved[-1]) == (1, (gateway.known, {1: 9.0}))


@pytest.mark.django_db(transaction=True)
async def test_the_real_database(gateway):
    """From the gateway to the tables and back to the next gateway; a node that is forgotten is told to the first."""
    node = await sync_to_async(make_node)("ant")
    snapshot = await sync_to_async(load_snapshot)()
    first, second = Persistence(gateway, add_s=0.001), Persistence(other := FakeGateway(), add_s=0.001)
    await first.start(snapshot)
    gateway.known = Learned(nodes=(LearnedNode(node.pk, 0.5, 3),))
    first._saved_at = float("-inf")
    await until(lambda: first._saved == gateway.known)
    await second.start(snapshot)
    assert other.known == gateway.known
    await sync_to_async(forget)([node])
    first.follow(await sync_to_async(load_snapshot)())
    await until(lambda: gateway.relearned)
    await asyncio.gather(first.stop(), second.stop())
    assert gateway.relearned == [([node.pk], Learned())]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), max_size=25), st.lists(st.integers(1, 5), max_size=8))
def test_no_use_is_lost_or_counted_twice(turns, uses):
    """However often the database is away, in the end it holds exactly what was used."""

    async def life():
        gateway, shelf = FakeGateway(), FakeShelf(turns=turns)
        persistence = await started(gateway, shelf, add_s=0.0)
        for requests in uses:
            gateway.use(requests)
            await asyncio.sleep(0)
        await until(lambda: persistence.loaded)
        shelf.turns.clear()
        await persistence.stop()
        return gateway, shelf

    gateway, shelf = asyncio.run(life())
    assert shelf.sum == 7 + sum(uses)
    assert [day.use.requests for day in gateway.loaded] == [7]
