"""Admin's pages of batch jobs: how far they are, what has failed, and the buttons for those who may press them."""

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from fleet.models import BatchItem, BatchJob, BatchLane
from tests.fleet.test_admin import act, page
from tests.fleet.test_groups import member, rows

pytestmark = pytest.mark.django_db
SLOW, LONG = "no answer within 60 s", "the input length exceeds the context length"


def add_job(team=None, state="in_progress", done=6, reasons=(), total=10):
    """A job of so many items, of which some are done and one has failed for each reason."""
    job = BatchJob.objects.create(
        team=team, model="nomic", state=state, total=total, completed=done, failed=len(reasons)
    )
    BatchLane.objects.create(job=job, number=0, until=job.created_at)
    states = ["done"] * done + ["failed"] * len(reasons) + ["waiting"] * (total - done - len(reasons))
    BatchItem.objects.bulk_create(
        BatchItem(job=job, number=n, body="x", state=state, reason=reasons[n - done] if state == "failed" else "")
        for n, state in enumerate(states)
    )
    return job


def press(client, job, name):
    return client.post(reverse("admin:fleet_batchjob_act", args=(job.pk, name)), follow=True)


def buttons(client, job):
    text = client.get(page(BatchJob, "change", job.pk)).content.decode()
    return [name for name in ("pause", "resume", "retry", "cancel") if f"/{job.pk}/act/{name}/" in text]


def test_the_list_shows_how_far_a_job_is(admin_page, bees):
    """The bar has the part that has ended, and the number that failed is beside it."""
    add_job(bees, reasons=[SLOW])
    text = admin_page.get(page(BatchJob, "changelist")).content.decode()
    assert "7\N{NO-BREAK SPACE}of\N{NO-BREAK SPACE}10" in text
    assert "1 failed" in text
    assert 'width="70.0"' in text


def test_the_page_counts_failures_by_reason(admin_page, bees):
    """The most frequent reason comes first."""
    job = add_job(bees, reasons=[LONG, SLOW, SLOW])
    text = admin_page.get(page(BatchJob, "change", job.pk)).content.decode()
    table = text[text.index("Why items failed") :]
    assert table.index(SLOW) < table.index(">2<") < table.index(LONG) < table.index(">1<")


@pytest.mark.parametrize(
    ("state", "reasons", "offered"),
    [
        ("validating", [], ["cancel"]),
        ("in_progress", [], ["pause", "cancel"]),
        ("in_progress", [SLOW], ["pause", "retry", "cancel"]),
        ("paused", [], ["resume", "cancel"]),
        ("completed", [SLOW], ["retry"]),
        ("completed", [], []),
        ("cancelled", [SLOW], []),
    ],
)
def test_the_page_offers_what_fits_the_state(admin_page, bees, state, reasons, offered):
    """Nothing else has a button."""
    assert buttons(admin_page, add_job(bees, state, reasons=reasons)) == offered


def test_buttons_do_what_they_say(admin_page, bees):
    """Pause, resume, retry and cancel change the job, each is in the log, and what does not fit is told."""
    job = add_job(bees, reasons=[SLOW])
    for name, state in (("pause", "paused"), ("resume", "in_progress"), ("retry", "in_progress")):
        press(admin_page, job, name)
        job.refresh_from_db()
        assert job.state == state
    assert (job.failed, BatchItem.objects.filter(job=job, state="failed").count()) == (0, 0)
    press(admin_page, job, "cancel")
    job.refresh_from_db()
    assert job.state == "cancelled"
    assert "this one is cancelled" in press(admin_page, job, "pause").content.decode()
    assert LogEntry.objects.filter(object_id=str(job.pk)).count() == 4
    assert admin_page.get(reverse("admin:fleet_batchjob_act", args=(job.pk, "pause"))).status_code == 405


def test_actions_take_many_jobs(admin_page, bees):
    """Those that the action does not fit are named, the others are done."""
    going, done = add_job(bees), add_job(bees, "completed", done=10)
    text = act(admin_page, BatchJob, "pause_jobs", going, done).content.decode()
    assert set(BatchJob.objects.values_list("state", flat=True)) == {"paused", "completed"}
    assert "1 of 2 jobs" in text
    assert f"{done}: Only a job that is in progress can be paused" in text


def test_a_lead_sees_and_steers_the_own_team_only(bees, cats):
    """Bo's list has his team's job; another team's page and buttons do not exist for him."""
    own, other = add_job(bees), add_job(cats)
    bo = member("bo", "team lead")
    assert rows(bo, BatchJob) == [own]
    assert buttons(bo, own) == ["pause", "cancel"]
    assert press(bo, other, "cancel").status_code == 404
    press(bo, own, "pause")
    assert list(BatchJob.objects.order_by("pk").values_list("state", flat=True)) == ["paused", "in_progress"]


def test_a_lead_who_views_all_steers_the_own_team_only(bees, cats):
    """As lead and viewer Bo sees the other job without buttons, and actions leave it alone."""
    own, other = add_job(bees), add_job(cats)
    bo = member("bo", "team lead", "viewer")
    assert buttons(bo, other) == []
    assert press(bo, other, "cancel").status_code == 403
    act(bo, BatchJob, "pause_jobs", own, other)
    assert list(BatchJob.objects.order_by("pk").values_list("state", flat=True)) == ["paused", "in_progress"]


def test_a_viewer_only_looks(bees):
    """There are no buttons and no actions for viewers."""
    job = add_job(bees)
    viewer = member("vi", "viewer")
    assert buttons(viewer, job) == []
    assert press(viewer, job, "pause").status_code == 403
    assert "pause_jobs" not in viewer.get(page(BatchJob, "changelist")).content.decode()
