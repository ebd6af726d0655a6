"""What joining, splitting and caching embeddings gains: a team with it on beside one with it off, at the same gateway.

Spans of both alternate within one run, so that what else the machine does falls on both. Writes a report with tables.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvloop

from benchmarks.embedding_nodes import MODEL, vector
from benchmarks.overhead import ROOT, free_ports, processor, running, wait_for

RESULTS = ROOT / "benchmarks" / "results" / "embeddings.md"
#: What a call costs a node beside its texts; texts that are cheap beside that, and ones that are dear.
CALL_MS, CHEAP_MS, DEAR_MS = 3.0, 1.0, 8.0
#: Milliseconds for each text on four unequal nodes.
UNEQUAL = [2.0, 4.0, 4.0, 8.0]
LONG = 500
SETUP = """
from fleet.models import PriorityPolicy, Team
from fleet.services.keys import create
keys = []
for on in (False, True):
    team = Team.objects.create(name="On" if on else "Off")
    PriorityPolicy.objects.create(team=team, join_embeddings=on, split_embeddings=on, cache_embeddings=on and CACHE)
    keys.append(create(team, "bench")[1])
print(*keys)
"""


@dataclass
class Side:
    """One team's figures: seconds of each request, and those of all spans together."""

    key: str
    took: list[float] = field(default_factory=list)
    seconds: float = 0.0
    calls: int = 0

    @property
    def rate(self) -> float:
        return len(self.took) / self.seconds

    def ms(self, share: float) -> float:
        return sorted(self.took)[min(len(self.took) - 1, int(share * len(self.took)))] * 1000


@dataclass
class Fleet:
    """A gateway with its nodes; `off` and `on` are the two teams."""

    port: int
    nodes: list[int]
    off: Side
    on: Side

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.off, self.on


@contextmanager
def fleet(texts_ms: list[float], *, cache: bool = False) -> Iterator[Fleet]:
    """A fresh gateway with two teams in front of nodes of these speeds."""
    port, *nodes = free_ports(len(texts_ms) + 1)
    with tempfile.TemporaryDirectory(prefix="sollol-embeddings-") as name:
        folder = Path(name)
        own = {
            "SOLLOL_DATA_DIR": str(folder),
            "SOLLOL_NODES": ",".join(f"n{i}=127.0.0.1:{node}?vram_gb=24" for i, node in enumerate(nodes, 1)),
            "SOLLOL_PORT": str(port),
            "SOLLOL_LOG_LEVEL": "WARNING",
            "SOLLOL_LOG_REQUESTS": "off",
        }

        def manage(*words: str) -> str:
            command = [sys.executable, "manage.py", *words]
            done = subprocess.run(
                command, cwd=ROOT, env=os.environ | own, check=True, stdout=subprocess.PIPE, text=True
            )
            return done.stdout

        command = [sys.executable, "-m", "benchmarks.embedding_nodes", "--ports", *map(str, nodes)]
        command += ["--call-ms", str(CALL_MS), "--text-ms", json.dumps(texts_ms)]
        with running(command, nodes[-1], folder / "nodes.log"):
            manage("migrate", "--verbosity", "0")
            manage("seed_nodes")
            keys = manage("shell", "--verbosity", "0", "-c", SETUP.replace("CACHE", str(cache))).split()
            log = folder / "gateway.log"
            with running([sys.executable, "manage.py", "gateway"], port, log, **own) as gateway:
                one = Fleet(port, nodes, Side(keys[0]), Side(keys[1]))
                wait_for(lambda: asyncio.run(answers(one)), gateway, log)
                yield one


async def answers(one: Fleet) -> bool:
    """Whether the gateway knows the model on every node; so many at once come to all of them."""
    async with session(one.off) as client:
        asked = [post(client, one, [f"warm {i} " * 40]) for i in range(4 * len(one.nodes))]
        return all(isinstance(told, dict) for told in await asyncio.gather(*asked, return_exceptions=True))


