"""What tests may need from outside: PostgreSQL, Redis, Chromium, Node.js, and a running stack."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from xdist.scheduler import LoadScopeScheduling

from tests.tooling.stack import Stack

ROOT = Path(__file__).resolve().parents[1]
GET_THEM = "install and start it with scripts/services"
OLDEST_NODE = 18
#: Tests of whole processes, browsers and benchmarks: two at a time would take each other's time.
HEAVY = {"batch", "chaos", "conformance", "flows", "tooling"}
REQUIRED = os.environ.get("SOLLOL_REQUIRE_SERVICES") == "1"


class Shared(LoadScopeScheduling):
    """A file's tests run in one process, and all heavy ones in one, one after the other."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::", 1)[0]
        heavy = not HEAVY.isdisjoint(path.split("/")[:2]) and not path.endswith("test_postgresql.py")
        return "heavy" if heavy else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    return Shared(config, log) if config.getvalue("dist") == "loadfile" else None


def missing(what: str, why: object) -> None:
    """Skip for want of a service; where services are required, as in CI, fail instead."""
    told = f"{what} is missing ({' '.join(str(why).split())}); {GET_THEM}"
    if REQUIRED:
        pytest.fail(told, pytrace=False)
    pytest.skip(told)


@pytest.fixture(scope="session")
def postgresql_url() -> str:
    """Address of a PostgreSQL whose user may create databases."""
    url = os.environ.get("SOLLOL_TEST_POSTGRESQL_URL", "postgres://sollol:sollol@127.0.0.1:15432/sollol")
    try:
        psycopg.connect(url, connect_timeout=3).close()
    except psycopg.Error as error:
        missing("PostgreSQL", error)
    return url


@pytest.fixture(scope="session")
def redis_url() -> str:
    """Address of a Redis."""
    url = os.environ.get("SOLLOL_TEST_REDIS_URL", "redis://127.0.0.1:16379/0")
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=3) as client:
            client.ping()
    except redis.RedisError as error:
        missing("Redis", error)
    return url


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium that playwright can drive."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        missing("Chromium", "there is no chromium on the path")
    return str(found)


@pytest.fixture(scope="session")
def node_js() -> str:
    """Path of a Node.js that JavaScript clients run under, with npm beside it."""
    found = shutil.which("node")
    if not found or not shutil.which("npm"):
        missing("Node.js", "there is no node or no npm on the path")
    version = subprocess.run([str(found), "--version"], capture_output=True, text=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0] or 0) < OLDEST_NODE:
        missing("Node.js", f"{version} is older than {OLDEST_NODE}")
    return str(found)


@pytest.fixture(scope="session")
def running_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything that `manage.py up` starts, with its simulated nodes and a fresh database, for the whole run."""
    with Stack.started(tmp_path_factory.mktemp("stack")) as stack:
        yield stack
        stack.stop()
