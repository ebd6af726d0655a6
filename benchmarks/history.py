"""What lists of a long history cost, beside those of a thousand requests in the same run.

`python -m benchmarks.history` makes two databases, one with 1000 requests and one with `--rows` (100,000), asks each
list of REST and admin a few times in each, and writes benchmarks/results/history.md with `--write`. It uses SQLite
files of its own, and PostgreSQL as well where `--postgresql` gives the address of a server on which it may make
databases. A million rows take some minutes: `--rows 1000000`.

Each team asks for three models, mostly for two kinds of tasks, and each model is on three nodes.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).parent / "results" / "history.md"
FEW, TIMES = 1000, 7
DAYS = 30
TEAMS, NODES, MODELS = 5, 10, 8
TASKS = ("chat", "generation", "embedding", "extraction", "summarization", "analysis", "classification")
#: What is asked, by what it is called. `{model}`, `{middle}` and the like are filled in from the rows.
LISTS = {
    "REST requests, newest": "/api/fleet/requests/",
    "REST requests of a team": "/api/fleet/requests/?team=team1",
    "REST requests of a node": "/api/fleet/requests/?node=node1",
    "REST requests of a node that has none": "/api/fleet/requests/?node=idle",
    "REST requests of a model": "/api/fleet/requests/?model=model1:latest",
    "REST requests that failed": "/api/fleet/requests/?outcome=failed",
    "REST requests before the middle": "/api/fleet/requests/?before={middle}",
    "REST requests, by cursor from the middle": "{cursor}",
    "REST events": "/api/fleet/events/",
    "REST sums by hour": "/api/fleet/rollups/?span=hour",
    "/api/dashboard": "/api/dashboard",
    "/api/stats of a day": "/api/stats",
    "/api/stats of a month": "/api/stats?hours=720",
    "admin requests, newest": "/admin/fleet/requestrecord/",
    "admin requests, page 20": "/admin/fleet/requestrecord/?p=19",
    "admin requests that failed": "/admin/fleet/requestrecord/?outcome__exact=failed",
    "admin requests of a team": "/admin/fleet/requestrecord/?team={team}",
    "admin requests that expired, of which there are none": "/admin/fleet/requestrecord/?outcome__exact=expired",
    "admin requests of a kind of task": "/admin/fleet/requestrecord/?task=extraction",
    "admin requests of a kind that there is none of": "/admin/fleet/requestrecord/?task=transcription",
    "admin, search of an id": "/admin/fleet/requestrecord/?q={id}",
    "admin, search of what there is not": "/admin/fleet/requestrecord/?q=nothing-of-that-name",
    "admin, search of a model": "/admin/fleet/requestrecord/?q=model1:latest",
    "admin node events": "/admin/fleet/nodeevent/",
}
DECISION = json.dumps(
    {
        "strategy": "fastest", "node": "node1", "reason": "fastest", "score_s": 1.25, "rejected": {"memory": 2},
        "best": [
            {"node": f"node{i}", "cost_s": 1.2 + i, "starts_now": True, "condition": "warm",
             "terms": {"prompt": 0.2, "output": 0.9, "wait": 0.0, "load": 0.1}}
            for i in range(3)
        ],
    }
)  # fmt: skip


# In the process that has one database


def fill(rows: int) -> dict[str, Any]:
    """Make so many requests of a month, and what belongs to them; returns what the lists' addresses need."""
    from django.contrib.auth.models import User  # noqa: PLC0415 (wants Django to be set up, here and below)
    from django.db import connection, transaction  # noqa: PLC0415
    from django.utils import timezone  # noqa: PLC0415

    from fleet.models import Node, NodeEvent, RequestRecord, Team  # noqa: PLC0415
    from fleet.services.recording import Table  # noqa: PLC0415

    chance, now = random.Random(1), timezone.now()
    User.objects.create_superuser("ada", password="not used")  # noqa: S106 (nobody can reach it)
    teams = [Team.objects.create(name=f"team{i}") for i in range(TEAMS)]
    nodes = [Node.objects.create(name=f"node{i}", url=f"http://10.0.0.{i + 1}:11434") for i in range(NODES)]
    Node.objects.create(name="idle", url="http://10.0.1.1:11434")
    table, zoned = Table(RequestRecord), connection.features.supports_timezones
    for first in range(0, rows, 10_000):
        batch = []
        for number in range(first, min(first + 10_000, rows)):
            at = now - timedelta(seconds=DAYS * 86_400 * (rows - number) / rows)
            when = at if zoned else str(at.astimezone(UTC).replace(tzinfo=None))
            owner, chosen = chance.randrange(TEAMS), chance.randrange(3)
            team, model = teams[owner], (owner + chosen) % MODELS
            node = nodes[(model + chance.randrange(3)) % NODES]
            task = TASKS[(owner + chosen + (chance.random() < 0.3)) % len(TASKS)]
            failed = chance.random() < 0.01
            total = chance.lognormvariate(7.0, 1.0)
            batch.append(
                (
                    f"{number:024x}", when, "/api/chat", f"model{model}:latest",
                    task, "low", chance.randrange(1, 11), True, "failed" if failed else "served",
                    503 if failed else 200, team.pk, team.name, "abcdefgh", node.pk, node.name, 1, 0, total * 0.1,
                    total * 0.3, total, chance.randrange(10, 2000), chance.randrange(1, 800), "", DECISION,
                )
            )  # fmt: skip
        with transaction.atomic():
            table.insert(batch)
    NodeEvent.objects.bulk_create(
        [
            NodeEvent(node=chance.choice(nodes), at=now - timedelta(minutes=i), kind=("up", "down")[i % 2])
            for i in range(rows // 100)
        ],
        batch_size=500,
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    middle = now - timedelta(days=DAYS / 2)
    return {"team": teams[1].pk, "id": f"{rows // 2:024x}", "middle": middle.strftime("%Y-%m-%dT%H:%M:%SZ")}


def roll_up() -> float:
    """Add up all of it; returns seconds."""
    from django.utils import timezone  # noqa: PLC0415

    from fleet.models import RollupMark  # noqa: PLC0415
    from fleet.services import rollups  # noqa: PLC0415

    rollups.roll_up()
    RollupMark.objects.update(seen_at=timezone.now() - timedelta(seconds=60))
    begin = time.perf_counter()
    rollups.roll_up(seconds=600.0)
    return time.perf_counter() - begin


def measured(client: Any, address: str) -> float:
    """The median of a few calls, in milliseconds."""
    times = []
    for _ in range(TIMES):
        begin = time.perf_counter()
        answer = client.get(address)
        times.append((time.perf_counter() - begin) * 1000)
        assert answer.status_code == 200, (address, answer.status_code)
    return statistics.median(times)


def inside(rows: int) -> None:
    """Fill this process's database and print what the lists cost, as JSON."""
    import django  # noqa: PLC0415

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sollol_site.settings")
    django.setup()
    from django.contrib.auth.models import User  # noqa: PLC0415
    from django.core.management import call_command  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    begin = time.perf_counter()
    known = fill(rows)
    filled = time.perf_counter() - begin
    summed = roll_up()
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.get(username="ada"))
    page = client.get(f"/api/fleet/requests/?before={known['middle']}").json()["next"]
    known["cursor"] = page.partition("localhost")[2] if page else "/api/fleet/requests/"
    found = {}
    for name, address in LISTS.items():
        client.get(address.format(**known))
        found[name] = measured(client, address.format(**known))
    print(json.dumps({"filled_s": filled, "rolled_up_s": summed, "lists": found}))


# In the process that compares


def run(rows: int, folder: Path, url: str = "") -> dict[str, Any]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SOLLOL_", "DATABASE_URL"))}
    env |= {"SOLLOL_DATA_DIR": str(folder), "SOLLOL_LOG_LEVEL": "ERROR"} | ({"DATABASE_URL": url} if url else {})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.history", "--inside", str(rows)],
        cwd=ROOT, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@contextmanager
def database(server: str) -> Iterator[str]:
    """A database of this run's own on a PostgreSQL server."""
    import psycopg  # noqa: PLC0415 (only where it is asked for)

    name = f"sollol_history_{os.getpid()}_{time.monotonic_ns()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[call-overload]  # a name of ours
        try:
            yield f"{server.rpartition('/')[0]}/{name}"
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')  # type: ignore[call-overload]  # as above


def compared(kind: str, rows: int, one: Callable[[int], dict[str, Any]]) -> str:
    few, many = one(FEW), one(rows)
    pace = rows / many["rolled_up_s"]
    lines = [
        f"## {kind}\n",
        f"{rows:,} requests were written in {many['filled_s']:.0f} s, and added up at {pace:,.0f} a second.\n",
        f"| list | {FEW:,} requests | {rows:,} requests | factor |",
        "|---|---:|---:|---:|",
    ]
    for name, before in few["lists"].items():
        after = many["lists"][name]
        lines.append(f"| {name} | {before:.0f} ms | {after:.0f} ms | {after / before:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="Requests in the long history.")
    parser.add_argument("--postgresql", default="", metavar="URL", help="A server on which databases may be made.")
    parser.add_argument("--write", action="store_true", help=f"Write {RESULT.relative_to(ROOT)}.")
    parser.add_argument("--inside", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        inside(options.inside)
        return

    def on_sqlite(rows: int) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            return run(rows, Path(folder))

    def on_postgresql(rows: int) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder, database(options.postgresql) as url:
            return run(rows, Path(folder), url)

    parts = [compared("SQLite", options.rows, on_sqlite)]
    if options.postgresql:
        parts.append(compared("PostgreSQL", options.rows, on_postgresql))
    head = (
        f"# Lists of a long history\n\nMedians of {TIMES} calls through Django, without the network, on "
        f"{os.cpu_count()} cores, {datetime.now(UTC):%Y-%m-%d}. Written by `python -m benchmarks.history --rows "
        f"{options.rows}{' --postgresql …' if options.postgresql else ''} --write`.\n\n"
    )
    print(text := head + "\n".join(parts))
    if options.write:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
