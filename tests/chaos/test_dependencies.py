"""What the gateway depends on goes away while it serves: it goes on, says so, and makes up for it afterwards."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
import pytest
from psycopg import sql
from websockets.sync.client import ClientConnection, connect

from simulator import SimulatedNode, node_in_thread
from tests.chaos.gateways import Process, gateway, seeded, told
from tests.conftest import missing
from tests.fakes.address import CHAT, MESSAGES
from tests.fakes.line import Line, line
from tests.tooling.stack import ROOT, wait_until

BODY = {"model": CHAT, "messages": MESSAGES, "stream": False}
EMBEDDER = "nomic-embed-text:latest"
#: Records that are kept while the database is away.
BOUND = 20
QUIET = {"SOLLOL_PREFILL_S": "0", "SOLLOL_RECORD_BUFFER": str(BOUND)}
FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)


@pytest.fixture(scope="module")
def node() -> Iterator[SimulatedNode]:
    """One slot in which an answer takes a second, so that there are some that run and some that wait."""
    slow = {"parallel": 1, "decode_rate": 40.0, "load_fixed": 0.0, "speed": 1.0}
    with node_in_thread("gpu-24gb", models=[CHAT, EMBEDDER], name="ant", **slow) as one:
        yield one


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, node: SimulatedNode) -> tuple[Path, str]:
    """A data folder that knows the node, and Ada's password."""
    folder = tmp_path_factory.mktemp("made")
    seeded(folder, [node])
    return folder, admin(folder, node)


def admin(folder: Path, node: SimulatedNode, **more: str) -> str:
    """Make Ada's account; returns the password."""
    words = [sys.executable, "manage.py", "ensure_admin"]
    done = subprocess.run(words, cwd=ROOT, env=told(folder, 1, [node], **more), check=True, stdout=subprocess.PIPE)
    return done.stdout.decode().strip()


def elsewhere(url: str, port: int) -> str:
    """The same address behind another port."""
    parts = urlsplit(url)
    user = f"{parts.username}:{parts.password}@" if parts.username else ""
    return urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{port}"))


@contextmanager
def line_to(url: str) -> Iterator[Line]:
    parts = urlsplit(url)
    with line(str(parts.hostname), int(parts.port or 0)) as one:
        yield one


@pytest.fixture
def own_database(postgresql_url: str) -> Iterator[str]:
    name = f"sollol_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield postgresql_url.rpartition("/")[0] + f"/{name}"
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def condition(one: Process) -> dict[str, Any]:
    answer = httpx.get(f"{one.url}/readyz", trust_env=False, timeout=20)
    return {**answer.json(), "code": answer.status_code}


def until(one: Process, what: Callable[[dict[str, Any]], object], words: str) -> dict[str, Any]:
    """Wait for a condition; returns it."""
    wait_until(lambda: what(condition(one)), words, 40.0)
    return condition(one)


def embeds(one: Process, count: int) -> None:
    """So many short requests, all of which are answered."""
    asked = {"model": EMBEDDER, "input": "bees"}
    with httpx.Client(base_url=one.url, trust_env=False, timeout=30) as client:
        assert [client.post("/api/embed", json=asked).status_code for _ in range(count)] == [200] * count


