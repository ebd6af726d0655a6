"""The dashboard's batch jobs: read while somebody looks, told with rate and time left."""

import asyncio
import time
from datetime import timedelta

import pytest
from django.utils import timezone

from fleet.services.batch.board import SHOWN, Reader, read
from fleet.services.feed import Feed
from tests.fleet.test_batch_pages import add_job
from tests.fleet.test_dashboard import SECTIONS, shown  # noqa: F401 (a fixture)


@pytest.mark.django_db
def test_a_job_is_told_with_rate_and_time_left(bees):
    """Four items in ten seconds, or a little more on a slow machine, leave as long for the other four."""
    job = add_job(bees, done=6)
    job.marks = [[time.time() - 10, 2]]
    job.save()
    [told] = read()["jobs"]
    assert (told["team"], told["part"]) == ("Bees", 0.6)
    assert told["rate"] == pytest.approx(0.4, rel=0.3)
    assert told["left_s"] == pytest.approx(4 / told["rate"], abs=1)


@pytest.mark.django_db
def test_an_ended_job_is_told_for_a_while(bees):
    """The one that ended minutes ago is there, the one of yesterday is not."""
    late, old = add_job(bees, "completed", done=10), add_job(bees, "completed", done=10)
    for job, ended in ((late, timedelta(minutes=2)), (old, timedelta(days=1))):
        job.started_at, job.ended_at = timezone.now() - 2 * ended, timezone.now() - ended
        job.save()
    assert [one["pk"] for one in read()["jobs"]] == [late.pk]


@pytest.mark.django_db
def test_many_jobs_are_counted(bees, django_assert_max_num_queries):
    """Beyond a dozen they are a number, and a reading costs three queries however many there are."""
    for _ in range(SHOWN + 3):
        add_job(bees)
    with django_assert_max_num_queries(3):
        board = read()
    assert (len(board["jobs"]), board["more"]) == (SHOWN, 3)


async def until(true):
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.001)


async def test_nothing_is_read_while_nobody_looks(shown):  # noqa: F811 (the fixture)
    """A viewer's picture gets the board when it is read; without viewers no reading goes on."""
    read_at = []

    def board():
        read_at.append(time.monotonic())
        return {"jobs": [], "more": len(read_at)}

    feed = Feed(period_s=0.001, batch=Reader(board, every_s=0.01))
    assert read_at == []
    pictures = feed.pictures()
    await anext(pictures)
    async with asyncio.timeout(10):
        async for text in pictures:
            if '"batch"' in text:
                break
    await until(lambda: len(read_at) >= 3)
    await pictures.aclose()
    await until(feed._batch._reading.done)
    seen = len(read_at)
    await asyncio.sleep(0.1)
    assert len(read_at) == seen


async def test_a_database_that_hangs_delays_no_picture(shown):  # noqa: F811 (as above)
    """The picture comes without the board, and is drawn on and on meanwhile, with one reading under way."""
    gate, readings = asyncio.Event(), []
    loop = asyncio.get_running_loop()

    def hang():
        readings.append(1)
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10)
        raise OSError("the database is away")

    feed = Feed(period_s=0.001, batch=Reader(hang, every_s=0.0))
    pictures = feed.pictures()
    assert '"batch"' not in await anext(pictures)
    drawn = shown.drawn
    await until(lambda: shown.drawn >= drawn + 5)
    assert len(readings) == 1
    gate.set()
    await until(lambda: len(readings) > 1)
    await pictures.aclose()
