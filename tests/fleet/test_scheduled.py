"""Scheduled work: what is noted of its runs, whether the worker is missed, and what is told of both."""

from datetime import timedelta

import pytest
from django.utils import timezone
from django_q.models import Failure, OrmQ, Schedule, Task
from django_q.signals import post_execute, pre_execute

from fleet.models import QuotaLevel, ScheduledRun, UsageDay
from fleet.oversight import SILENT_S, Oversight
from fleet.selectors.scheduled import Sighting, sighting
from fleet.services import schedules, usage
from fleet.services.schedules import QUOTAS, ROLL_UP, SWEEP, mend
from fleet.tasks import history
from tests.fleet.conftest import add_quota, add_usage_day

pytestmark = pytest.mark.django_db


def task(name: str = SWEEP, seconds: float = 2.0, result: str = "2 of 2 nodes up", *, good: bool = True) -> dict:
    """What django-q2 hands around of a task that was queued a minute ago and began `seconds` ago."""
    now = timezone.now()
    told = {"id": "a" * 32, "name": "n", "func": "f", "args": (), "started": now - timedelta(minutes=1)}
    told |= {"group": name, "stopped": now, "result": result, "success": good}
    pre_execute.send(sender="django_q", func=None, task=told)
    told[schedules.BEGAN] = now - timedelta(seconds=seconds)
    return told


def run(name: str = SWEEP, **columns) -> ScheduledRun:
    post_execute.send(sender="django_q", task=task(name, **columns))
    return ScheduledRun.objects.get(name=name)


def work(name: str):
    return next(one for one in sighting(timezone.now()).works if one.name == name)


def test_a_run_is_noted():
    """How long it took, from when a worker began with it, and what came of it."""
    noted = run()
    assert (noted.good, noted.told, noted.failures) == (True, "2 of 2 nodes up", 0)
    assert noted.seconds == pytest.approx(2.0, abs=0.1)
    assert noted.good_at == noted.ended_at


def test_failures_in_a_row_are_counted():
    """Of an error its first line is told; a good run begins the count anew."""
    why = "disk full : Traceback (most recent call last):\n  File ...\nOSError: disk full"
    run()
    for _ in range(3):
        noted = run(result=why, good=False)
    assert (noted.failures, noted.told, noted.good) == (3, "disk full", False)
    assert noted.good_at is not None
    assert noted.good_at < noted.ended_at
    assert work("health sweep").keeps_failing
    assert run().failures == 0
    assert not work("health sweep").keeps_failing


def test_one_failure_is_not_yet_told():
    """The next run may go well."""
    run(result="busy", good=False)
    assert not work("health sweep").keeps_failing


@pytest.mark.parametrize("group", [None, "", "a batch job", 7])
def test_other_tasks_are_not_noted(group):
    """Only those of schedules."""
    post_execute.send(sender="django_q", task=task(group))
    assert not ScheduledRun.objects.exists()


def test_every_schedule_is_told():
    """Also one that has not run yet, and one that an operator has paused."""
    Schedule.objects.filter(name=QUOTAS).update(repeats=0)
    run(ROLL_UP, result="12 requests added up")
    found = {one.name: (one.every, one.period, one.paused, one.told) for one in sighting(timezone.now()).works}
    expected = {
        "health sweep": ("every minute", 60.0, False, ""),
        "roll up history": ("every minute", 60.0, False, "12 requests added up"),
        "prune history": ("hourly", 3600.0, False, ""),
        "compact learned profiles": ("daily", 86400.0, False, ""),
        "quota windows": ("hourly", 3600.0, True, ""),
    }
    assert expected.items() <= found.items()


def test_looking_costs_few_queries(django_assert_num_queries):
    """However many schedules there are."""
    with django_assert_num_queries(4):
        sighting(timezone.now())


def test_failures_are_counted_by_the_day_and_forgotten_with_the_history(settings):
    """django-q2 would keep them for ever."""
    now = timezone.now()
    for number, age in enumerate((0, 2, settings.ENV.sollol_history_days + 1)):
        stopped = now - timedelta(days=age)
        columns = {"id": f"{number}" * 32, "name": "n", "func": "f", "group": SWEEP, "success": False}
        Failure.objects.create(started=stopped, stopped=stopped, **columns)
    assert work("health sweep").failures_day == 1
    history.prune()
    assert Task.objects.count() == 2


# Quota windows and the clock


