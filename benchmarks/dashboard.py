"""What the live dashboard costs the gateway: its CPU with no viewer, one and several, under one steady load.

A hundred nodes that answer in short streams, two hundred requests a second. Spans without and with viewers take turns
on one gateway; a viewer takes what the dashboard's WebSocket sends and notes when each request turned up in it.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from websockets.asyncio.client import connect

from benchmarks.overhead import ROOT, free_ports, knows_model, processor, running, wait_for
from benchmarks.throughput import Meter, out_of_time
from benchmarks.throughput_load import head_and_body
from sollol_site.environment import Environment

RESULTS = ROOT / "benchmarks" / "results" / "dashboard.md"
VIEWERS = (0, 1, 5)
SESSION = """
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.create_superuser("ada", password="a long enough password"))
print(client.cookies["sessionid"].value)
"""


@dataclass
class Watch:
    """What all viewers saw: bytes, messages, and seconds from an answer's end to its row in the stream."""

    ended: dict[str, float] = field(default_factory=dict)
    delays: list[float] = field(default_factory=list)
    size: int = 0
    messages: int = 0

    def take(self, text: str) -> None:
        now = time.monotonic()
        self.size += len(text)
        self.messages += 1
        told = json.loads(text)
        for row in told.get("change", {}).get("requests", ()):
            ended = self.ended.pop(row["id"], None)
            if ended is not None:
                self.delays.append(now - ended)


@dataclass
class Span:
    """Cores that the gateway used, and what `viewers` of them saw, per second and viewer."""

    viewers: int
    cores: float
    rate: float
    size_s: float = 0.0
    messages_s: float = 0.0
    delays: list[float] = field(default_factory=list)


async def asker(number: int, port: int, period: float, watch: Watch, counts: list[int]) -> None:
    """One connection that asks once in each period, and tells the watch when it has the whole answer."""
    head, body = head_and_body(port, 8)
    body = body.replace(b'"stream": false', b'"stream": true ')
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    due = time.monotonic() + period * (number * 0.618 % 1.0)  # spread out evenly
    count = 0
    try:
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += period
            count += 1
            name = f"load-{number}-{count}"
            named = head[:-2] + f"X-Request-Id: {name}\r\n\r\n".encode()
            writer.write(named + body.replace(b"DIGITS__", b"%08d" % count))
            told = await reader.readuntil(b"\r\n0\r\n\r\n")
            if not told.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(told[:200].decode(errors="replace"))
            watch.ended[name] = time.monotonic()
            counts[0] += 1
    finally:
        writer.close()


async def viewer(port: int, session: str, watch: Watch) -> None:
    address, headers = f"127.0.0.1:{port}", {"Cookie": f"sessionid={session}"}
    async with connect(
        f"ws://{address}/ws/dashboard", origin=f"http://{address}", additional_headers=headers, max_size=None
    ) as socket:
        async for text in socket:
            watch.take(str(text))


async def measured(
    options: argparse.Namespace, port: int, gateway: int, session: str, viewers: int, watch: Watch, counts: list[int]
) -> Span:
    """One span with so many viewers, who have settled in before it begins."""
    watching = [asyncio.create_task(viewer(port, session, watch)) for _ in range(viewers)]
    await asyncio.sleep(options.warm_up)
    watch.size = watch.messages = counts[0] = 0
    watch.delays = []
    watch.ended.clear()
    meter = Meter(gateway)
    await asyncio.sleep(options.seconds)
    cores = meter.load().cpu
    for task in watching:
        if task.done():
            task.result()
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    shares = max(1, viewers) * options.seconds
    return Span(viewers, cores, counts[0] / options.seconds, watch.size / shares, watch.messages / shares, watch.delays)


async def spans(options: argparse.Namespace, port: int, gateway: int, session: str) -> list[Span]:
    watch, counts = Watch(), [0]
    connections = max(1, round(options.rate / 2))
    askers = [
        asyncio.create_task(asker(number, port, connections / options.rate, watch, counts))
        for number in range(connections)
    ]
    found = []
    for number in range(options.rounds):
        for viewers in VIEWERS[number % 3 :] + VIEWERS[: number % 3]:
            found.append(await measured(options, port, gateway, session, viewers, watch, counts))
            print(f"round {number + 1}: {viewers} viewers, {100 * found[-1].cores:.1f}% of a core", flush=True)
    for task in askers:
        if task.done():
            task.result()
        task.cancel()
    await asyncio.gather(*askers, return_exceptions=True)
    return found


