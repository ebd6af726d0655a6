"""Steps of batch jobs: what is claimed, sent and stored, and what becomes of what goes wrong."""

import json
from datetime import timedelta

import httpx
import pytest
from django.utils import timezone

from fleet.models import BatchItem, BatchJob, BatchLane, JobState
from fleet.selectors.batch import failures, progress
from fleet.services.batch import claims, jobs, results, steps, sweep
from fleet.services.batch.claims import Done, Gains
from fleet.services.batch.jobs import Owner
from tests.fleet.batches import FakeGateway, make, texts, turn
from tests.fleet.conftest import add_quota

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch, settings):
    """Steps here do not wait for what may be due soon, and the disk of the machine does not matter."""
    settings.ENV = settings.ENV.model_copy(update={"sollol_batch_free_mb": 0})
    monkeypatch.setattr(steps, "SEND_S", 0.6)
    monkeypatch.setattr(steps, "SOON_S", 0.0)


def states(job):
    return list(BatchItem.objects.filter(job=job).order_by("number").values_list("state", flat=True))


def due_now(job):
    BatchItem.objects.filter(job=job).update(due_at=None)


def test_all_goes_well():
    """Every text is sent once, results come in order as the node printed them, and the job is completed."""
    job, gateway = make(40), FakeGateway()
    turn(job, gateway)
    assert sorted(text for call in gateway.calls for text in call) == sorted(texts(40))
    assert (job.state, job.completed, job.failed, job.tokens) == ("completed", 40, 0, 80)
    lines = b"".join(results.lines(job)).decode().splitlines()
    assert lines[12] == '{"index":12,"custom_id":"c12","embedding":[7,0.12345679,-1e-9]}'
    assert [json.loads(line)["index"] for line in lines] == list(range(40))


def test_calls_are_the_teams(bees):
    """They carry a pass, the priority of the job and a deadline; parameters go into the body."""
    policy = add_quota(bees).policy
    policy.batch_priority = 3
    policy.save()
    bees.refresh_from_db()
    seen = []
    job = make(owner=Owner(bees), parameters={"dimensions": 8})
    turn(job, gateway := FakeGateway(before=lambda request: seen.append(json.loads(request.read()))))
    assert gateway.headers[0]["authorization"].startswith(f"Bearer sollol_job_{bees.pk}.")
    assert gateway.headers[0]["x-sollol-priority"] == "3"
    assert 0 < float(gateway.headers[0]["x-sollol-deadline"]) < 100
    assert (seen[0]["model"], seen[0]["dimensions"]) == ("nomic-embed-text", 8)


def test_a_turn_is_taken_once():
    """A step that comes twice does nothing the second time."""
    job, gateway = make(), FakeGateway()
    turn(job, gateway, number=0)
    assert turn(job, gateway, number=0) == "the job does not go on"
    other = make(100)
    BatchLane.objects.filter(job=other, number=0).update(turn=4)
    assert turn(other, gateway, number=3) == "this turn was taken before"
    assert len(gateway.calls) == 1


def test_one_bad_text():
    """The call that it is in is cut until it is alone; it has failed with the node's words, all others are done."""
    job, gateway = make(60), FakeGateway(bad=frozenset({"text 33"}))
    turn(job, gateway)
    assert (job.state, job.completed, job.failed) == ("completed", 59, 1)
    assert states(job)[33] == "failed"
    assert failures(job) == [("the input length exceeds the context length", 1)]
    assert ["text 33"] in gateway.calls
    [line] = [json.loads(line) for line in b"".join(results.lines(job)).splitlines() if b'"error"' in line]
    assert line == {"index": 33, "custom_id": "c33", "error": {"status": 400, "message": gateway.error[1]}}


def test_what_breaks_is_tried_again_alone():
    """A text at which nodes fail is tried five times, later each time, and then has failed."""
    job, gateway = make(["good", "evil"]), FakeGateway(bad=frozenset({"evil"}), error=(500, "the runner died"))
    pauses = []
    for _ in range(steps.MOST_TRIES):
        turn(job, gateway)
        if (due := BatchItem.objects.get(job=job, number=1).due_at) is not None:
            pauses.append((due - timezone.now()).total_seconds())
        due_now(job)
    assert gateway.calls.count(["evil"]) == steps.MOST_TRIES
    assert [round(pause) for pause in pauses] == [1, 2, 4, 8]
    assert (job.state, job.completed, job.failed) == ("completed", 1, 1)
    assert failures(job) == [("the runner died", 1)]


