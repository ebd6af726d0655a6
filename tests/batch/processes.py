"""Gateway and worker as processes, with a database of their own, in front of simulated nodes of the test."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg
from psycopg import sql

from simulator.node import SimulatedNode
from tests.chaos.gateways import Process, gateway, told
from tests.tooling.stack import ROOT, free_port

PREPARE = """
import os, django
os.environ["DJANGO_SETTINGS_MODULE"] = "sollol_site.settings"
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("seed_nodes")
call_command("create_key", "Bees", "--create-team")
"""
#: Seconds between two looks at a job; each is a request to a gateway that has other things to do.
LOOK_S = 0.3
ENDED = ("completed", "failed", "expired", "cancelled")


@contextlib.contextmanager
def own_database(url: str) -> Iterator[str]:
    """A PostgreSQL database for this test alone."""
    name = f"sollol_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield url.rpartition("/")[0] + f"/{name}"
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@dataclass
class Worker:
    """A running `manage.py qcluster`, in a group of processes of its own."""

    process: subprocess.Popen[str]
    log: Path

    def busy(self) -> int:
        """The process id of a worker that has begun a step of a job and not ended it."""
        text = self.log.read_text()
        ids = dict(re.findall(r"(Process-\w+) ready for work at (\d+)", text))
        begun = re.findall(r"(Process-\w+) processing batch \d+ work", text)
        alive = [int(ids[name]) for name in begun if Path(f"/proc/{ids[name]}").exists()]
        assert alive, text
        return alive[-1]

    def kill(self) -> None:
        """Kill the whole cluster without a word."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Place:
    """Where everything of one test is: folder, port, nodes, and settings beside those."""

    folder: Path
    nodes: Sequence[SimulatedNode]
    more: dict[str, str]
    port: int = field(default_factory=free_port)
    key: str = ""

    def prepare(self) -> None:
        """Make the database, with the nodes and a key of team Bees; in one process, as each start takes seconds."""
        done = subprocess.run(
            [sys.executable, "-c", PREPARE], cwd=ROOT, env=told(self.folder, self.port, self.nodes, **self.more),
            capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        [self.key] = re.findall(r"sollol_\S+", done.stdout)

    @contextlib.contextmanager
    def running(self) -> Iterator[tuple[Process, Worker]]:
        with self.gateway() as one, self.worker() as other:
            yield one, other

    @contextlib.contextmanager
    def gateway(self) -> Iterator[Process]:
        with gateway(self.folder, self.nodes, self.port, **self.more) as one:
            yield one

    @contextlib.contextmanager
    def worker(self) -> Iterator[Worker]:
        log = self.folder / f"worker-{uuid.uuid4().hex[:6]}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "manage.py", "qcluster"], cwd=ROOT, stdout=output, stderr=output, text=True,
                env=told(self.folder, self.port, self.nodes, **self.more), start_new_session=True,
            )  # fmt: skip
        one = Worker(process, log)
        try:
            yield one
        finally:
            one.kill()

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=30, trust_env=False)


def job(client: httpx.Client, one: str) -> dict:
    answer = client.get(f"/api/batch/jobs/{one}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def until(client: httpx.Client, one: str, predicate, what: str, seconds: float = 60) -> dict:
    """The job as soon as it is so."""
    deadline = time.monotonic() + seconds
    while not (predicate(seen := job(client, one)) or seen["state"] in ENDED):
        assert time.monotonic() < deadline, f"{what} not within {seconds} s: {seen}"
        time.sleep(LOOK_S)
    assert predicate(seen), seen
    return seen
