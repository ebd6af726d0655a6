"""`/api/batch/`: jobs over REST, of the own team, from texts and from files."""

import io
import json
import struct

import pytest
from django.contrib.auth.models import Group, User
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from fleet.api import uploads
from fleet.models import BatchItem, BatchJob
from fleet.services import keys
from fleet.services.batch import jobs
from fleet.services.batch.jobs import Owner
from tests.fleet.batches import MODEL, FakeGateway, make, turn

pytestmark = pytest.mark.django_db
NDJSON = "application/x-ndjson"


@pytest.fixture(autouse=True)
def any_disk(settings):
    settings.ENV = settings.ENV.model_copy(update={"sollol_batch_free_mb": 0})


@pytest.fixture
def bo(bees):
    """Team Bees' program, with a key that may use models."""
    return APIClient(headers={"Authorization": f"Bearer {keys.create(bees, 'bo').plain}"})


@pytest.fixture
def cy(cats):
    return APIClient(headers={"Authorization": f"Bearer {keys.create(cats, 'cy').plain}"})


def embed(client, *texts, **members):
    return client.post("/api/batch/embed", {"model": MODEL, "texts": list(texts)} | members, format="json")


def body_of(answer) -> bytes:
    async def read():
        return b"".join([piece async for piece in answer.streaming_content])

    from asgiref.sync import async_to_sync  # noqa: PLC0415 (used here alone)

    return async_to_sync(read)()


def test_texts(bo):
    """Texts become a job at work, with what belongs into its calls."""
    answer = embed(bo, "buzz", "hum", dimensions=8, truncate=False, keep_alive="-1", metadata={"for": "Bo"})
    assert answer.status_code == 201, answer.content
    told = answer.json()
    assert (told["state"], told["team"], told["total"], told["priority"]) == ("in_progress", "Bees", 2, 1)
    assert told["parameters"] == {"dimensions": 8, "truncate": False, "keep_alive": -1}
    assert list(BatchItem.objects.values_list("number", "body")) == [(0, "buzz"), (1, "hum")]
    assert bo.get(f"/api/batch/jobs/{told['id']}").json()["metadata"] == {"for": "Bo"}


LINES = b'\xef\xbb\xbf"buzz"\n\n{"text": "hum", "custom_id": "b"}\r\n{"input": "sting"}'


def test_lines(bo):
    """JSON lines as they are: texts, and objects with a name of the sender's."""
    answer = bo.post(f"/api/batch/embed?model={MODEL}&dimensions=4", LINES, content_type=NDJSON)
    assert answer.status_code == 201, answer.content
    assert answer.json()["parameters"] == {"dimensions": 4}
    rows = list(BatchItem.objects.values_list("number", "body", "custom_id"))
    assert rows == [(0, "buzz", ""), (1, "hum", "b"), (2, "sting", "")]


def test_a_file(bo):
    """The same lines as a file in a form."""
    answer = bo.post("/api/batch/embed", {"model": MODEL, "file": SimpleUploadedFile("a.jsonl", LINES)})
    assert (answer.status_code, answer.json()["total"]) == (201, 3)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (b'"buzz"\n{"text": \n"hum"', "Line 2 is no JSON"),
        (b'"buzz"\n\n17', "Line 3: this is no text"),
        (b'{"text": "a", "model": "b"}', "Line 1: unknown member 'model'"),
        (b'{"custom_id": "b"}', "Line 1: this is no text"),
        (b'{"text": "a", "custom_id": 7}', "Line 1: custom_id is a text"),
        (b'"a\\u0000b"', "Line 1: a text has no null characters"),
        (b'""', "Line 1: this text is empty"),
        (b"\xff\xfe", "Line 1 is no JSON"),
        (b"", "There is nothing to do"),
        (b'{"text": "a", "custom_id": "x"}\n{"text": "b", "custom_id": "x"}', "same custom_id"),
    ],
)
def test_bad_lines(bo, lines, told):
    """What is wrong is named with its line, and nothing of the upload is kept."""
    answer = bo.post(f"/api/batch/embed?model={MODEL}", lines, content_type=NDJSON)
    assert answer.status_code == 400, answer.content
    assert told in answer.json()["non_field_errors"][0]
    assert not BatchJob.objects.exists()


def test_the_last_of_many_lines(bo):
    """So it is where thousands of lines before it were good."""
    lines = b'"buzz"\n' * 2500 + b"nonsense"
    answer = bo.post(f"/api/batch/embed?model={MODEL}", lines, content_type=NDJSON)
    assert "Line 2501 is no JSON" in answer.json()["non_field_errors"][0]
    assert not BatchItem.objects.exists()


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"texts": None}, "texts"),
        ({"texts": []}, "texts"),
        ({"priority": 0}, "priority"),
        ({"priority": 2}, "non_field_errors"),
        ({"colour": "red"}, "colour"),
        ({"callback_url": "http://evil.example/"}, "callback_url"),
        ({"options": {"a": "\0"}}, "options"),
        ({"options": []}, "options"),
        ({"model": "a\0"}, "model"),
        ({"team": "Cats"}, "team"),
    ],
)
def test_bad_orders(bo, cats, members, field):
    """Each fault is told at its field."""
    answer = embed(bo, "buzz", **members)
    assert (answer.status_code, list(answer.json())) == (400, [field]), answer.content


