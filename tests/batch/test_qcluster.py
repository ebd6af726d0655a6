"""Jobs on real workers: whatever is killed in the middle, nothing is lost, nothing twice, and errors are told."""

import json
import os
import signal

import pytest

from simulator import node_in_thread
from simulator.embedding import embed
from simulator.wire import float32_list
from tests.batch.processes import Place, own_database, until

pytestmark = pytest.mark.timeout(300)

MODEL = "nomic-embed-text:latest"
#: Numbers in a vector: as many as a model makes take the simulator long.
WIDTH = 64
TEXTS = [f"text number {number} of the bees" for number in range(200)]
#: The place of a text that is too long for the model where nothing is cut.
BAD = 137


@pytest.fixture
def ant():
    with node_in_thread("gpu-24gb", name="ant", speed=1.0, models=[MODEL], prefill_rate=160.0, load_fixed=0.0) as node:
        yield node


@pytest.fixture
def bee():
    with node_in_thread("gpu-24gb", name="bee", speed=1.0, models=[MODEL], prefill_rate=60.0, load_fixed=0.0) as node:
        yield node


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def database(request):
    if request.param == "sqlite":
        yield {}
        return
    with own_database(request.getfixturevalue("postgresql_url")) as url:
        yield {"DATABASE_URL": url}


def vector_of(node, text):
    model = node.library.find(MODEL)
    return float32_list(embed(model.digest, text, model.spec.embedding_length, WIDTH)).decode()


def test_killed_in_the_middle(tmp_path, database, ant, bee):
    """A worker is killed, then a node: every text is done once and right, and the bad one alone has failed."""
    place = Place(tmp_path, [ant, bee], {"SOLLOL_BATCH_LEASE_S": "3", "SOLLOL_BATCH_FREE_MB": "0", **database})
    place.prepare()
    texts = [*TEXTS[:BAD], "word " * 2000, *TEXTS[BAD + 1 :]]
    with place.running() as (_, worker), place.client() as client:
        answer = client.post(
            "/api/batch/embed", json={"model": MODEL, "texts": texts, "truncate": False, "dimensions": WIDTH}
        )
        assert answer.status_code == 201, answer.text
        one = answer.json()["id"]
        until(client, one, lambda job: job["completed"] >= 20, "begun")
        os.kill(worker.busy(), signal.SIGKILL)
        until(client, one, lambda job: job["completed"] >= 90, "gone on")
        bee.loop.call_soon_threadsafe(bee.kill)
        job = until(client, one, lambda job: job["state"] == "completed", "completed", 90)
        assert (job["completed"], job["failed"], job["total"]) == (199, 1, 200)
        assert job["failures"] == [{"reason": "the input length exceeds the context length", "items": 1}]
        lines = client.get(f"/api/batch/results/{one}").text.splitlines()
    assert len(lines) == len(texts)
    for number, line in enumerate(lines):
        if number == BAD:
            assert json.loads(line)["error"] == {"status": 400, "message": job["failures"][0]["reason"]}
        else:
            assert line == f'{{"index":{number},"embedding":{vector_of(ant, texts[number])}}}'


def test_everything_is_killed(tmp_path, ant, bee):
    """Gateway and worker are killed and started again: the schedule finds the job, and it goes on by itself."""
    place = Place(tmp_path, [ant, bee], {"SOLLOL_BATCH_LEASE_S": "3", "SOLLOL_BATCH_FREE_MB": "0"})
    place.prepare()
    with place.running() as (gateway, worker), place.client() as client:
        one = client.post("/api/batch/embed", json={"model": MODEL, "texts": TEXTS, "dimensions": WIDTH}).json()["id"]
        before = until(client, one, lambda job: job["completed"] >= 20, "begun")
        worker.kill()
        gateway.process.kill()
    asked = sum(node.record.requests["/api/embed"] for node in (ant, bee))
    with place.running(), place.client() as client:
        job = until(client, one, lambda job: job["state"] == "completed", "completed", 150)
        assert (job["completed"], job["failed"]) == (len(TEXTS), 0)
        assert before["state"] == "in_progress"
        assert sum(node.record.requests["/api/embed"] for node in (ant, bee)) > asked
        lines = client.get(f"/api/batch/results/{one}").text.splitlines()
    assert [json.loads(line)["index"] for line in lines] == list(range(len(TEXTS)))
    assert all(f'"embedding":{vector_of(ant, text)}}}' in line for text, line in zip(TEXTS, lines, strict=True))
