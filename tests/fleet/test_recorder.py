"""The recorder loses nothing but what it counts."""

import asyncio
import math

import pytest
from django.db import OperationalError

from fleet.models import NodeEvent, RequestRecord
from fleet.recorder import DatabaseRecorder
from fleet.services.recording import DatabaseStore
from routing.core import records
from routing.core.decisions import Decision


def ended(number, **columns):
    facts = {
        "request_id": f"r{number}",
        "started_at": 1_700_000_000.0,
        "route": "/api/chat",
        "model": "llama3",
        "task_type": "chat",
        "complexity": "simple",
        "priority": 5,
        "stream": True,
        "outcome": records.Outcome.SERVED,
        "status": 200,
    }
    return records.RequestRecord(**facts | columns)


class Shelf:
    """A store in memory that can be away."""

    def __init__(self, away=0):
        self.away = away
        self.batches = []

    def __call__(self, batch):
        if self.away:
            self.away -= 1
            raise OperationalError("away")
        self.batches.append([row.request_id for row in batch])
        return len(batch)

    @property
    def rows(self):
        return [row for batch in self.batches for row in batch]


async def until(fact):
    async with asyncio.timeout(5):
        while not fact():
            await asyncio.sleep(0.001)


async def test_a_full_buffer_drops_and_counts():
    """Rows beyond the bound are dropped, counted, and nothing is raised."""
    recorder = DatabaseRecorder(bound=2, store=Shelf())
    for number in range(5):
        recorder.request(ended(number))
    assert (recorder.pending, recorder.dropped) == (2, 3)


async def test_written_after_the_interval():
    """What waits is written without anybody asking."""
    shelf = Shelf()
    recorder = DatabaseRecorder(store=shelf, interval_s=0.001)
    await recorder.start()
    recorder.request(ended(1))
    await until(lambda: recorder.written == 1)
    await recorder.stop()
    assert shelf.rows == ["r1"]


async def test_many_rows_do_not_wait():
    """Five hundred waiting rows are written at once, not at the next interval."""
    shelf = Shelf()
    recorder = DatabaseRecorder(store=shelf, interval_s=3600)
    await recorder.start()
    for number in range(500):
        recorder.request(ended(number))
    await until(lambda: recorder.written == 500)
    await recorder.stop()


async def test_rows_outlive_a_database_that_is_away():
    """While the database is away rows are kept, in order, and written when it is back."""
    shelf = Shelf(away=3)
    recorder = DatabaseRecorder(store=shelf, interval_s=0.001)
    await recorder.start()
    for number in range(3):
        recorder.request(ended(number))
    await until(lambda: recorder.written == 3)
    await recorder.stop()
    assert (shelf.rows, recorder.dropped) == (["r0", "r1", "r2"], 0)


async def test_flushed_at_stop():
    """Stopping writes what waits."""
    shelf = Shelf()
    recorder = DatabaseRecorder(store=shelf, interval_s=3600)
    await recorder.start()
    for number in range(1200):
        recorder.request(ended(number))
    await recorder.stop()
    assert (len(shelf.rows), recorder.pending) == (1200, 0)


async def test_lost_at_stop_is_counted():
    """What the database does not take at the end is counted as dropped."""
    recorder = DatabaseRecorder(store=Shelf(away=99), interval_s=3600)
    await recorder.start()
    recorder.request(ended(1))
    await recorder.stop()
    assert (recorder.dropped, recorder.pending) == (1, 0)


@pytest.mark.django_db
def test_rows_carry_names(ant, bees):
    """A stored request knows its team and node by id and by name; its times and tokens are those recorded."""
    record = ended(
        1, team_id=bees.pk, node_id=ant.pk, prompt_tokens=7, total_ms=12.5, decision=Decision("least_cost", node="ant")
    )
    assert DatabaseStore()([record, records.NodeEvent(ant.pk, 1_700_000_000.0, "up")]) == 2
    row = RequestRecord.objects.get()
    assert (row.team, row.team_name, row.node, row.node_name) == (bees, "Bees", ant, "ant")
    assert (row.prompt_tokens, row.total_ms, row.decision["node"], row.started_at.timestamp()) == (
        7,
        12.5,
        "ant",
        1.7e9,
    )
    assert NodeEvent.objects.get().node_name == "ant"


@pytest.mark.django_db
def test_names_outlive_their_rows(ant, bees):
    """History keeps the names of a node and a team that were deleted, before or after it was written."""
    store = DatabaseStore()
    store([ended(1, team_id=bees.pk, node_id=ant.pk)])
    ids = {"team_id": bees.pk, "node_id": ant.pk}
    bees.delete()
    ant.delete()
    store([ended(2, **ids)])
    rows = RequestRecord.objects.values_list("team", "team_name", "node", "node_name")
    assert set(rows) == {(None, "Bees", None, "ant")}


@pytest.mark.django_db
def test_a_bad_row_harms_nobody_else():
    """A row that cannot be stored is dropped alone."""
    batch = [ended(1), ended(2, status=None), ended(3, started_at=math.inf), ended(4, prompt_tokens=2**70), ended(5)]
    batch += [ended(6, decision=Decision("odd", rejected={"what": object()})), ended(7, outcome="vanished")]
    assert DatabaseStore()(batch) == 2
    assert set(RequestRecord.objects.values_list("request_id", flat=True)) == {"r1", "r5"}


@pytest.mark.django_db
def test_long_texts_are_cut():
    """A client's odd model name is cut and cleaned, not lost."""
    DatabaseStore()([ended(1, model="x" * 5000, error="nul\0 and half a pair \ud800")])
    row = RequestRecord.objects.get()
    assert (len(row.model), row.error) == (255, "nul and half a pair ?")


@pytest.mark.django_db
def test_written_once():
    """A batch that is written again because the answer was lost leaves one row each."""
    store = DatabaseStore()
    assert store([ended(1)]) == 1
    assert store([ended(1), ended(2)]) == 2
    assert RequestRecord.objects.count() == 2


@pytest.mark.django_db(transaction=True)
async def test_the_real_store():
    """From the event loop to the table and back."""
    recorder = DatabaseRecorder(interval_s=3600)
    await recorder.start()
    recorder.request(ended(1))
    await recorder.stop()
    assert (recorder.written, await RequestRecord.objects.acount()) == (1, 1)


@pytest.mark.django_db
def test_an_id_that_was_there_already_loses_nothing():
    """A client may choose the id of an older request; both are kept, and a row told twice is one."""
    store = DatabaseStore()
    first, again = ended(1), ended(1, started_at=1_700_000_100.0, model="other")
    assert [store([row]) for row in (first, first, again)] == [1, 1, 1]
    rows = RequestRecord.objects.order_by("started_at").values_list("request_id", "model")
    assert [(name[:2], model) for name, model in rows] == [("r1", "llama3"), ("r1", "other")]