def test_batch_work_of_higher_priority(bo, bees):
    """A job may have the priority that the team's policy gives to batch work, and has it by default."""
    from fleet.models import PriorityPolicy  # noqa: PLC0415 (used here alone)

    PriorityPolicy.objects.create(team=bees, batch_priority=3)
    assert embed(bo, "buzz").json()["priority"] == 3
    assert embed(bo, "buzz", priority=2).json()["priority"] == 2
    assert embed(bo, "buzz", priority=4).status_code == 400


def test_others_jobs(bo, cy, api):
    """A team sees its own jobs; who manages the fleet sees all."""
    one = embed(bo, "buzz").json()["id"]
    assert [row["id"] for row in bo.get("/api/batch/jobs").json()["results"]] == [one]
    assert cy.get("/api/batch/jobs").json()["results"] == []
    for method, path in (("get", f"jobs/{one}"), ("delete", f"jobs/{one}"), ("post", f"jobs/{one}/pause")):
        assert getattr(cy, method)(f"/api/batch/{path}").status_code == 404
    assert cy.get(f"/api/batch/results/{one}").status_code == 404
    assert api.get(f"/api/batch/jobs/{one}").status_code == 200
    assert APIClient().get("/api/batch/jobs").status_code == 401


def test_people(bees, cats):
    """A viewer looks; who leads a team has the jobs of that team; others may not."""
    job, other = make(owner=Owner(bees)), make(owner=Owner(cats))

    def person(name, *groups):
        user, _ = User.objects.get_or_create(username=name)
        user.is_staff = True
        user.save()
        user.groups.set(Group.objects.filter(name__in=groups))
        client = APIClient()
        client.force_login(user)
        return client

    viewer, lead, nobody = person("vi", "viewer"), person("bo", "team lead"), person("no")
    assert len(viewer.get("/api/batch/jobs").json()["results"]) == 2
    assert viewer.post(f"/api/batch/jobs/{job}/pause").status_code == 403
    assert [row["id"] for row in lead.get("/api/batch/jobs").json()["results"]] == [str(job)]
    assert lead.post(f"/api/batch/jobs/{job}/pause").json()["state"] == "paused"
    assert lead.post(f"/api/batch/jobs/{other}/pause").status_code == 404
    assert embed(lead, "buzz").json()["team"] == "Bees"
    assert embed(lead, "buzz", team="Cats").status_code == 400
    assert nobody.get("/api/batch/jobs").status_code == 403


def test_pages(bo, bees):
    """Long lists come in pages, newest first, and can be narrowed."""
    made = [make(owner=Owner(bees)) for _ in range(3)]
    jobs.pause(made[0])
    first = bo.get("/api/batch/jobs?limit=2").json()
    assert [row["id"] for row in first["results"]] == [str(made[2]), str(made[1])]
    assert [row["id"] for row in bo.get(first["next"]).json()["results"]] == [str(made[0])]
    assert [row["id"] for row in bo.get("/api/batch/jobs?state=paused").json()["results"]] == [str(made[0])]


def test_a_list_does_not_ask_once_a_row(bo, bees, django_assert_num_queries):
    """The key, and the jobs with their teams."""
    for _ in range(12):
        make(owner=Owner(bees))
    with django_assert_num_queries(2):
        assert len(bo.get("/api/batch/jobs").json()["results"]) == 12


def test_cancelled_while_it_comes_in(bo, bees, monkeypatch):
    """An upload whose job somebody cancels meanwhile is 409, and leaves nothing."""
    add = jobs.add

    def cancelled(job, inputs):
        add(job, inputs)
        jobs.cancel(BatchJob.objects.get(pk=job.pk))

    monkeypatch.setattr(jobs, "add", cancelled)
    assert embed(bo, "buzz").status_code == 409
    assert not BatchJob.objects.exists()


def test_life_of_a_job(bo, bees):
    """Paused, resumed, cancelled, and at last removed; what does not fit its state is 409."""
    path = f"/api/batch/jobs/{make(owner=Owner(bees))}"
    assert bo.post(f"{path}/resume").json()["state"] == "in_progress"
    assert bo.post(f"{path}/pause").json()["state"] == "paused"
    assert bo.post(f"{path}/resume").json()["state"] == "in_progress"
    assert bo.delete(f"{path}?purge=true").status_code == 409
    assert bo.delete(path).json()["state"] == "cancelled"
    assert bo.delete(path).json()["state"] == "cancelled"
    answer = bo.post(f"{path}/pause")
    assert (answer.status_code, "this one is cancelled" in answer.json()["detail"]) == (409, True)
    assert bo.delete(f"{path}?purge=true").status_code == 204
    assert bo.get(path).status_code == 404


