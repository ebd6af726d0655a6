"""How throughput grows with nodes: the gateway in front of 1, 2, 4, 8 equal ones, by a closed loop on real sockets.

First nodes with service time, whose slots are to be the limit; then ones that answer at once, where the gateway's core
is. Writes a report with tables, and a plot beside it where matplotlib is installed.
"""

import argparse
import contextlib
import http.client
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from benchmarks.backend import MODEL
from benchmarks.overhead import ROOT, TICK_US, family, free_ports, knows_model, processor, running, ticks, wait_for
from benchmarks.throughput_report import Load, Row, report
from sollol_site.environment import Environment

RESULTS = ROOT / "benchmarks" / "results" / "throughput.md"
COUNTS = (1, 2, 4, 8)
SLOTS = 4
FAST_SLOTS = 64
#: Connections: for each node with service time, and in all for the others.
WAITING = 2 * SLOTS
CONNECTIONS = 32


class Meter:
    """CPU that a process gets, and what its first thread, which runs its event loop, gets or stands in line for."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.began = self.now()

    def now(self) -> tuple[float, float, float]:
        """Seconds: the time, CPU of the process and its children, CPU and standing in line of the first thread."""
        used = sum(ticks(pid) for pid in family(self.pid)) * TICK_US / 1e6
        try:
            ran, stood, _ = Path(f"/proc/{self.pid}/schedstat").read_text().split()
        except OSError:  # a kernel that does not count it
            ran = stood = "0"
        return time.monotonic(), used, (int(ran) + int(stood)) / 1e9

    def load(self) -> Load:
        """Since `began`."""
        time_s, used, wanted = (now - then for now, then in zip(self.now(), self.began, strict=True))
        return Load(used / time_s, max(used, wanted) / time_s)


@dataclass
class Bench:
    """What all spans share; `folder` holds a database made ready as `folder/ready`."""

    options: argparse.Namespace
    folder: Path
    python: str = sys.executable

    def manage(self, *words: str, **environment: str) -> None:
        command = [self.python, "manage.py", *words]
        subprocess.run(
            command, cwd=ROOT, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL, timeout=60
        )

    @contextlib.contextmanager
    def nodes(self, ports: list[int], log: Path, *, instant: bool) -> Iterator[subprocess.Popen[bytes]]:
        command = [self.python, "-m", "benchmarks.throughput_nodes", "--ports", *map(str, ports)]
        command += ["--instant"] if instant else ["--slots", str(SLOTS)]
        with running(command, ports[-1], log) as process:
            for port in ports:
                loaded(port)
            yield process

    @contextlib.contextmanager
    def gateway(self, port: int, nodes: list[int], data: Path, slots: int) -> Iterator[subprocess.Popen[bytes]]:
        shutil.copytree(self.folder / "ready", data)
        own = {
            "SOLLOL_DATA_DIR": str(data),
            "SOLLOL_NODES": ",".join(
                f"n{number}=127.0.0.1:{node}?slots={slots}&vram_gb=24" for number, node in enumerate(nodes, 1)
            ),
            "SOLLOL_HOST": "127.0.0.1",
            "SOLLOL_PORT": str(port),
            "SOLLOL_LOG_LEVEL": "WARNING",
        }
        self.manage("seed_nodes", **own)
        log = data.with_suffix(".log")
        with running([self.python, "manage.py", "gateway"], port, log, **own) as process:
            wait_for(lambda: knows_model(port), process, log)
            yield process

    def row(self, count: int, *, instant: bool) -> Row:
        """One measured span."""
        port, *nodes = free_ports(count + 1)
        name = f"{'fast' if instant else 'slow'}-{count}"
        slots, seconds = (FAST_SLOTS, self.options.fast_seconds) if instant else (SLOTS, self.options.seconds)
        log = self.folder / f"{name}.nodes"
        with (
            self.nodes(nodes, log, instant=instant) as machines,
            self.gateway(port, nodes, self.folder / name, slots) as gateway,
        ):
            command = [self.python, "-m", "benchmarks.throughput_load", "--port", str(port)]
            command += ["--concurrency", str(CONNECTIONS if instant else WAITING * count)]
            command += ["--warm-up", str(self.options.warm_up), "--seconds", str(seconds)]
            loads, told = span(command, gateway.pid, machines.pid)
        if told["errors"] or not told["answers"]:
            sys.exit(f"error: the gateway failed under load with {count} nodes: {told['errors'][:3] or 'no answers'}")
        answers = sorted(told["answers"].get(f"n{number}", 0) for number in range(1, count + 1))
        row = Row(
            count,
            told["ended"] - told["began"],
            answers,
            None if instant else in_use(log, told["began"], told["ended"]),
            slots * count,
            *loads,
        )
        print(f"{name}: {row.rate:.1f} requests/s; limit: {row.limit}", flush=True)
        return row


def span(command: list[str], gateway: int, machines: int) -> tuple[list[Load], dict[str, object]]:
    """Run the load generator; loads of gateway, generator and nodes over its span, and what it counted."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as generator:
        try:
            assert generator.stdout is not None
            expect(generator.stdout.readline(), "begin")
            meters = [Meter(pid) for pid in (gateway, generator.pid, machines)]
            expect(generator.stdout.readline(), "end")
            loads = [meter.load() for meter in meters]
            return loads, json.loads(generator.stdout.read())
        finally:
            generator.kill()