@pytest.mark.parametrize("status", [429, 503])
def test_no_room(status):
    """Where the gateway has no room nothing is held against the texts: they wait, and the job says for what."""
    job = make(5)
    turn(job, FakeGateway(refusal=(status, {"error": "the queue is full"}, {"retry-after": "30"})))
    assert (job.state, job.completed, job.failed, job.reason) == ("in_progress", 0, 0, "the queue is full")
    assert set(states(job)) == {"waiting"}
    assert set(BatchItem.objects.values_list("attempts", flat=True)) == {0}
    due_now(job)
    turn(job, FakeGateway())
    assert (job.state, job.reason) == ("completed", "")


def test_no_gateway():
    """A gateway that is away is waited for."""

    class Away(FakeGateway):
        def handle_request(self, request):
            raise httpx.ConnectError("refused")

    job = make(5)
    turn(job, Away())
    assert (job.state, set(states(job))) == ("in_progress", {"waiting"})
    assert "the gateway cannot be reached" in job.reason


def test_an_unknown_model():
    """The job has failed at once, with the words of a node."""
    text = 'model "nomic-embed-text" not found, try pulling it first'
    job = make(100)
    turn(job, FakeGateway(refusal=(404, {"error": text}, {})))
    assert (job.state, job.reason, job.completed) == ("failed", text, 0)
    assert "claimed" not in states(job)


def test_nothing_works():
    """Where the first texts have all failed, so would all others: the job has failed."""
    job = make(200)
    turn(job, FakeGateway(bad=frozenset(texts(200)), error=(400, "invalid option")))
    assert job.state == "failed"
    assert "items have all failed: invalid option" in job.reason
    assert job.completed + job.failed < job.total


def test_not_let_in():
    """A gateway that refuses our pass pauses the job."""
    job = make()
    turn(job, FakeGateway(refusal=(401, {"error": "this pass is not known"}, {})))
    assert (job.state, "this pass is not known" in job.reason) == ("paused", True)
    assert set(states(job)) == {"waiting"}


def test_a_late_result_changes_nothing():
    """What an old claim brings after its lease is not stored: another step has the text."""
    job = make(2)
    first = claims.claim(job, 2)
    BatchItem.objects.filter(job=job).update(until=timezone.now() - timedelta(seconds=1))
    assert claims.take_back(job) == 2
    second = claims.claim(job, 1)
    late = Gains(done=[Done(item, 200, b"v", "r") for item in first], tokens=4)
    assert claims.store(job, late, {})
    job.refresh_from_db()
    assert (job.completed, job.tokens, states(job)) == (0, 0, ["claimed", "waiting"])
    assert claims.store(job, Gains(done=[Done(second[0], 200, b"v", "r")]), {})
    job.refresh_from_db()
    assert (job.completed, states(job)) == (1, ["done", "waiting"])


def test_claims_differ():
    """Two that claim get different texts, the first ones first."""
    job = make(5)
    one, other = claims.claim(job, 3), claims.claim(job, 3)
    assert ([item.number for item in one], [item.number for item in other]) == ([0, 1, 2], [3, 4])


def test_paused_in_the_middle():
    """What is under way when a job is paused is stored; nothing more is sent until it is resumed."""
    job, gateway = make(50), FakeGateway()
    held = claims.claim(job, 10)
    jobs.pause(job)
    claims.store(job, Gains(done=[Done(item, 200, b"v", "r") for item in held]), {})
    assert turn(job, gateway) == "the job does not go on"
    assert (job.state, job.completed, gateway.calls) == ("paused", 10, [])
    jobs.resume(job)
    turn(job, gateway)
    assert (job.state, job.completed) == ("completed", 50)


def test_cancelled_in_the_middle():
    """A job that is cancelled waits for what is under way, keeps what is done, and its counts say what is not."""
    job = make(10)
    held = claims.claim(job, 4)
    jobs.cancel(job)
    assert job.state == "cancelling"
    claims.store(job, Gains(done=[Done(item, 200, b"v", "r") for item in held]), {})
    sweep.look_after()
    job.refresh_from_db()
    assert (job.state, job.completed, job.failed, job.open) == ("cancelled", 4, 0, 6)
    with pytest.raises(jobs.NotNow, match="cannot be retried"):
        jobs.retry_failed(job)