def session(one: Process, password: str) -> str:
    """A cookie of Ada's, who is logged in."""
    with httpx.Client(base_url=one.url, trust_env=False, timeout=30) as client:
        client.get("/admin/login/")
        form = {"username": "admin", "password": password, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
        assert client.post("/admin/login/", data=form).status_code == httpx.codes.FOUND
        return f"sessionid={client.cookies['sessionid']}"


def watching(one: Process, cookie: str) -> ClientConnection:
    address = f"{one.url.replace('http', 'ws')}/ws/dashboard"
    return connect(address, additional_headers={"Cookie": cookie, "Origin": one.url}, max_size=None, proxy=None)


def alerted(viewer: ClientConnection, kind: str, *, gone: bool = False) -> str:
    """Wait until the dashboard shows an alert of this kind, or none any more; its text."""
    for _ in range(200):
        message = json.loads(viewer.recv(timeout=20))
        alerts = (message.get("whole") or message.get("change") or {}).get("alerts")
        found = [alert["text"] for alert in alerts or () if alert["kind"] == kind]
        if found and not gone:
            return str(found[0])
        if gone and alerts is not None and not found:
            return ""
    raise AssertionError(f"no such change of {kind}")


def ends(one: Process, *words: str) -> None:
    """It is told to end, and ends well, having said this."""
    one.terminate()
    code, log = one.ended()
    assert (code, "Traceback" in log) == (0, False), log
    assert all(word in log for word in words), log


def test_the_database_goes_away_and_comes_back(tmp_path: Path, node: SimulatedNode, own_database: str) -> None:
    """Requests are served from the last snapshot; records are kept up to the bound, drops are told, the rest caught up.

    A gateway that ends while the database is away says what is lost, and does not wait for ever.
    """
    seeded(tmp_path, [node], DATABASE_URL=own_database)
    password = admin(tmp_path, node, DATABASE_URL=own_database)
    with (
        line_to(own_database) as way,
        gateway(tmp_path, [node], **QUIET, DATABASE_URL=elsewhere(own_database, way.port)) as one,
    ):
        with watching(one, session(one, password)) as viewer:
            embeds(one, 3)
            until(one, lambda now: not now["unrecorded"], "records that are written")
            way.break_off()
            away = until(one, lambda now: now["database"] == "away", "a database that is away")
            assert (away["code"], away["status"]) == (200, "degraded")
            embeds(one, BOUND + 10)
            kept = condition(one)
            assert (kept["unrecorded"], kept["dropped"]) == (BOUND, 10)
            assert "has been away" in alerted(viewer, "database")
            assert "10 rows" in alerted(viewer, "history")
            way.mend()
            alerted(viewer, "database", gone=True)
        back = until(one, lambda now: now["status"] == "ready" and not now["unrecorded"], "caught up records")
        assert (back["database"], back["dropped"]) == ("ok", 10)
        with psycopg.connect(own_database) as connection:
            assert connection.execute("SELECT count(*) FROM fleet_requestrecord").fetchone() == (3 + BOUND,)
        way.break_off()
        until(one, lambda now: now["database"] == "away", "a database that is away")
        embeds(one, 2)
        ends(one, "2 rows are lost")


def test_redis_goes_away_and_comes_back(made: tuple[Path, str], node: SimulatedNode, redis_url: str) -> None:
    """Neither requests nor sockets notice, those open before nor new ones; it is told while it lasts."""
    folder, password = made
    with (
        line_to(redis_url) as way,
        gateway(folder, [node], **QUIET, REDIS_URL=elsewhere(redis_url, way.port)) as one,
        watching(one, cookie := session(one, password)) as viewer,
        connect(f"ws://127.0.0.1:{one.port}/ws/chat", proxy=None) as talking,
    ):
        assert condition(one)["channels"] == "ok"
        talking.send(json.dumps(BODY))
        assert json.loads(talking.recv(timeout=20))["done"]
        way.break_off()
        away = until(one, lambda now: now["channels"] == "away", "a Redis that is away")
        assert (away["code"], away["status"]) == (200, "degraded")
        embeds(one, 3)
        assert "Redis" in alerted(viewer, "channels")
        talking.send(json.dumps(BODY))
        assert json.loads(talking.recv(timeout=20))["done"]
        with watching(one, cookie) as again:
            assert json.loads(again.recv(timeout=20))["gateway"]
        way.mend()
        alerted(viewer, "channels", gone=True)
        until(one, lambda now: now["status"] == "ready", "a Redis that is back")
        ends(one)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or "mount"
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no file system may be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Take all the room that is left."""
    with path.open("wb", buffering=0) as filler:
        for size in (1 << 16, 1):
            try:
                while filler.write(bytes(size)):
                    pass
            except OSError:
                continue


def test_a_full_disk(tmp_path: Path, small_disk: Path, made: tuple[Path, str], node: SimulatedNode) -> None:
    """Requests are served and their records kept; it is told, and made up for once there is room again."""
    shutil.copytree(made[0], small_disk, dirs_exist_ok=True)
    before = rows(small_disk)
    with gateway(small_disk, [node], logs=tmp_path, **QUIET) as one:
        with watching(one, session(one, made[1])) as viewer:
            embeds(one, 2)
            until(one, lambda now: not now["unrecorded"], "records that are written")
            filler = small_disk / "filler"
            fill(filler)
            embeds(one, BOUND)
            full = until(one, lambda now: now["database"] == "unwritable", "a database that takes nothing")
            assert (full["code"], full["status"]) == (200, "degraded")
            embeds(one, BOUND)
            assert condition(one)["unrecorded"] == BOUND
            assert "taken nothing" in alerted(viewer, "database")
            filler.unlink()
            alerted(viewer, "database", gone=True)
        back = until(one, lambda now: now["status"] == "ready" and not now["unrecorded"], "caught up records")
        assert back["dropped"] >= 1
        assert rows(small_disk) - before == 2 + 2 * BOUND - back["dropped"]
        fill(filler)
        embeds(one, 1)
        ends(one, "database or disk is full")


def rows(folder: Path) -> int:
    with closing(sqlite3.connect(next(folder.glob("*.sqlite3")))) as database:
        return int(database.execute("SELECT count(*) FROM fleet_requestrecord").fetchone()[0])


def test_the_time_of_day_is_set(tmp_path: Path, made: tuple[Path, str], node: SimulatedNode) -> None:
    """An hour ahead and two back: what runs and waits goes on, deadlines hold, and the charts go on by the new time."""
    if FAKETIME is None:
        missing("libfaketime", "there is no libfaketimeMT.so.1")
    folder, clock = tmp_path / "data", tmp_path / "clock"
    shutil.copytree(made[0], folder)
    clock.write_text("+0")
    fake = {"FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    fake["NO_FAKE_STAT"] = "1"  # the times of files are real
    with (
        gateway(folder, [node], **QUIET, LD_PRELOAD=str(FAKETIME), **fake) as one,
        watching(one, session(one, made[1])) as viewer,
        httpx.Client(base_url=one.url, timeout=60, trust_env=False) as client,
    ):
        for hours in (1, -1):
            with client.stream("POST", "/api/chat", json=BODY | {"stream": True}) as running:
                lines = running.iter_lines()
                next(lines)
                clock.write_text(f"{hours:+d}h")
                assert client.post("/api/chat", json=BODY, headers={"X-Sollol-Deadline": "20"}).status_code == 200
                assert json.loads(list(lines)[-1])["done"]
            assert now_of(viewer, hours)["requests_s"] > 0
            assert condition(one)["status"] == "ready"
        until(one, lambda now: not now["unrecorded"], "records that are written")
        ends(one)


def now_of(viewer: ClientConnection, hours: int) -> dict[str, Any]:
    """The figures of this moment, once they are told by a clock that is so many hours ahead."""
    for _ in range(200):
        message = json.loads(viewer.recv(timeout=20))
        summary = (message.get("whole") or message.get("change") or {}).get("summary")
        if summary and abs(message["at"] - time.time() - 3600 * hours) < 600 and summary["requests_s"]:
            return dict(summary)
    raise AssertionError("no figures by the new time")