def expect(line: str, word: str) -> None:
    if line.strip() != word:
        sys.exit(f"error: the load generator ended early: {line}")


def loaded(port: int) -> None:
    """Make the model resident on a node."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", "/api/chat", json.dumps({"model": MODEL, "messages": [], "stream": False}))
    answer = connection.getresponse()
    if answer.status != 200:
        sys.exit(f"error: a node answers {answer.status}: {answer.read().decode(errors='replace')}")
    connection.close()


def in_use(log: Path, began: float, ended: float) -> float:
    """Mean of the slots in use on all nodes together, over the samples of a span."""
    samples = (json.loads(line) for line in log.read_text().splitlines() if line.startswith("[") and line[-1] == "]")
    return statistics.fmean(sum(busy) for at, *busy in samples if began <= at <= ended)


def out_of_time(number: int, frame: object) -> NoReturn:
    sys.exit("error: the benchmark took longer than it may")


def conditions_of(options: argparse.Namespace, seconds: float) -> str:
    return (
        f"{datetime.now(UTC):%Y-%m-%d}; {os.cpu_count()} cores, {processor()}, Linux {platform.release()}, "
        f"Python {platform.python_version()}\n- {options.warm_up:g} s of warm-up, then {options.seconds:g} s measured "
        f"({options.fast_seconds:g} s of nodes that answer at once); {seconds:.0f} s in all"
    )


def drawn(slow: Sequence[Row], fast: Sequence[Row], path: Path) -> str:
    """Draw the plot; its name, or nothing where matplotlib is missing."""
    try:
        from benchmarks.throughput_plot import plot  # noqa: PLC0415 (may be missing)
    except ImportError:
        print("matplotlib is not installed: no plot")
        return ""
    plot(slow, fast, path)
    return path.name


def options_of(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=COUNTS, help=f"How many nodes; default {COUNTS}.")
    parser.add_argument("--warm-up", type=float, default=3.0, help="Seconds before each span; default 3.")
    parser.add_argument("--seconds", type=float, default=15.0, help="Seconds of each span; default 15.")
    parser.add_argument("--fast-seconds", type=float, default=8.0, help="The same for nodes that answer at once.")
    parser.add_argument("--most", type=int, default=230, help="Seconds after which the benchmark gives up.")
    parser.add_argument("--output", type=Path, default=RESULTS, help="Where the report goes; the plot goes beside it.")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    options, begun = options_of(words), time.monotonic()
    if Environment().database_url:
        sys.exit("error: DATABASE_URL is set, and the benchmark would write to that database")
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(options.most)
    with tempfile.TemporaryDirectory(prefix="sollol-throughput-") as folder:
        bench = Bench(options, Path(folder))
        bench.manage("migrate", "--verbosity", "0", SOLLOL_DATA_DIR=str(bench.folder / "ready"))
        slow, fast = ([bench.row(count, instant=instant) for count in options.nodes] for instant in (False, True))
    signal.alarm(0)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    text = report(
        slow,
        fast,
        connections=(WAITING, CONNECTIONS),
        conditions=conditions_of(options, time.monotonic() - begun),
        picture=drawn(slow, fast, options.output.with_suffix(".svg")),
    )
    options.output.write_text(text)
    print(f"\n{text}\nwritten to {options.output}")


if __name__ == "__main__":
    main()
