"""Batch jobs on unequal simulated nodes: wall time beside the ideal, what people feel of it, and 100,000 texts.

Everything is as operators run it: gateway, `manage.py qcluster`, SQLite, real sockets. The ideal is the number of texts
over the sum of the nodes' rates, each measured by asking that node directly.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import httpx

from benchmarks.batch_nodes import CHAT, EMBED, WIDTH
from benchmarks.overhead import ROOT, family, free_ports, running, wait_for
from simulator.embedding import embed
from simulator.text import count_tokens
from simulator.wire import float32_list

RESULTS = ROOT / "benchmarks" / "results" / "batch.md"
COUNTS = (1, 2, 4, 8)
#: Texts a second that the nodes are made for, in the order in which they come: the first alone, the first two, ...
RATES = (100.0, 50.0, 80.0, 20.0, 60.0, 40.0, 30.0, 10.0)
#: Seconds that a direct measurement of a node takes about.
ALONE_S = 3.0
WORDS = ("honey", "wax", "comb", "queen", "drone", "hive", "nectar", "pollen", "swarm", "sting", "wing", "clover")
MANY = 100_000
PREPARE = """
import os, django
os.environ["DJANGO_SETTINGS_MODULE"] = "sollol_site.settings"
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("seed_nodes")
call_command("create_key", "Bees", "--create-team")
"""


def text(number: int) -> str:
    """A text of some thirty words."""
    draw = random.Random(number)
    return f"{number} " + " ".join(draw.choice(WORDS) for _ in range(28))


class Wall(NamedTuple):
    """One job: seconds from the order to the last result, and what they would ideally be."""

    nodes: int
    texts: int
    rates: Sequence[float]
    seconds: float
    served: Sequence[int]

    @property
    def ideal(self) -> float:
        return self.texts / sum(self.rates)


@dataclass
class Memory(threading.Thread):
    """Most memory that each of some processes has had resident, in MiB, and what it had at a tenth of the way."""

    pids: dict[str, int]
    most: dict[str, float] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        while not self.stop.wait(0.5):
            for name, mib in self.now().items():
                self.most[name] = max(self.most.get(name, 0.0), mib)

    def now(self) -> dict[str, float]:
        return {name: max(map(resident, descendants(pid))) for name, pid in self.pids.items()}


def descendants(pid: int) -> list[int]:
    """A process and all that come from it."""
    with contextlib.suppress(OSError):
        return [pid, *(one for child in family(pid)[1:] for one in descendants(child))]
    return []


def resident(pid: int) -> float:
    with contextlib.suppress(OSError):
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0
    return 0.0


@dataclass
class Fleet:
    """A running gateway with worker and nodes; `ports` are those of the nodes."""

    client: httpx.Client
    ports: Sequence[int]
    gateway: int
    worker: int

    def job(self, texts: Sequence[str]) -> tuple[str, float]:
        """Order a job; its id and the moment of the order."""
        lines = "".join(json.dumps({"text": one}) + "\n" for one in texts)
        began = time.monotonic()
        path = f"/api/batch/embed?model={EMBED}"
        answer = self.client.post(path, content=lines, headers={"Content-Type": "application/x-ndjson"})
        answer.raise_for_status()
        return answer.json()["id"], began

    def look(self, one: str) -> dict:
        return self.client.get(f"/api/batch/jobs/{one}").raise_for_status().json()

    def ended(self, one: str, seconds: float = 600) -> dict:
        until = time.monotonic() + seconds
        while (told := self.look(one))["state"] not in ("completed", "failed"):
            if time.monotonic() > until:
                sys.exit(f"error: the job has not ended: {told}")
            time.sleep(0.25)
        if told["state"] != "completed" or told["failed"]:
            sys.exit(f"error: the job has failed: {told}")
        return told


@contextlib.contextmanager
def fleet(folder: Path, rates: Sequence[float]) -> Iterator[Fleet]:
    port, *ports = free_ports(len(rates) + 1)
    told = {
        "SOLLOL_DATA_DIR": str(folder),
        "SOLLOL_NODES": ",".join(f"n{number}=127.0.0.1:{node}" for number, node in enumerate(ports, 1)),
        "SOLLOL_HOST": "127.0.0.1",
        "SOLLOL_PORT": str(port),
        "SOLLOL_LOG_LEVEL": "WARNING",
        "SOLLOL_BATCH_FREE_MB": "0",
    }
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.batch_nodes", "--ports", *map(str, ports)]
    with running([*command, "--rates", *map(str, rates)], ports[-1], folder / "nodes.log"):
        done = subprocess.run(
            [sys.executable, "-c", PREPARE], cwd=ROOT, env={**os.environ, **told}, check=True, capture_output=True,
            text=True,
        )  # fmt: skip
        [key] = re.findall(r"sollol_\S+", done.stdout)
        url, headers = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {key}"}
        log = folder / "gateway.log"
        with (
            running([sys.executable, "manage.py", "gateway"], port, log, **told) as gateway,
            running([sys.executable, "manage.py", "qcluster"], port, folder / "worker.log", **told) as worker,
            httpx.Client(base_url=url, headers=headers, timeout=120, trust_env=False) as client,
        ):
            wait_for(lambda: len(client.get("/api/tags").json().get("models", ())) > 1, gateway, log)
            yield Fleet(client, ports, gateway.pid, worker.pid)


def alone(port: int, rate: float) -> float:
    """Texts a second of a node that is asked directly, in calls of a second, one after the other."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
        count = max(1, round(rate))
        body = {"model": EMBED, "input": [text(-number) for number in range(count)]}
        client.post("/api/embed", json=body).raise_for_status()  # loads the model
        calls, began = 0, time.monotonic()
        while time.monotonic() - began < ALONE_S:
            client.post("/api/embed", json=body).raise_for_status()
            calls += 1
        return calls * count / (time.monotonic() - began)


