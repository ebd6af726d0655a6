"""A SQLite installation moves to PostgreSQL: whole, or not at all."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import sql

from fleet.management.sightings import running
from tests.tooling.stack import ROOT, environment, free_port, wait_until

pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(300), pytest.mark.xdist_group("move")]

HISTORY = 2500

#: In a process of its own: a row of everything, a longer history, values that are easily changed on the way.
FILL = f"""
import django
django.setup()
from datetime import UTC, datetime
from django.contrib.admin.models import LogEntry
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
from django_q.models import OrmQ, Task
from fleet.models import *
from fleet.models import BatchFile, BatchItem, BatchLane, FilePart, LearnedNode, RollupMark, ScheduledRun
from fleet.services import keys
from tests.fleet.conftest import populate

settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # in no time
call_command("migrate", verbosity=0)
for number in range(3):
    node = populate(number)
moment = datetime(2026, 3, 29, 1, 59, 59, 999_999, tzinfo=UTC)
odd = {{"z": 1e16, "a": [1.0, 0.1, 1e-7, -0.0, None, True, "\\t\\\\.\\"ä🐝"], "": {{}}}}
record = RequestRecord.objects.first()
record.pk, record.decision, record.error, record.started_at = None, odd, "\\\\N\\t\\n\\r\\\\.", moment
record.request_id, record.total_ms = "odd", 0.1 + 0.2
record.save()
row = {{field.attname: getattr(record, field.attname) for field in RequestRecord._meta.concrete_fields[2:]}}
RequestRecord.objects.bulk_create(
    [RequestRecord(request_id=f"many{{number}}", **row) for number in range({HISTORY})], batch_size=500
)
RequestRecord.objects.filter(request_id="many{HISTORY - 1}").delete()
job = BatchJob.objects.create(team=Team.objects.first(), model="m", parameters=odd, marks=[[1.5, 2]])
BatchItem.objects.create(job=job, number=0, body="ä\\t\\\\x41", result=bytes(range(256)), state="done")
BatchItem.objects.create(job=job, number=2**40, body="", result=None, due_at=moment)
BatchLane.objects.create(job=job, number=0, until=moment)
file = BatchFile.objects.create(name="in.jsonl", size=3)
FilePart.objects.create(file=file, number=0, data=b"\\0\\xff\\\\x")
LearnedNode.objects.create(node=node, alpha=0.1, seen=2**40, updated_at=moment)
RollupMark.objects.create(done=record.pk, seen=record.pk, seen_at=moment)
ScheduledRun.objects.create(name="sweep", ended_at=moment, seconds=0.1, good=True)
ada = User.objects.create_superuser("ada", password="a long enough password", last_name="O'Hara ä")
ada.user_permissions.add(Permission.objects.get(codename="view_node"))
LogEntry.objects.create(user=ada, content_type=ContentType.objects.get_for_model(Node), object_id="1", action_flag=1)
Task.objects.create(id="t" * 32, name="t", func="f", args=(1, {{"a": b"x"}}), started=moment, stopped=moment)
OrmQ.objects.create(key="sollol", payload="signed", lock=moment)
session = SessionStore()
session["who"] = "ada"
session.save()
print(keys.create(Team.objects.first(), "old", ["inference", "manage"]).plain)
"""


def same(text: str) -> float:
    """PostgreSQL writes a number in JSON in its own way."""
    return float(text) + 0.0


@dataclass
class Installation:
    """A filled data folder, the address of its key's plain text, and a migrated, empty PostgreSQL database."""

    folder: Path
    key: str
    server: str
    template: str

    @contextmanager
    def target(self) -> Iterator[str]:
        """A migrated database of a test's own."""
        name = f"move_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(self.template))
            )
            try:
                yield f"{self.server.rpartition('/')[0]}/{name}"
            finally:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def environment(self, port: int, **more: str) -> dict[str, str]:
        django = {"DJANGO_SETTINGS_MODULE": "sollol_site.settings", "SOLLOL_ANONYMOUS": "deny"}
        return environment(self.folder, port, **django, **more)

    def started(self, *arguments: str, port: int = 8000, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=self.environment(port, **more), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, *arguments: str, code: int = 0, **more: str) -> str:
        process = self.started(*arguments, port=8000, **more)
        output = process.communicate(timeout=120)[0]
        assert process.returncode == code, output
        return output

    def move(self, url: str, code: int = 0) -> str:
        return self.run("manage.py", "move_to_postgresql", "--to", url, code=code)

    def dump(self, **more: str) -> list[str]:
        """All rows, people's by natural key: independent of what the move itself compares."""
        text = self.run("manage.py", "dumpdata", "--natural-foreign", "--natural-primary", code=0, **more)
        return sorted(json.dumps(row, sort_keys=True) for row in json.loads(text, parse_int=float, parse_float=same))

    @property
    def database(self) -> Path:
        return self.folder / "sollol.sqlite3"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, postgresql_url: str) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("move"), "", postgresql_url, "template0")
    made.key = made.run("-c", FILL).split()[-1]
    with made.target() as url:
        made.run("manage.py", "migrate", "-v", "0", code=0, DATABASE_URL=url)
        made.template = url.rpartition("/")[2]
        yield made


