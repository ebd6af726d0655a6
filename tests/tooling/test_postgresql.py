"""The same project on PostgreSQL."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.tooling.stack import ROOT, environment

pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(300)]

#: Tests whose outcome depends on the database most: constraints, locks, bulk writes.
DEPENDENT = (
    "test_constraints.py",
    "test_revision.py",
    "test_snapshot.py",
    "test_keys.py",
    "test_nodes.py",
    "test_recorder.py",
    "test_quotas.py",
    "test_strategies.py",
    "test_learning.py",
    "test_usage.py",
    "test_rollups.py",
    "test_persistence.py",
    "test_migrations.py",
    "test_openai_files.py",
)

#: A second node with the first one's name in other letters.
DOUBLE = """
CREATE TEMPORARY TABLE double AS SELECT * FROM fleet_node;
UPDATE double SET id = id + 1, name = 'ANT', url = 'http://10.0.0.2:11434';
INSERT INTO fleet_node SELECT * FROM double;
"""


@pytest.fixture
def own_url(postgresql_url: str) -> Iterator[str]:
    """A database of this test's own."""
    name = f"sollol_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield postgresql_url.rpartition("/")[0] + f"/{name}"
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def run(folder: Path, url: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(folder, 8000, DATABASE_URL=url),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_migrations_and_round_trips(tmp_path: Path, own_url: str) -> None:
    """All migrations run, the checks pass, the administrator and nodes are kept, and names stay unique in any case."""
    run(tmp_path, own_url, "manage.py", "migrate", "-v", "0")
    run(tmp_path, own_url, "manage.py", "check", "--database", "default")
    assert run(tmp_path, own_url, "manage.py", "ensure_admin")
    assert "added ant" in run(tmp_path, own_url, "manage.py", "seed_nodes", "ant=10.0.0.1?slots=4&label.rack=a1")
    assert "kept  ant" in run(tmp_path, own_url, "manage.py", "seed_nodes", "other=10.0.0.1")
    with psycopg.connect(own_url) as connection:
        assert connection.execute("SELECT name, slots, labels ->> 'rack' FROM fleet_node").fetchall() == [
            ("ant", 4, "a1")
        ]
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(DOUBLE)


def test_fleet_tests_hold(tmp_path: Path, own_url: str) -> None:
    """The fleet's tests that depend on the database most hold on PostgreSQL as well."""
    chosen = [str(path) for name in DEPENDENT if (path := ROOT / "tests" / "fleet" / name).exists()]
    assert chosen
    assert " passed" in run(tmp_path, own_url, "-m", "pytest", "-p", "no:cacheprovider", *chosen)