@contextlib.contextmanager
def gateway_with_nodes(options: argparse.Namespace, folder: Path) -> Iterator[tuple[int, int, str]]:
    """Port and process id of a gateway in front of the nodes, and the session of somebody who may watch."""
    port, *nodes = free_ports(options.nodes + 1)
    own = {
        "SOLLOL_DATA_DIR": str(folder / "data"),
        "SOLLOL_NODES": ",".join(f"n{number}=127.0.0.1:{node}?slots=8&vram_gb=24" for number, node in enumerate(nodes)),
        "SOLLOL_HOST": "127.0.0.1",
        "SOLLOL_PORT": str(port),
        "SOLLOL_LOG_LEVEL": "WARNING",
    }

    def manage(*words: str) -> str:
        command, environment = [sys.executable, "manage.py", *words], {**os.environ, **own}
        return subprocess.run(
            command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True, timeout=60
        ).stdout

    manage("migrate", "--verbosity", "0")
    manage("seed_nodes")
    session = manage("shell", "-v", "0", "-c", SESSION).strip().splitlines()[-1]
    machines = [sys.executable, "-m", "benchmarks.throughput_nodes", "--instant", "--ports", *map(str, nodes)]
    machines += ["--chunks", str(options.chunks), "--interval-ms", str(options.interval_ms)]
    log = folder / "gateway.log"
    with (
        running(machines, nodes[-1], folder / "nodes.log"),
        running([sys.executable, "manage.py", "gateway"], port, log, **own) as process,
    ):
        wait_for(lambda: knows_model(port), process, log)
        yield port, process.pid, session


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def table(found: Sequence[Span]) -> str:
    lines = [
        "| viewers | % of a core | more than nobody | messages/s | kB/s to each | p50 delay | p99 delay | most |",
        "|---|---|---|---|---|---|---|---|",
    ]
    base = {number: span.cores for number, span in enumerate(one for one in found if not one.viewers)}
    for viewers in VIEWERS:
        rows = [span for span in found if span.viewers == viewers]
        more = [100 * (span.cores - base[number]) for number, span in enumerate(rows)]
        cores = [100 * span.cores for span in rows]
        delays = [delay for span in rows for delay in span.delays]
        seen = (
            f"{statistics.median(span.messages_s for span in rows):.1f} | "
            f"{statistics.median(span.size_s for span in rows) / 1000:.0f} | "
            + " | ".join(f"{quantile(delays, share):.2f} s" for share in (0.5, 0.99, 1.0))
            if viewers
            else "| | | | "
        )
        low, middle, high = statistics.quantiles(more, n=4)
        told = f"{middle:+.1f} ({low:+.1f} to {high:+.1f})" if viewers else "0"
        lines.append(f"| {viewers} | {statistics.median(cores):.1f} | {told} | {seen} |")
    return "\n".join(lines)


REPORT = """# What the live dashboard costs the gateway

CPU of the gateway (utime + stime of its process) in percent of one core, with and without viewers of `/dashboard/`
under the same load. Short spans take turns on one gateway; medians, and for differences within a round the middle half
in brackets, since what else the gateway does in a span (it writes history and what it learned) comes on top.
*Delay*: from the end of an answer at its client to its row in the first viewer's stream; of requests that came and
went between two pictures, more than the stream holds, not all are told. Made by `make bench-dashboard`.

- {date}; {cores} cores, {model}, Linux {kernel}, Python {python}
- {nodes} nodes; {rate:.0f} requests a second asked for, {served:.0f} served, each a stream of
  {chunks} chunks {interval_ms:g} ms apart
- {rounds} rounds of {seconds:g} s for each number of viewers, after {warm_up:g} s of warm-up

{table}
"""


def report(options: argparse.Namespace, found: Sequence[Span]) -> str:
    return REPORT.format(
        **vars(options),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        cores=os.cpu_count(),
        model=processor(),
        kernel=platform.release(),
        python=platform.python_version(),
        served=statistics.fmean(span.rate for span in found),
        table=table(found),
    )


def options_of(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100, help="How many nodes; default 100.")
    parser.add_argument("--rate", type=float, default=200.0, help="Requests a second; default 200.")
    parser.add_argument("--chunks", type=int, default=8, help="Chunks of an answer; default 8.")
    parser.add_argument("--interval-ms", type=float, default=25.0, help="Time between two chunks; default 25 ms.")
    parser.add_argument("--rounds", type=int, default=10, help="How often, twice at least; default 10.")
    parser.add_argument("--warm-up", type=float, default=0.6, help="Seconds before each span; default 0.6.")
    parser.add_argument("--seconds", type=float, default=2.2, help="Seconds of each span; default 2.2.")
    parser.add_argument("--most", type=int, default=118, help="Seconds after which the benchmark gives up.")
    parser.add_argument("--output", type=Path, default=RESULTS, help="Where the report goes.")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    options = options_of(words)
    if Environment().database_url:
        sys.exit("error: DATABASE_URL is set, and the benchmark would write to that database")
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(options.most)
    with (
        tempfile.TemporaryDirectory(prefix="sollol-dashboard-") as folder,
        gateway_with_nodes(options, Path(folder)) as (port, gateway, session),
    ):
        found = asyncio.run(spans(options, port, gateway, session))
    signal.alarm(0)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text := report(options, found))
    print(f"\n{text}\nwritten to {options.output}")


if __name__ == "__main__":
    main()