def test_results(bo, bees):
    """JSON lines and an array of NumPy's, in the order of the inputs; not before the end, unless asked for."""
    job = make(["a", "bad", "ccc"], owner=Owner(bees))
    assert bo.get(f"/api/batch/results/{job}").status_code == 409
    partial = body_of(bo.get(f"/api/batch/results/{job}?partial=true")).splitlines()
    assert json.loads(partial[0])["error"] == {"status": None, "message": "not done: the job is in progress"}
    turn(job, FakeGateway(bad=frozenset({"bad"})))
    lines = body_of(bo.get(f"/api/batch/results/{job}")).splitlines()
    assert lines[0] == b'{"index":0,"custom_id":"c0","embedding":[1,0.12345679,-1e-9]}'
    assert json.loads(lines[1])["error"]["status"] == 400
    answer = bo.get(f"/api/batch/results/{job}?format=npy")
    data = body_of(answer)
    assert int(answer["Content-Length"]) == len(data)
    assert data[:8] == b"\x93NUMPY\x01\x00"
    [size] = struct.unpack("<H", data[8:10])
    assert (10 + size) % 64 == 0
    assert b"'descr': '<f4', 'fortran_order': False, 'shape': (3, 3), }" in data[10 : 10 + size]
    numbers = struct.unpack("<9f", data[10 + size :])
    assert numbers[:2] == (1.0, struct.unpack("<f", struct.pack("<f", 0.12345679))[0])
    assert all(number != number for number in numbers[3:6])  # noqa: PLR0124 (NaN)
    assert numbers[6] == 3.0
    assert bo.get(f"/api/batch/results/{job}?format=csv").status_code == 400
    told = bo.get(f"/api/batch/jobs/{job}").json()
    assert told["failures"] == [{"reason": "the input length exceeds the context length", "items": 1}]


def test_failed_texts_again(bo, bees):
    """`retry` lets them go on."""
    job = make(["a", "bad"], owner=Owner(bees))
    turn(job, FakeGateway(bad=frozenset({"bad"})))
    assert bo.post(f"/api/batch/jobs/{job}/retry").json()["state"] == "in_progress"
    turn(job, FakeGateway())
    assert bo.post(f"/api/batch/jobs/{job}/retry").status_code == 409


def test_a_full_disk_takes_nothing(bo, settings):
    """507 while the disk is nearly full."""
    settings.ENV = settings.ENV.model_copy(update={"sollol_batch_free_mb": 1 << 40})
    assert embed(bo, "buzz").status_code == 507


class Exchange:
    """One ASGI request to an application behind the bound of uploads."""

    def __init__(self, *pieces, length=None, raises=None):
        headers = [] if length is None else [(b"content-length", str(length).encode())]
        self.scope = {"path": "/api/batch/embed", "headers": headers}
        self.pieces, self.raises, self.read, self.sent = list(pieces), raises, 0, []

    async def receive(self):
        body = self.pieces.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(self.pieces)}

    async def send(self, message):
        self.sent.append(message)

    async def application(self, scope, receive, send):
        if self.raises:
            raise self.raises
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            self.read += len(message["body"])
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 201, "headers": []})

    async def status(self, most):
        await uploads.bounded(self.application, self.scope, self.receive, self.send, most)
        return self.sent[0]["status"]


async def test_too_large_uploads():
    """What says that it is too large is refused unread, and what does not say so as soon as it is."""
    told = Exchange(b"x" * 30, length=30)
    assert (await told.status(20), told.read) == (413, 0)
    untold = Exchange(b"x" * 15, b"x" * 15, b"x" * 15)
    assert (await untold.status(20), untold.read, len(untold.pieces)) == (413, 15, 1)
    assert json.loads(untold.sent[1]["body"])["detail"].startswith("This is more than 0 MiB")
    assert await Exchange(b"x" * 15, b"x" * 5).status(20) == 201


async def test_no_room_for_an_upload():
    """A disk that is full while Django writes the body is 507; any other fault stays one."""
    assert await Exchange(raises=OSError(28, "No space left on device")).status(20) == 507
    with pytest.raises(OSError, match="Input/output"):
        await Exchange(raises=OSError(5, "Input/output error")).status(20)


def test_lines_are_read_one_by_one(monkeypatch):
    """No more than a line of an upload is in memory, and one without an end is refused."""
    from fleet.services.batch import intake  # noqa: PLC0415 (its bound is lowered here alone)

    monkeypatch.setattr(intake, "LONGEST", 10)
    source = io.BytesIO(b'"a"\n"' + b"x" * 1000 + b'"')
    with pytest.raises(jobs.Unfit, match="Line 2 is longer"):
        list(intake.from_lines(source))
    assert source.tell() == 4 + 11
