"""The history added up by hour and day."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from fleet.models import RequestRecord, Rollup, RollupMark
from fleet.services import rollups
from fleet.tasks import history
from tests.fleet.conftest import add_event, add_request

NOON = datetime(2026, 5, 4, 12, 10, tzinfo=UTC)


def settle():
    """Everything that is stored by now is added up."""
    RollupMark.objects.update(seen_at=None)
    rollups.roll_up()
    RollupMark.objects.update(seen_at=timezone.now() - timedelta(seconds=rollups.SETTLED_S))
    return rollups.roll_up()


def sums(**chosen):
    return list(Rollup.objects.filter(**chosen).order_by("begins", "team_name").values_list("begins", "requests"))


@pytest.mark.django_db
def test_by_hour_and_by_day():
    """Requests are in the hour and on the day in which they came, whenever they ended."""
    for number, minutes in enumerate((0, 20, 55, 24 * 60)):
        add_request(number, started_at=NOON + timedelta(minutes=minutes))
    assert settle() == 4
    noon = NOON.replace(minute=0)
    midnight = noon.replace(hour=0)
    assert sums(span="hour") == [(noon, 2), (noon + timedelta(hours=1), 1), (noon + timedelta(days=1), 1)]
    assert sums(span="day") == [(midnight, 3), (midnight + timedelta(days=1), 1)]


@pytest.mark.django_db
def test_what_is_added():
    """Tokens, seconds, waits, retries and each kind of bad end are added up by team, model, node and task."""
    told = {"team_name": "Bees", "node_name": "ant", "started_at": NOON}
    add_request(1, **told, prompt_tokens=10, output_tokens=20, total_ms=3000, queue_ms=1000, first_byte_ms=1500)
    add_request(2, **told, outcome="failed", status=503, attempts=3, total_ms=500, resumed=1)
    add_request(3, **told, outcome="expired", status=503)
    add_request(4, **told, outcome="cancelled", status=499)
    add_request(5, team_name="Cats", node_name="ant", started_at=NOON)
    settle()
    row = Rollup.objects.get(span="hour", team_name="Bees")
    assert (row.requests, row.errors, row.refused, row.cancelled) == (4, 1, 1, 1)
    assert (row.tokens_in, row.tokens_out, row.retries, row.resumed) == (10, 20, 2, 1)
    assert (row.seconds, row.queue_seconds) == (2.5, 1.0)
    assert (row.first_byte_seconds, row.first_bytes) == (1.5, 1)
    assert (row.model, row.node_name, row.task_type) == ("llama3", "ant", "chat")


@pytest.mark.django_db
def test_repeating_counts_nothing_twice():
    """Adding up again changes nothing; what came later, even for an hour long past, is added to it."""
    add_request(1, started_at=NOON)
    settle()
    before = list(Rollup.objects.order_by("pk").values())
    assert settle() == 0
    assert list(Rollup.objects.order_by("pk").values()) == before
    add_request(2, started_at=NOON)
    settle()
    assert sums(span="hour") == [(NOON.replace(minute=0), 2)]


@pytest.mark.django_db
def test_the_newest_rows_wait_until_they_have_settled():
    """A row with a lower id may become visible later, so what was stored just now is left for the next time."""
    add_request(1)
    assert (rollups.roll_up(), rollups.roll_up(), Rollup.objects.count()) == (0, 0, 0)


@pytest.mark.django_db
def test_many_steps(monkeypatch):
    """A long history is added up in steps, each of them whole."""
    monkeypatch.setattr(rollups, "STEP", 3)
    for number in range(10):
        add_request(number, started_at=NOON)
    assert settle() == 10
    assert sums(span="hour") == [(NOON.replace(minute=0), 10)]


@pytest.mark.django_db
def test_a_run_without_time_goes_on_the_next_time():
    """What is not done in the time that a run has is done by the next one."""
    add_request(1, started_at=NOON)
    rollups.roll_up()
    RollupMark.objects.update(seen_at=timezone.now() - timedelta(seconds=rollups.SETTLED_S))
    assert (rollups.roll_up(seconds=-1.0), Rollup.objects.count()) == (0, 0)
    assert settle() == 1


@pytest.mark.django_db
def test_unknown_models_make_no_rows_of_their_own():
    """Names that clients made up are added up under no name."""
    for number in range(3):
        add_request(number, started_at=NOON, model=f"made-up-{number}", outcome="failed", status=404)
    settle()
    assert list(Rollup.objects.filter(span="hour").values_list("model", "requests")) == [("", 3)]


@pytest.mark.django_db
def test_of_two_that_add_the_same_one_does():
    """Who finds that the mark was moved meanwhile adds nothing."""
    add_request(1, started_at=NOON)
    rollups.roll_up()
    last = RequestRecord.objects.get().pk
    assert (rollups.step(0, last), rollups.step(0, last)) == (1, None)
    assert sums(span="hour") == [(NOON.replace(minute=0), 1)]


@pytest.mark.skipif("postgresql" not in settings.DATABASES["default"]["ENGINE"], reason="several connections")
@pytest.mark.django_db(transaction=True)
def test_workers_at_once_count_once(monkeypatch):
    """Several runs at the same time add each request once."""
    monkeypatch.setattr(rollups, "STEP", 2)
    for number in range(20):
        add_request(number, started_at=NOON)
    rollups.roll_up()
    RollupMark.objects.update(seen_at=timezone.now() - timedelta(seconds=rollups.SETTLED_S))

    def run(_):
        try:
            return rollups.roll_up()
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(run, range(3)))
    settle()
    assert sums(span="hour") == [(NOON.replace(minute=0), 20)]
    assert RollupMark.objects.get().done == RequestRecord.objects.order_by("-pk").first().pk


@pytest.mark.django_db
def test_retention_by_count(ant, settings):
    """Of requests and of events only the newest so many are kept; what goes stays in the sums."""
    settings.ENV = settings.ENV.model_copy(update={"sollol_history_rows": 2})
    for number in range(5):
        add_request(number)
        add_event(ant)
    settle()
    assert history.prune() == "6 rows deleted"
    assert list(RequestRecord.objects.order_by("pk").values_list("request_id", flat=True)) == ["r3", "r4"]
    assert sum(count for _, count in sums(span="day")) == 5


@pytest.mark.django_db
def test_sums_have_ages_of_their_own():
    """Sums by hour go after one number of days, those by day after another."""
    for span in ("hour", "day"):
        for days in (1, 20, 50):
            Rollup.objects.create(span=span, begins=timezone.now() - timedelta(days=days))
    assert rollups.keep(10, 30) == 3
    assert (len(sums(span="hour")), len(sums(span="day"))) == (1, 2)