def test_nothing_is_stored_in_an_ended_job():
    """What comes back after the end changes neither items nor counts."""
    job = make(3, lasts=timedelta(0))
    held = claims.claim(job, 3)
    sweep.look_after()
    job.refresh_from_db()
    assert (job.state, job.reason) == ("expired", "its time was over before all items were done")
    assert not claims.store(job, Gains(done=[Done(item, 200, b"v", "r") for item in held]), {})
    assert states(job) == ["waiting"] * 3


def test_failed_texts_are_retried():
    """An ended job goes on with its failed texts alone."""
    job, gateway = make(20), FakeGateway(bad=frozenset({"text 3"}))
    turn(job, gateway)
    assert jobs.retry_failed(job) == 1
    assert (job.state, job.failed, job.ended_at) == ("in_progress", 0, None)
    turn(job, again := FakeGateway())
    assert (again.calls, job.state, job.completed) == ([["text 3"]], "completed", 20)
    with pytest.raises(jobs.NotNow, match="No item has failed"):
        jobs.retry_failed(job)


def test_counts_that_do_not_add_up_are_put_right():
    """A job is completed only if its items bear out its counts."""
    job = make(5)
    BatchJob.objects.filter(pk=job.pk).update(completed=5, state=JobState.FINALIZING)
    sweep.look_after()
    job.refresh_from_db()
    assert (job.state, job.completed) == ("in_progress", 0)


def test_a_full_disk(settings):
    """A disk that is nearly full pauses the job before anything is claimed, and it goes on when there is room."""
    job, gateway = make(), FakeGateway()
    settings.ENV = settings.ENV.model_copy(update={"sollol_batch_free_mb": 1 << 40})
    turn(job, gateway)
    assert (job.state, "the disk is full" in job.reason, gateway.calls) == ("paused", True, [])
    settings.ENV = settings.ENV.model_copy(update={"sollol_batch_free_mb": 0})
    jobs.resume(job)
    turn(job, gateway)
    assert job.state == "completed"


def test_a_lost_step_is_found(django_capture_on_commit_callbacks):
    """A lane of which nothing was heard gets its turn anew, and one that is heard of does not."""
    job = make(200)
    BatchLane.objects.filter(job=job, number=1).update(until=timezone.now() - timedelta(seconds=1))
    with django_capture_on_commit_callbacks() as handed_over:
        assert sweep.look_after() == "1 steps begun anew, 0 callbacks tried"
    assert len(handed_over) == 1
    with django_capture_on_commit_callbacks() as handed_over:
        sweep.look_after()
    assert handed_over == []


def test_chat_lines():
    """Bodies of other endpoints go one a call, are never streamed, and their answers are kept whole."""
    bodies = [json.dumps({"messages": [{"role": "user", "content": str(n)}], "stream": True}) for n in range(3)]
    job = make(bodies, endpoint="/v1/chat/completions", model="llama3.2:3b")
    turn(job, FakeGateway())
    told = [json.loads(result.body)["echo"] for result in results.results(job)]
    assert [body["messages"][0]["content"] for body in told] == ["0", "1", "2"]
    assert {(body["stream"], body["model"]) for body in told} == {(False, "llama3.2:3b")}
    assert job.state == "completed"


def test_progress():
    """The rate is that of the last minute, and the time left follows from it."""
    job, now = make(100), timezone.now()
    job.completed, job.marks = 30, [[now.timestamp() - 10, 10]]
    told = progress(job, now)
    assert (told.part, round(told.rate, 3), round(told.left_s, 3)) == (0.3, 2.0, 35.0)
    job.marks = []
    assert progress(job, now) == (0.3, None, None)


def test_old_jobs_are_deleted(settings):
    """A job that ended longer ago than the setting says goes with its items; others stay."""
    old, new = make(), make()
    for job in (old, new):
        turn(job, FakeGateway())
    BatchJob.objects.filter(pk=old.pk).update(ended_at=timezone.now() - timedelta(days=8))
    assert sweep.clean_up() == "1 jobs deleted"
    assert list(BatchItem.objects.values_list("job", flat=True).distinct().order_by()) == [new.pk]