def test_quota_windows_that_are_over_go(bees):
    """Days that no quota and no comparison needs, and levels of quotas that are full again; what counts stays."""
    now = timezone.now()
    for days in (0, 61, 100):
        add_usage_day(bees, day=now.date() - timedelta(days=days))
    quota = add_quota(bees, window="minute")
    QuotaLevel.objects.create(quota=quota, level=3.0, at=now - timedelta(days=2))
    assert usage.tidy(now, 10) == (1, 1)
    assert UsageDay.objects.count() == 2


def test_a_clock_that_was_set_back_keeps_nothing_waiting():
    """What ended in the future shows it: such schedules run now, others stay as they are."""
    now = timezone.now()
    run()
    ScheduledRun.objects.update(ended_at=now + timedelta(hours=1))
    Schedule.objects.update(next_run=now + timedelta(hours=1))
    assert mend(now) == 1
    assert [row.name for row in Schedule.objects.filter(next_run__lte=now)] == [SWEEP]
    run()
    assert mend(timezone.now()) == 0


# Whether the worker is missed


def seen(oversight: Oversight, at: float) -> bool:
    oversight.take(sighting(timezone.now()), at)
    return oversight.missing


def test_a_worker_that_ends_nothing_is_missed():
    """Within three minutes, whatever the time of day is said to be; and no more once it ends something."""
    oversight = Oversight()
    assert not seen(oversight, 1000.0)
    assert not seen(oversight, 1000.0 + SILENT_S)
    assert seen(oversight, 1001.0 + SILENT_S)
    assert oversight.condition() == {"worker": "missing", "worker_silent_s": SILENT_S + 1.0}
    assert [alert["kind"] for alert in oversight.alerts()] == ["worker"]
    run()
    assert not seen(oversight, 1006.0 + SILENT_S)
    assert (oversight.condition(), list(oversight.alerts())) == ({"worker": "ok"}, [])


def test_any_task_that_ends_is_a_sign_of_life():
    """A worker that is busy with a long queue is there."""
    oversight = Oversight()
    seen(oversight, 0.0)
    now = timezone.now()
    Task.objects.create(id="b" * 32, name="n", func="f", started=now, stopped=now, success=True)
    assert not seen(oversight, SILENT_S + 1.0)


def test_while_nobody_can_look_no_time_passes():
    """The database was away for an hour, and the worker with it."""
    oversight = Oversight()
    seen(oversight, 0.0)
    oversight.blind()
    assert not seen(oversight, 3600.0)
    assert not seen(oversight, 3600.0 + SILENT_S)
    assert seen(oversight, 3601.0 + SILENT_S)


def test_a_worker_with_little_to_do_is_missed_later():
    """Where an operator has paused what runs each minute, the next shortest time counts; without any, nobody."""
    oversight = Oversight()
    Schedule.objects.filter(minutes=1).update(repeats=0)
    seen(oversight, 0.0)
    assert not seen(oversight, 2.4 * 3600)
    assert seen(oversight, 2.6 * 3600)
    Schedule.objects.update(repeats=0)
    assert not seen(oversight, 9e9)


def test_a_schedule_that_keeps_failing_is_an_alert():
    """With how often, and why."""
    oversight = Oversight()
    for _ in range(2):
        run(result="no route to host : Traceback ...", good=False)
    seen(oversight, 0.0)
    [alert] = oversight.alerts()
    assert (alert["kind"], alert["subject"]) == ("schedule", "health sweep")
    assert alert["text"] == "health sweep has failed 2 times in a row: no route to host"
    assert [one["name"] for one in oversight.told()["works"] if one["keeps_failing"]] == ["health sweep"]


def test_nothing_scheduled_is_no_trouble():
    """Before the first look, too."""
    oversight = Oversight()
    assert oversight.told() == {"worker": "ok", "works": []}
    oversight.take(Sighting((), None), 0.0)
    assert not oversight.missing


def test_rest_tells_scheduled_work(api):
    """In `/api/dashboard`, with an alert for what keeps failing."""
    for _ in range(2):
        run(result="busy", good=False)
    told = api.get("/api/dashboard").json()
    row = next(one for one in told["scheduled"] if one["name"] == "health sweep")
    assert (row["succeeded"], row["result"], row["failures_in_a_row"]) == (False, "busy", 2)
    assert row["every"] == "every minute"
    assert row["next_run_at"]
    assert ("schedule_failing", "health sweep") in [(one["kind"], one["subject"]) for one in told["alerts"]]
    assert OrmQ.objects.count() == 0