@pytest.fixture(scope="module")
def moved(installation: Installation) -> Iterator[tuple[str, str]]:
    """The address that it has moved to, and what was told."""
    with installation.target() as url:
        yield url, installation.move(url)


def last_id(database: Path) -> int:
    with closing(sqlite3.connect(database)) as file:
        row = file.execute("SELECT seq FROM sqlite_sequence WHERE name = 'fleet_requestrecord'").fetchone()
    return int(row[0])


def filled(url: str) -> tuple[int, ...]:
    """Rows of some tables, among them the first and last that are copied."""
    names = ("auth_user", "auth_group", "fleet_node", "fleet_requestrecord", "fleet_filepart")
    query = sql.SQL("SELECT count(*) FROM {}")
    with psycopg.connect(url) as connection:
        return tuple(connection.execute(query.format(sql.Identifier(name))).fetchall()[0][0] for name in names)


def test_everything_comes_over(installation: Installation, moved: tuple[str, str]) -> None:
    """All rows are the same, new ones get ids that never were, the next steps are told, and nothing moves twice."""
    url, told = moved
    rows = installation.dump(DATABASE_URL=url)
    assert rows == installation.dump()
    models = {json.loads(row)["model"] for row in rows}
    assert {"fleet.batchitem", "fleet.filepart", "sessions.session", "django_q.task", "admin.logentry"} <= models
    assert sum('"fleet.requestrecord"' in row for row in rows) == HISTORY + 3
    assert "DATABASE_URL" in told
    with psycopg.connect(url) as connection:
        new = connection.execute("SELECT nextval(pg_get_serial_sequence('fleet_requestrecord', 'id'))").fetchone()
    assert new == (last_id(installation.database) + 1,)
    with closing(sqlite3.connect(installation.database)) as file:
        file.execute("SELECT 1 FROM fleet_node").fetchone()
        assert running(installation.folder, installation.database)[0].startswith(f"process {os.getpid()} (")
    assert not running(installation.folder, installation.database)
    assert "not empty" in installation.move(url, code=1)
    assert filled(url)[3] == HISTORY + 3


def test_an_old_key_works(installation: Installation, moved: tuple[str, str]) -> None:
    """A gateway on the new database knows the keys of the old one; while it runs, a move would see it."""
    port = free_port()
    process = installation.started("manage.py", "gateway", port=port, DATABASE_URL=moved[0])
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(f"{url}/healthz"), "the gateway answers")
        nodes = httpx.get(f"{url}/api/fleet/nodes/", headers={"Authorization": f"Bearer {installation.key}"})
        assert nodes.status_code == 200, nodes.text
        assert {"node0", "node1", "node2"} == {node["name"] for node in nodes.json()["results"]}
        wrong = httpx.get(f"{url}/api/fleet/nodes/", headers={"Authorization": f"Bearer {installation.key[:-1]}"})
        assert wrong.status_code == 401, wrong.text
        assert [told.partition(" (")[0] for told in running(installation.folder, installation.database)] == [
            f"process {process.pid}"
        ]
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_it_moves_whole_or_not_at_all(installation: Installation) -> None:
    """A row that PostgreSQL cannot take, and Ctrl-C in the middle, leave the target as it was."""
    with installation.target() as url:
        before = filled(url)
        write(installation.database, "UPDATE fleet_batchitem SET body = 'a' || char(0) WHERE number = 0")
        told = installation.move(url, code=1)
        write(installation.database, "UPDATE fleet_batchitem SET body = 'as before' WHERE number = 0")
        assert "fleet_batchitem, the row with the key 1" in told, told
        assert filled(url) == before
        broken_off(installation, url)
        assert filled(url) == before


def write(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database)) as file, file:
        file.execute(statement)


WAITING = """
SELECT 1 FROM pg_locks
WHERE locktype = 'advisory' AND NOT granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def broken_off(installation: Installation, url: str) -> None:
    """Begin a move, let it wait amid its tables, and press Ctrl-C."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("""
            CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$;
            CREATE TRIGGER wait BEFORE INSERT ON fleet_quota FOR EACH ROW EXECUTE FUNCTION wait();
        """)
        connection.execute("SELECT pg_advisory_lock(1)")
        process = installation.started("manage.py", "move_to_postgresql", "--to", url)
        wait_until(lambda: connection.execute(WAITING).fetchone() or process.poll() is not None, "the move waits")
        assert process.poll() is None, process.communicate()[0]
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=60)[0]
        assert process.returncode == 1, told
        assert "broken off" in told, told


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0).status_code == 200
    except httpx.HTTPError:
        return False
