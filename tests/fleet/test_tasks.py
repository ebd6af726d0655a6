"""Background work: scheduled once, doing what it says."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone
from django.utils.module_loading import import_string
from django_q.models import Schedule

from fleet.checks import check_steps_fit, check_task_times, check_work_fits
from fleet.models import NodeEvent, RequestRecord
from fleet.services.schedules import SWEEP, ensure_schedules
from fleet.tasks import health, history
from tests.fleet.conftest import add_event, add_request

pytestmark = pytest.mark.django_db


def test_schedules_exist_after_migrating():
    """Migrating makes the sweep, the sums, the pruning and the care of batch jobs; functions can be imported."""
    rows = {row.name: row.func for row in Schedule.objects.all()}
    assert rows == {
        SWEEP: "fleet.tasks.health.sweep",
        "fleet: prune history": "fleet.tasks.history.prune",
        "fleet: roll up history": "fleet.tasks.history.roll_up",
        "fleet: look after batch jobs": "fleet.tasks.batch.look_after",
        "fleet: delete old batch jobs": "fleet.tasks.batch.clean_up",
    }
    assert all(callable(import_string(path)) for path in rows.values())


def test_schedules_stay_as_the_operator_set_them():
    """Migrating again neither doubles a schedule nor undoes what an operator changed."""
    Schedule.objects.filter(name=SWEEP).update(minutes=5)
    ensure_schedules()
    call_command("migrate", verbosity=0)
    assert Schedule.objects.get(name=SWEEP).minutes == 5


def test_the_sweep_of_an_empty_fleet():
    """Without nodes there is nothing to do."""
    assert health.sweep() == "0 of 0 nodes up"


def test_old_history_goes(ant, settings):
    """History older than the setting is deleted, newer stays."""
    old = timezone.now() - timedelta(days=settings.ENV.sollol_history_days, seconds=1)
    add_request(1, started_at=old)
    add_request(2)
    NodeEvent.objects.filter(pk=add_event(ant).pk).update(at=old)
    assert history.prune().startswith("2 rows")
    assert (RequestRecord.objects.get().request_id, NodeEvent.objects.count()) == ("r2", 0)


def test_overlapping_tasks_are_an_error(settings):
    """A retry that comes before a task's timeout is refused, and so is no timeout at all."""
    settings.Q_CLUSTER = {"timeout": 100, "retry": 100}
    assert [fault.id for fault in check_task_times(None)] == ["fleet.E002"]
    settings.Q_CLUSTER = {"retry": 100}
    assert [fault.id for fault in check_task_times(None)] == ["fleet.E001"]


@pytest.mark.parametrize(("timeout", "told"), [(10, ["fleet.W001", "fleet.W002"]), (75, ["fleet.W002"])])
def test_a_timeout_below_the_work_is_warned_of(settings, timeout, told):
    """A worker that would end sweeps or measurements half way is told."""
    settings.Q_CLUSTER = {"timeout": timeout, "retry": 100}
    assert [fault.id for fault in check_work_fits(None)] == told


def test_the_shipped_settings_pass():
    """The settings as they are shipped pass the checks."""
    assert check_task_times(None) + check_work_fits(None) + check_steps_fit(None) == []


def test_a_retry_within_a_step_is_warned_of(settings):
    """A worker that would be given steps of batch jobs again while they run is told."""
    settings.Q_CLUSTER = {"timeout": 60, "retry": 115}
    assert [fault.id for fault in check_steps_fit(None)] == ["fleet.W003"]
