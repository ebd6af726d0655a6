"""Steps on a Dask cluster of processes of its own, one of which is killed in the middle."""

import importlib
import json
import os
import signal
import subprocess
import sys

import pytest

from simulator import node_in_thread
from tests.batch.processes import Place, job, own_database, until
from tests.batch.test_qcluster import MODEL, TEXTS, WIDTH, vector_of
from tests.chaos.gateways import told
from tests.conftest import REQUIRED
from tests.tooling.stack import ROOT, free_port, wait_until

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def ant():
    with node_in_thread("gpu-24gb", name="ant", speed=1.0, models=[MODEL], prefill_rate=160.0, load_fixed=0.0) as node:
        yield node


@pytest.fixture(scope="module")
def dask():
    """The package of Dask's clusters, which requirements/dev.txt has and base.txt has not."""
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        reason = f"Dask is missing ({error}); install it with pip install -r requirements/dask.txt"
        pytest.fail(reason, pytrace=False) if REQUIRED else pytest.skip(reason)


@pytest.fixture
def database(postgresql_url):
    """PostgreSQL, as workers on other machines need it."""
    with own_database(postgresql_url) as url:
        yield {"DATABASE_URL": url}


def processes(cluster):
    """The process ids of Dask's workers."""
    return {nanny.pid for nanny in cluster.workers.values()}


@pytest.mark.postgresql
def test_a_worker_of_dask_is_killed(tmp_path, dask, database, ant):
    """The other goes on: each text is done once and right, and django-q2's queue has seen none of it."""
    address = f"tcp://127.0.0.1:{free_port()}"
    settings = {"SOLLOL_BATCH_ENGINE": "dask", "SOLLOL_DASK_SCHEDULER": address, "SOLLOL_BATCH_LEASE_S": "3"}
    place = Place(tmp_path, [ant], {**settings, "SOLLOL_BATCH_FREE_MB": "0", **database})
    place.prepare()
    env = told(place.folder, place.port, place.nodes, **place.more)
    port = int(address.rpartition(":")[2])
    with (
        dask.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", scheduler_port=port,
            dashboard_address=None, env=env,
        ) as cluster,
        place.gateway(),
        place.client() as client,
    ):  # fmt: skip
        answer = client.post("/api/batch/embed", json={"model": MODEL, "texts": TEXTS, "dimensions": WIDTH})
        assert answer.status_code == 201, answer.text
        one = answer.json()["id"]
        until(client, one, lambda job: job["completed"] >= 20, "begun")
        before = processes(cluster)
        os.kill(min(before), signal.SIGKILL)
        done = until(client, one, lambda job: job["state"] == "completed", "completed", 90)
        assert (done["completed"], done["failed"]) == (len(TEXTS), 0)
        wait_until(lambda: len(processes(cluster) - {None}) == 2 and processes(cluster) != before, "a new worker")
        lines = client.get(f"/api/batch/results/{one}").text.splitlines()
    assert [json.loads(line)["index"] for line in lines] == list(range(len(TEXTS)))
    assert all(f'"embedding":{vector_of(ant, text)}}}' in line for text, line in zip(TEXTS, lines, strict=True))


def test_a_scheduler_that_is_away_fails_nobody(tmp_path, dask, ant):
    """A job is taken while Dask is away, waits for the sweep, and the log says why."""
    port = free_port()
    settings = {"SOLLOL_BATCH_ENGINE": "dask", "SOLLOL_DASK_SCHEDULER": f"tcp://127.0.0.1:{port}"}
    place = Place(tmp_path, [ant], {**settings, "SOLLOL_BATCH_FREE_MB": "0"})
    place.prepare()
    with place.gateway(), place.client() as client:
        answer = client.post("/api/batch/embed", json={"model": MODEL, "texts": TEXTS[:5], "dimensions": WIDTH})
        assert answer.status_code == 201, answer.text
        one = answer.json()["id"]
        assert job(client, one)["state"] == "in_progress"
    assert "Dask's scheduler cannot be reached" in next(tmp_path.glob("gateway-*.log")).read_text()


def test_nothing_of_dask_is_imported_unasked():
    """Who does not ask for it needs not have it."""
    code = (
        "import sys, sollol_site.asgi, fleet.tasks.batch; from fleet.services.batch.engine import engine; engine(); "
        "sys.exit(any(name.partition('.')[0] in ('dask', 'distributed') for name in sys.modules))"
    )
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "sollol_site.settings"}
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env).returncode == 0