def prefill(rates: Sequence[float]) -> list[float]:
    """Prompt tokens a second that make so many texts a second."""
    tokens = statistics.mean(count_tokens(text(number)) for number in range(200))
    return [rate * tokens for rate in rates]


def wall(folder: Path, count: int, seconds: float) -> Wall:
    """A job that should take so many seconds on so many nodes."""
    rates = RATES[:count]
    with fleet(folder, prefill(rates)) as one:
        with ThreadPoolExecutor(count) as pool:
            measured = list(pool.map(alone, one.ports, rates))
        number = round(sum(measured) * seconds)
        before = [served(port) for port in one.ports]
        job, began = one.job([text(n) for n in range(number)])
        one.ended(job)
        row = Wall(
            count,
            number,
            measured,
            time.monotonic() - began,
            [served(port) - was for port, was in zip(one.ports, before, strict=True)],
        )
        print(f"{count} nodes: {row.seconds:.1f} s, {row.seconds / row.ideal:.3f} of the ideal", flush=True)
        return row


def served(port: int) -> int:
    """Calls that a node has been sent."""
    told = httpx.get(f"http://127.0.0.1:{port}/_sim/state", trust_env=False).json()
    return int(told["requests"].get("/api/embed", 0))


def felt(folder: Path, seconds: float) -> dict[str, tuple[float, float]]:
    """The 95th percentile of interactive requests without and with a job running, in ms, by kind."""
    with fleet(folder, prefill(RATES[:4])) as one:
        job, _ = one.job([text(n) for n in range(300)])
        one.ended(job)
        quiet = percentiles(one, seconds)
        job, _ = one.job([text(n) for n in range(round(sum(RATES[:4]) * (seconds + 25)))])
        time.sleep(5)
        busy = percentiles(one, seconds)
        if one.look(job)["state"] != "in_progress":
            sys.exit("error: the job ended before the measurement")
    return {kind: (quiet[kind], busy[kind]) for kind in quiet}


def percentiles(one: Fleet, seconds: float) -> dict[str, float]:
    """Ask at random moments, twice a second of each kind."""
    kinds = {
        "a chat of 16 tokens": ("/api/chat", {"model": CHAT, "stream": False, "options": {"num_predict": 16}}),
        "one text to embed": ("/api/embed", {"model": EMBED, "input": text(7)}),
    }
    kinds["a chat of 16 tokens"][1]["messages"] = [{"role": "user", "content": "What do bees do?"}]
    took: dict[str, list[float]] = {kind: [] for kind in kinds}

    def ask(kind: str) -> None:
        path, body = kinds[kind]
        began = time.monotonic()
        one.client.post(path, json=body, headers={"X-Sollol-Priority": "5"}).raise_for_status()
        took[kind].append((time.monotonic() - began) * 1000)

    draw, until = random.Random(3), time.monotonic() + seconds
    with ThreadPoolExecutor(64) as pool:
        asked = []
        while time.monotonic() < until:
            asked += [pool.submit(ask, kind) for kind in kinds]
            time.sleep(draw.expovariate(2.0))
        for future in asked:
            future.result()
    return {kind: statistics.quantiles(values, n=20)[-1] for kind, values in took.items()}