def session(side: Side) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        headers={"authorization": f"Bearer {side.key}"}, connector=aiohttp.TCPConnector(limit=0)
    )


async def post(client: aiohttp.ClientSession, one: Fleet, texts: Sequence[str]) -> dict[str, Any]:
    """An answer, whose vectors are those of the texts, in order."""
    body = orjson.dumps({"model": MODEL, "input": texts if len(texts) > 1 else texts[0]})
    async with client.post(f"http://127.0.0.1:{one.port}/api/embed", data=body) as answer:
        data = await answer.read()
        if answer.status != 200:
            raise OSError(f"{answer.status}: {data[:200]!r}")
    if b'"embeddings":[' + b",".join(map(vector, texts)) + b"]" not in data:
        raise ValueError("other vectors than asked for")
    return {"headers": answer.headers}


async def calls(one: Fleet) -> int:
    async with aiohttp.ClientSession() as client:
        told = [await (await client.get(f"http://127.0.0.1:{node}/counts")).json() for node in one.nodes]
    return sum(each["calls"] for each in told)


async def span(one: Fleet, side: Side, clients: int, seconds: float, texts: Callable[[], Sequence[str]]) -> None:
    """Each client asks anew when it has its answer, for so long."""
    before, began = await calls(one), time.perf_counter()
    took: list[float] = []
    async with session(side) as http:

        async def client() -> None:
            while (now := time.perf_counter()) - began < seconds:
                await post(http, one, texts())
                took.append(time.perf_counter() - now)

        await asyncio.gather(*(client() for _ in range(clients)))
    side.took += took
    side.seconds += time.perf_counter() - began
    side.calls += await calls(one) - before


def measured(
    one: Fleet, clients: int, rounds: int, seconds: float, texts: Callable[[], Callable[[], Sequence[str]]]
) -> None:
    """Spans of both teams in turn, after one that does not count; both are asked for the same texts."""
    for number in range(rounds + 1):
        for side in one.sides if number % 2 else reversed(one.sides):
            uvloop.run(span(one, side, clients, seconds if number else seconds / 2, texts()))
            if not number:
                side.took, side.seconds, side.calls = [], 0.0, 0


def fresh() -> Callable[[], Sequence[str]]:
    """Short texts that never come again."""
    return lambda: [f"{random.getrandbits(64):016x} bees dance where the flowers are"]


def zipf() -> Callable[[], Sequence[str]]:
    """Texts of which few are asked for often and most seldom: 5000, by Zipf's law."""
    weights = [1 / rank for rank in range(1, 5001)]
    some = random.choices(range(5000), weights, k=20_000)
    return lambda: [f"question {some.pop()} about bees, dances and flowers"]


def long() -> Callable[[], Sequence[str]]:
    return lambda: [f"{random.getrandbits(64):016x} bees dance where the flowers are" for _ in range(LONG)]


def joined(options: argparse.Namespace) -> list[str]:
    rows = []
    for text_ms, name in ((CHEAP_MS, "cheap"), (DEAR_MS, "dear")):
        for clients in (1, 8, 32):
            with fleet([text_ms] * 2) as one:
                measured(one, clients, options.rounds, options.seconds, fresh)
            off, on = one.sides
            rows.append(
                f"| {name}, {text_ms:g} ms | {clients} | {off.rate:.0f} | {on.rate:.0f} | **{on.rate / off.rate:.2f}** "
                f"| {off.ms(0.5):.1f} | {on.ms(0.5):.1f} | {on.ms(0.5) / off.ms(0.5):.2f} "
                f"| {off.ms(0.95):.1f} | {on.ms(0.95):.1f} | {on.ms(0.95) / off.ms(0.95):.2f} "
                f"| {len(on.took) / max(1, on.calls):.1f} |"
            )
            print(rows[-1], flush=True)
    return rows


