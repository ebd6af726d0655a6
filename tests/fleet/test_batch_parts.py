"""Parts of the batch lane by themselves: stored vectors, the size of calls, passes, callbacks."""

import struct
import time

import httpx
import orjson
import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as some

from fleet.models import BatchJob
from fleet.services.batch import callbacks, credential, packing, sweep
from fleet.services.batch.calls import reason_of
from fleet.services.batch.engine import LONG_S, SHORT_S
from fleet.services.batch.pace import Pace, packed
from routing.core.errors import NotAuthenticated
from routing.core.snapshot import FleetSnapshot, TeamPolicy
from routing.gateway import passes
from routing.gateway.access import Access
from simulator.wire import float32_list
from tests.fleet.batches import FakeGateway, make, turn

# Vectors

float32 = some.floats(width=32, allow_nan=False, allow_infinity=False)


@given(some.lists(some.lists(float32, min_size=1), min_size=1, max_size=5))
def test_vectors_come_back_as_they_were(vectors):
    """Whatever numbers a node prints, each vector is cut out, stored in half the bytes, and read back to the byte."""
    texts = [float32_list(vector) for vector in vectors]
    answer = b'{"model":"m","embeddings":[%b],"total_duration":1}' % b",".join(texts)
    cut = packing.vectors(answer, len(vectors))
    stored = [packing.pack_vector(one) for one in cut]
    assert [packing.unpack(one) for one in stored] == texts
    assert all(len(one) <= len(text) / 2 + 1 for one, text in zip(stored, texts, strict=True))
    assert [list(packing.numbers(one)) for one in stored] == vectors


@pytest.mark.parametrize("text", ["1E5", "0.1", "NaN", "1, 2 ,3", "null", ""])
def test_what_is_no_usual_number_comes_back_too(text):
    """Numbers in another spelling are kept as they are."""
    assert packing.unpack(packing.pack_vector(text.encode())) == b"[%b]" % text.encode()


def test_an_answer_in_another_form():
    """JSON with spaces is understood; one with too few vectors, or none, is not taken for good."""
    answer = orjson.dumps({"embeddings": [[0.5, 1.0], [2.0, 3.0]]}, option=orjson.OPT_INDENT_2)
    assert packing.vectors(answer, 2) == [b"0.5,1.0", b"2.0,3.0"]
    for text in (b'{"embeddings":[[1,2]]}', b'{"embedding":[1]}', b"[]", b"nonsense"):
        with pytest.raises(ValueError, match=r".+"):
            packing.vectors(text, 2)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"error":"no"}', "no"),
        (b'{"error":{"message":"no","type":"x"}}', "no"),
        (b'{"error":"{\\"error\\":{\\"code\\":501,\\"message\\":\\"no\\"}}"}', "no"),
        (b'{"error":"{\\"error\\":"}', '{"error":'),
        (b"<html>", "<html>"),
        (b"[]", ""),
    ],
)
def test_the_words_of_an_error(body, told):
    """Those of Ollama, of OpenAI's routes, and of the engine inside Ollama's; else what there is."""
    assert reason_of(body) == told


# The size of calls


def test_the_first_calls_are_small():
    """Of unknown nodes each gets a few texts, however many there are; then four times as many each time."""
    pace = Pace(100.0)
    assert pace.texts(100_000, 2) == 8
    pace.told("ant", 800, 8, 0.001)
    assert pace.texts(100_000, 2) == 32


def test_calls_take_a_second():
    """Known nodes get what the mean node does in a second, but the slowest at most two and a half."""
    pace = Pace(100.0, {"ant": 10_000.0, "bee": 10_000.0}, largest=500)
    assert pace.texts(100_000, 2) == 100
    pace.rates["bee"] = 1000.0
    assert pace.texts(100_000, 2) == 25


def test_the_last_calls_are_small():
    """The fewer are left, the smaller a call, so that the last ends soon; never below a tenth second."""
    pace = Pace(100.0, {"ant": 10_000.0}, largest=500)
    assert [pace.texts(left, 1) for left in (1000, 100, 50, 4)] == [100, 50, 25, 10]


def test_slow_nodes_are_worth_waiting_for():
    """As many calls wait beside those that run as a fast node does while the slow one does one."""
    assert Pace(100.0, {"ant": 9000.0, "bee": 1000.0}).calls(2) == 12
    assert Pace(100.0, {"ant": 9000.0, "bee": 1.0}).calls(2) == 18


def test_a_call_that_was_too_long():
    """After it the next ones are smaller."""
    pace = Pace(100.0, {"ant": 10_000.0}, largest=500)
    pace.late(100)
    assert pace.texts(100_000, 1) == 48


@given(some.lists(some.tuples(some.integers(1, 100), some.booleans())), some.integers(1, 300))
def test_groups(items, most):
    """Every item is in one group, in order; groups are bounded, and who goes alone is alone."""
    groups = packed(items, most)
    assert [n for group in groups for n in group] == list(range(len(items)))
    for group in groups:
        assert len(group) == 1 or not any(items[n][1] for n in group)
        assert len(group) == 1 or sum(items[n][0] for n in group) <= most


# Passes

SECRET = b"secret of the installation"