def many(folder: Path, count: int) -> dict[str, object]:
    """So many short texts on two nodes that take no time: memory, and every vector beside the simulator's own."""
    texts = [f"text {number}" for number in range(count)]
    with fleet(folder, (0.0, 0.0)) as one:
        digest = next(
            row["digest"]
            for row in httpx.get(f"http://127.0.0.1:{one.ports[0]}/api/tags", trust_env=False).json()["models"]
            if row["name"] == EMBED
        )
        memory = Memory({"gateway": one.gateway, "worker": one.worker})
        before = memory.now()
        memory.start()
        job, began = one.job(texts)
        ordered = time.monotonic() - began
        while one.look(job)["completed"] < count / 10:
            time.sleep(0.2)
        early = memory.now()
        one.ended(job)
        done = time.monotonic() - began
        began = time.monotonic()
        wrong = different(one, job, digest, texts)
        read = time.monotonic() - began
        memory.stop.set()
        memory.join()
        size = next(folder.glob("*.sqlite3")).stat().st_size / (1 << 20)
    return {
        "texts": count, "order": ordered, "done": done, "read": read, "wrong": wrong, "before": before, "early": early,
        "most": memory.most, "database": size,
    }  # fmt: skip


def different(one: Fleet, job: str, digest: str, texts: Sequence[str]) -> int:
    """Lines of the results that are not, to the byte, the simulator's known answer at that place."""
    wrong = number = 0
    with one.client.stream("GET", f"/api/batch/results/{job}") as answer:
        for number, line in enumerate(answer.iter_lines(), 1):
            known = float32_list(embed(digest, texts[number - 1], WIDTH)).decode()
            wrong += line != f'{{"index":{number - 1},"embedding":{known}}}'
    return wrong + abs(len(texts) - number)


HEAD = """# Batch jobs on unequal nodes

Embedding jobs over REST (`POST /api/batch/embed`), run by `manage.py qcluster` through the gateway, on SQLite and real
sockets, on simulated nodes of different speeds. Made by `make bench-batch`.

- {conditions}
- *Ideal* is the number of texts over the sum of the nodes' rates, each measured in the same run by asking that node
  directly, in calls of a second. *Wall* is from the order to the end of the job: the upload, the wait for a worker, the
  first small calls and the last ones are part of it.

| nodes | rates, texts/s | texts | ideal, s | wall, s | wall / ideal | calls by node |
|---|---|---|---|---|---|---|
"""

FELT = """
## What people feel

The 95th percentile of interactive requests at random moments, on the first four nodes, without and with a job.

| request | without, ms | with, ms | ratio |
|---|---|---|---|
"""

MASS = """
## {texts:,} short texts

On two nodes that take no time, with vectors of {width} numbers. Ordered in {order:.1f} s, done after {done:.1f} s
({rate:,.0f} a second), read back in {read:.1f} s; the database has {database:.0f} MiB. **Vectors that differ from the
simulator's known answer, to the byte and in order: {wrong}.**

| memory of the largest process, MiB | before | at a tenth of the job | at most |
|---|---|---|---|
"""


def report(walls: Sequence[Wall], people: dict[str, tuple[float, float]], mass: dict, conditions: str) -> str:
    text = HEAD.format(conditions=conditions)
    for row in walls:
        rates, calls = ", ".join(f"{rate:.0f}" for rate in row.rates), ", ".join(map(str, row.served))
        text += f"| {row.nodes} | {rates} | {row.texts:,} | {row.ideal:.1f} | {row.seconds:.1f} "
        text += f"| {row.seconds / row.ideal:.3f} | {calls} |\n"
    text += FELT
    for kind, (quiet, busy) in people.items():
        text += f"| {kind} | {quiet:.0f} | {busy:.0f} | {busy / quiet:.2f} |\n"
    text += MASS.format(width=WIDTH, rate=mass["texts"] / mass["done"], **mass)
    for name in mass["most"]:
        text += f"| {name} | {mass['before'][name]:.0f} | {mass['early'][name]:.0f} | {mass['most'][name]:.0f} |\n"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=40.0, help="Ideal seconds of each job; default 40.")
    parser.add_argument("--nodes", type=int, nargs="+", default=COUNTS, help="Numbers of nodes; default 1 2 4 8.")
    parser.add_argument("--texts", type=int, default=MANY, help="Short texts of the last part; default 100,000.")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    if os.environ.get("DATABASE_URL"):
        sys.exit("error: DATABASE_URL is set, and the benchmark would write to that database")
    with tempfile.TemporaryDirectory(prefix="sollol-batch-") as name:
        folder = Path(name)
        load = os.getloadavg()[0]
        walls = [wall(folder / f"wall-{count}", count, options.seconds) for count in options.nodes]
        people = felt(folder / "felt", options.seconds)
        mass = many(folder / "many", options.texts)
    told = (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores shared with other work (load {load:.1f} before), "
        f"Python {platform.python_version()}"
    )
    told_text = report(walls, people, mass, told)
    options.output.write_text(told_text)
    print(f"\n{told_text}\nwritten to {options.output}")


if __name__ == "__main__":
    main()
