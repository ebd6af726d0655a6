"""`/v1/files` and `/v1/batches` inside Django: whose rows those are, what a file is read as, what steps do twice."""

import io
import json
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone
from rest_framework.test import APIClient

from fleet.models import BatchFile, BatchItem, BatchJob, FilePart
from fleet.selectors.batch import items
from fleet.services import keys
from fleet.services.batch import files, jobs, orders, packing, reports
from fleet.services.batch.jobs import Owner
from fleet.services.batch.requests import TOLD, Reading

pytestmark = pytest.mark.django_db
ENDPOINT = "/v1/embeddings"


def request(name, **more):
    body = {"model": "nomic", "input": "a"}
    return {"custom_id": name, "method": "POST", "url": ENDPOINT, "body": body} | more


def text(*lines):
    return "".join(f"{json.dumps(one)}\n" for one in lines).encode()


def order(team, content):
    """A job of a team that is to read a file with this content, in parts of 1000 bytes."""
    pieces = [content[n : n + 1000] for n in range(0, len(content), 1000)]
    file = files.store(team, None, "a.jsonl", pieces)
    return orders.order(Owner(team), file, ENDPOINT, "24h", timedelta(hours=24), {})


def caller(team):
    return APIClient(headers={"Authorization": f"Bearer {keys.create(team, 'chat').plain}"})


def test_a_team_sees_its_own_only(bees, cats):
    """What Bo has uploaded and ordered is not there for Cy, by list or by id; nor can he make a batch of it."""
    bo, cy = caller(bees), caller(cats)
    upload = SimpleUploadedFile("a.jsonl", text(request("a")))
    file = bo.post("/v1/files", {"file": upload, "purpose": "batch"}, format="multipart").json()["id"]
    wanted = {"input_file_id": file, "endpoint": ENDPOINT, "completion_window": "24h"}
    batch = bo.post("/v1/batches", wanted, format="json").json()["id"]
    paths = (f"/v1/files/{file}", f"/v1/files/{file}/content", f"/v1/batches/{batch}")
    assert [cy.get(path).status_code for path in paths] == [404, 404, 404]
    assert cy.delete(f"/v1/files/{file}").status_code == cy.post(f"/v1/batches/{batch}/cancel").status_code == 404
    assert cy.post("/v1/batches", wanted, format="json").status_code == 400
    assert [cy.get(path).json()["data"] for path in ("/v1/files", "/v1/batches")] == [[], []]
    assert [one["id"] for one in bo.get("/v1/batches").json()["data"]] == [batch]


def test_nobody_comes_in_beside_the_data_plane():
    """Without a key there is nothing, unless the data plane has let the caller in."""
    answer = APIClient().get("/v1/files")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_a_file_comes_back_as_it_was(bees):
    """Byte for byte, over parts that end anywhere, and a deleted one leaves no part."""
    content = bytes(range(256)) * 20
    file = files.store(bees, None, "a", [content[:7], content[7:3000], content[3000:]])
    assert (b"".join(files.content(file)), file.size) == (content, len(content))
    files.delete(file)
    assert not FilePart.objects.exists()


def test_an_upload_that_breaks_off_leaves_nothing(bees):
    """Neither a file nor parts of one."""

    def pieces():
        yield b"a"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        files.store(bees, None, "a", pieces())
    assert not BatchFile.objects.exists()
    assert not FilePart.objects.exists()


def test_requests_become_items_once(bees):
    """A step that is run twice, or goes on where another was stopped, adds each request once, in order."""
    names = [f"n{n}" for n in range(2500)]
    job = order(bees, text(*map(request, names)))
    stopped = Reading(ENDPOINT, files.opened(BatchFile.objects.get()))
    jobs.add(job, [one for one, _ in zip(stopped, range(1000), strict=False)])
    assert orders.read_file(job.pk) == "2500 requests"
    assert orders.read_file(job.pk) == "there is nothing to read"
    assert list(items(job).values_list("custom_id", flat=True)) == names
    job.refresh_from_db()
    assert (job.state, job.model, job.total) == ("in_progress", "nomic", 2500)


def test_what_is_wrong_late_leaves_no_items(bees):
    """A fault behind a thousand good requests fails the batch whole."""
    job = order(bees, text(*(request(f"n{n}") for n in range(1500)), request("n3")))
    orders.read_file(job.pk)
    job.refresh_from_db()
    assert (job.state, job.total, BatchItem.objects.count()) == ("failed", 0, 0)
    assert [(fault["line"], fault["code"]) for fault in job.faults] == [(1501, "duplicate_custom_id")]


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        ("[1]", "invalid_json_line", None),
        (request(""), "invalid_custom_id", "custom_id"),
        (request("a", method="GET"), "invalid_method", "method"),
        (request("a", url="/v1/chat/completions"), "invalid_url", "url"),
        (request("a", body=[]), "invalid_type", "body"),
        (request("a", body={"input": "a"}), "missing_required_parameter", "body.model"),
        (request("a", body={"model": "m"}), "missing_required_parameter", "body.input"),
        (request("a", body={"model": 1, "input": "a"}), "invalid_type", "body.model"),
        (request("a", body={"model": "m", "input": "a", "stream": True}), "invalid_value", "body.stream"),
    ],
)
def test_each_fault_is_named(line, code, param):
    """By line, code and member."""
    content = line.encode() if isinstance(line, str) else text(line)
    reading = Reading(ENDPOINT, io.BytesIO(text(request("fine")) + b"\n" + content))
    assert [one.custom_id for one in reading] == ["fine"]
    assert [(fault.line, fault.code, fault.param) for fault in reading.faults] == [(3, code, param)]


def test_an_empty_file_and_one_of_faults_alone_are_told():
    """The one has a fault without a line; of the other so many are told as somebody may read."""
    empty, full = Reading(ENDPOINT, io.BytesIO(b"\n\n")), Reading(ENDPOINT, io.BytesIO(b"{\n" * 1000))
    assert list(empty) == list(full) == []
    assert [fault.code for fault in empty.faults] == ["empty_file"]
    assert len(full.faults) == TOLD


def test_what_was_not_done_is_told_by_the_end_of_the_batch(bees):
    """An expired batch has its answers in one file, and in the other why the rest has none."""
    job = order(bees, text(request("a"), request("b")))
    orders.read_file(job.pk)
    BatchItem.objects.filter(custom_id="a").update(state="done", status=200, result=packing.pack_text(b"{}"))
    BatchJob.objects.filter(pk=job.pk).update(completed=1, expires_at=timezone.now())
    job.refresh_from_db()
    jobs.settle(job)
    assert job.state == "expired"
    shown = caller(bees).get(f"/v1/batches/{job.public_id}").json()
    assert (shown["status"], shown["request_counts"]) == ("expired", {"total": 2, "completed": 1, "failed": 0})
    assert {shown["output_file_id"], shown["error_file_id"]} == set(
        BatchFile.objects.exclude(job=None).values_list("public_id", flat=True)
    )
    [done], [rest] = (
        list(map(json.loads, b"".join(report(job)).splitlines())) for report in (reports.output, reports.errors)
    )
    assert (done["custom_id"], done["response"]["body"]) == ("a", {})
    assert (rest["custom_id"], rest["response"], rest["error"]["code"]) == ("b", None, "batch_expired")


def test_a_deleted_file_fails_its_batch(bees):
    """A batch whose file goes before it was read says so."""
    job = order(bees, text(request("a")))
    files.delete(BatchFile.objects.get())
    orders.read_file(job.pk)
    job.refresh_from_db()
    assert (job.state, job.faults[0]["code"]) == ("failed", "file_not_found")