def caller(token, secret=SECRET):
    access = Access("deny", wall=lambda: 1000.0, secret=secret)
    access.snapshot = FleetSnapshot(1, (), {7: TeamPolicy(7, "Bees")}, {})
    return access.caller_for({}, {b"authorization": b"Bearer " + token.encode()})


def test_a_pass_is_its_teams():
    """Whoever shows it is the team, with the prefix of the key that the work is for, and may use models only."""
    told = caller(passes.issue(SECRET, passes.Pass(7, "abcdefgh", 1001)))
    assert (told.team.name, told.prefix, set(told.scopes), told.anonymous) == ("Bees", "abcdefgh", {"inference"}, False)
    assert caller(passes.issue(SECRET, passes.Pass(0, "", 1001))).team is None


@pytest.mark.parametrize(
    "token",
    [
        passes.issue(b"another secret", passes.Pass(7, "abcdefgh", 1001)),
        passes.issue(SECRET, passes.Pass(7, "abcdefgh", 1000)),
        passes.issue(SECRET, passes.Pass(8, "abcdefgh", 1001)),
        passes.issue(SECRET, passes.Pass(7, "abcdefgh", 1001)).replace("_7.", "_0."),
        "sollol_job_",
        "sollol_job_7.a.9999.ü",
    ],
)
def test_a_wrong_pass(token):
    """Forged, ended, changed, of a team that is gone: 401."""
    with pytest.raises(NotAuthenticated):
        caller(token)


def test_no_pass_without_a_secret():
    """A gateway without a secret knows no passes, not even those signed with nothing."""
    with pytest.raises(NotAuthenticated):
        caller(passes.issue(b"", passes.Pass(7, "", 1001)), secret=b"")


@pytest.mark.django_db
def test_the_pass_of_a_job():
    """It outlives the longest step."""
    bearer = credential.headers(make())["authorization"].removeprefix("Bearer ")
    shown = passes.read(credential.secret(), bearer.encode(), time.time() + max(SHORT_S, LONG_S))
    assert shown is not None
    assert shown.team == 0


# Callbacks


class Listener(httpx.BaseTransport):
    def __init__(self, *statuses):
        self.statuses, self.seen = list(statuses), []

    def handle_request(self, request):
        self.seen.append((str(request.url), orjson.loads(request.read())))
        return httpx.Response(self.statuses.pop(0), headers={"location": "http://elsewhere.example/"})


@pytest.fixture
def allowed(settings):
    hosts = ("bees.example", "cats.example:8080")
    settings.ENV = settings.ENV.model_copy(update={"sollol_batch_callback_hosts": hosts, "sollol_batch_free_mb": 0})


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        ("https://bees.example/done", True),
        ("http://BEES.example:9000/", True),
        ("http://cats.example:8080/", True),
        ("http://cats.example/", False),
        ("http://evil.bees.example/", False),
        ("http://bees.example@evil.example/", False),
        ("http://u:p@bees.example/", False),
        ("file:///etc/passwd", False),
        ("http://bees.example:port/", False),
        ("bees.example", False),
    ],
)
def test_allowed_hosts(allowed, url, fits):
    """Only hosts that an operator has allowed are told, by their exact name, and port where one is given."""
    assert (callbacks.fault(url) == "") is fits


@pytest.mark.django_db
def test_a_callback(allowed, django_capture_on_commit_callbacks):
    """It tells how the job has ended; one that fails, or leads elsewhere, is tried again later."""
    job = make(callback_url="http://bees.example/done")
    with django_capture_on_commit_callbacks() as handed_over:
        turn(job, FakeGateway())
    assert len(handed_over) == 1
    listener = Listener(302, 500, 200)
    assert callbacks.notify(job.pk, listener) == "it answered 302"
    assert callbacks.notify(job.pk, listener) == "not due"
    job.refresh_from_db()
    pause = (job.callback_due_at - timezone.now()).total_seconds()
    assert (job.callback_tries, 50 < pause < 61, job.callback_error) == (1, True, "it answered 302")
    for told in ("it answered 500", "told"):
        BatchJob.objects.update(callback_due_at=timezone.now())
        assert callbacks.notify(job.pk, listener) == told
    job.refresh_from_db()
    assert (job.callback_due_at, job.callback_error, len(listener.seen)) == (None, "", 3)
    url, body = listener.seen[0]
    assert (url, body["id"], body["state"], body["completed"]) == (
        "http://bees.example/done", str(job), "completed", 3,
    )  # fmt: skip


@pytest.mark.django_db
def test_a_host_that_is_no_longer_allowed(allowed, settings):
    """It is not told, though the job was made when it was allowed."""
    job = make(callback_url="http://bees.example/done")
    turn(job, FakeGateway())
    settings.ENV = settings.ENV.model_copy(update={"sollol_batch_callback_hosts": ()})
    sweep.look_after()
    job.refresh_from_db()
    assert (job.callback_tries, "is not allowed" in job.callback_error) == (1, True)


def test_floats_of_the_array_are_little_endian():
    """As the header of the file says."""
    from array import array  # noqa: PLC0415 (used here alone)

    from fleet.services.batch import results  # noqa: PLC0415 (as above)

    assert results.little_endian(array("f", [1.5])) == struct.pack("<f", 1.5)