def split(options: argparse.Namespace) -> list[str]:
    rows = []
    for texts_ms in ([4.0], [4.0] * 2, [4.0] * 4, UNEQUAL):
        with fleet(texts_ms) as one:
            measured(one, 1, options.rounds, options.seconds, long)
        off, on = (statistics.median(side.took) for side in one.sides)
        ideal = (CALL_MS + LONG / sum(1 / text_ms for text_ms in texts_ms)) / 1000
        rows.append(
            f"| {', '.join(f'{text_ms:g}' for text_ms in texts_ms)} | {off:.2f} | {on:.2f} | **{off / on:.2f}** "
            f"| {ideal:.2f} | {on / ideal:.2f} | {one.on.calls / len(one.on.took):.1f} |"
        )
        print(rows[-1], flush=True)
    return rows


def cached(options: argparse.Namespace) -> list[str]:
    rows = []
    for clients in (1, 8):
        with fleet([DEAR_MS] * 2, cache=True) as one:
            measured(one, clients, options.rounds, options.seconds, zipf)
        off, on = one.sides
        rows.append(
            f"| {clients} | {off.rate:.0f} | {on.rate:.0f} | **{on.rate / off.rate:.2f}** | {off.ms(0.5):.1f} "
            f"| {on.ms(0.5):.1f} | {off.ms(0.95):.1f} | {on.ms(0.95):.1f} | {1 - on.calls / len(on.took):.0%} |"
        )
        print(rows[-1], flush=True)
    return rows


REPORT = """# What joining, splitting and caching embeddings gains

One gateway as `make run` starts it, on real sockets, and two teams: one whose policy has it on, one with it off. Their
spans take turns within one run, on the same nodes. Gateway, nodes and load generator are a process each; the generator
checks every vector and their order. Made by `make bench-embeddings`.

- {conditions}
- A node has one slot, as Ollama gives a model that embeds. A call costs it {call:g} ms beside its texts.
- *off*, *on*: the team without and with it. Ratios are on to off, or off to on where a time is told as a gain.

## Joining small requests

Closed loops of one short text each, in front of two equal nodes. *a call* tells how many requests a call carried.

| a text takes | clients | requests/s off | on | gain | p50 off, ms | on | ratio | p95 off, ms | on | ratio | a call |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
{joined}

The rows of one client tell what it costs to be alone: nobody waits for company, so that the ratios differ from 1 by
chance. What is gained is what a call costs beside its texts, so most where texts are short and many wait.

## Splitting large requests

One client, {long} short texts in one request. *ideal* is the time if all nodes ended together, without any cost.

| ms a text, by node | seconds off | on | times faster | ideal | of the ideal | calls a request |
| --- | --- | --- | --- | --- | --- | --- |
{split}

## Answers from the cache

Closed loops of one text each, 5000 different ones asked for by Zipf's law, {dear:g} ms a text, two nodes, an empty
cache at first; joining is on, too. *no call of their own* have requests that were answered from the
cache, or shared another's call.

| clients | requests/s off | on | gain | p50 off, ms | on | p95 off, ms | on | no call of their own |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
{cached}
"""


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="Spans of each team; default 3.")
    parser.add_argument("--seconds", type=float, default=2.0, help="Of each span; default 2.")
    parser.add_argument("--output", type=Path, default=RESULTS, help="Where the report goes.")
    options, began = parser.parse_args(words), time.monotonic()
    if os.environ.get("DATABASE_URL"):
        sys.exit("error: DATABASE_URL is set, and the benchmark would write to that database")
    tables = {"joined": joined(options), "split": split(options), "cached": cached(options)}
    conditions = (
        f"{datetime.now(UTC):%Y-%m-%d}; {os.cpu_count()} cores, {processor()}, Linux {platform.release()}, Python "
        f"{platform.python_version()}; {options.rounds} spans of {options.seconds:g} s for each team and row, "
        f"{time.monotonic() - began:.0f} s in all"
    )
    rows = {name: "\n".join(table) for name, table in tables.items()}
    text = REPORT.format(conditions=conditions, call=CALL_MS, long=LONG, dear=DEAR_MS, **rows)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text)
    print(f"\n{text}\nwritten to {options.output}")


if __name__ == "__main__":
    main()
