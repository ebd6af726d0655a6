"""CPU that the gateway costs per small request and per streamed chunk, beside a floor and nginx in the same run.

Every round measures each proxy in turn with the same bounded load against the same backend. CPU is utime + stime of
the proxy's processes, from /proc, over the load.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.backend import MODEL

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "overhead.md"
TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")
READY_S = 60.0

NGINX = """
{user}worker_processes 1;
daemon off;
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    upstream node {{ server 127.0.0.1:{backend}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 1000000;
        location / {{
            proxy_pass http://node;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


@dataclass
class Proxy:
    """One proxy under measurement; `costs` holds microseconds of CPU per unit, one entry per round and load."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    costs: dict[str, list[float]] = field(default_factory=lambda: {"request": [], "chunk": []})
    frames: int = 0
    lines: int = 0

    def cpu_us(self) -> float:
        """CPU that the process and its children have used so far."""
        return sum(ticks(pid) for pid in family(self.process.pid)) * TICK_US


def ticks(pid: int) -> int:
    columns = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(columns[11]) + int(columns[12])


def family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(int(child) for child in children)]


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def running(command: list[str], port: int, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server of ours from the moment it accepts connections; ended by its own process id."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        wait_for(lambda: accepts(port), process, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(ready: object, process: subprocess.Popen[bytes], log: Path) -> None:
    assert callable(ready)
    deadline = time.monotonic() + READY_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"error: {process.args} did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def knows_model(port: int) -> bool:
    with (
        contextlib.suppress(OSError, ValueError),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/api/tags") as answer,
    ):
        return MODEL in [row["name"] for row in json.load(answer)["models"]]
    return False


@contextlib.contextmanager
def proxies(options: argparse.Namespace, folder: Path) -> Iterator[list[Proxy]]:
    backend, floor, gateway, nginx = free_ports(4)
    python = sys.executable
    with contextlib.ExitStack() as stack:

        def start(name: str, command: list[str], port: int, **environment: str) -> Proxy:
            return Proxy(name, port, stack.enter_context(running(command, port, folder / f"{name}.log", **environment)))

        pace = ["--chunks", str(options.chunks), "--interval-ms", str(options.interval_ms)]
        start("backend", [python, "-m", "benchmarks.backend", "--port", str(backend), *pace], backend)
        found = [
            start(
                "floor",
                [python, "-m", "benchmarks.floor", "--port", str(floor), "--backend", f"http://127.0.0.1:{backend}"],
                floor,
            )
        ]
        own = {
            "SOLLOL_DATA_DIR": str(folder / "data"),
            "DATABASE_URL": "",
            "REDIS_URL": "",
            "SOLLOL_NODES": f"bench=127.0.0.1:{backend}?slots=64",
            "SOLLOL_HOST": "127.0.0.1",
            "SOLLOL_PORT": str(gateway),
            "SOLLOL_LOG_LEVEL": "WARNING",
        }
        for command in (["migrate", "--verbosity", "0"], ["seed_nodes"]):
            subprocess.run(
                [python, "manage.py", *command],
                cwd=ROOT,
                env={**os.environ, **own},
                check=True,
                stdout=subprocess.DEVNULL,
            )
        found.append(start("gateway", [python, "manage.py", "gateway"], gateway, **own))
        wait_for(lambda: knows_model(gateway), found[-1].process, folder / "gateway.log")
        if program := shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
            configuration = folder / "nginx.conf"
            user = "user root;\n" if os.geteuid() == 0 else ""
            configuration.write_text(NGINX.format(user=user, backend=backend, port=nginx))
            found.append(start("nginx", [program, "-p", str(folder), "-c", str(configuration), "-e", "stderr"], nginx))
        else:
            print("nginx is not installed and is left out (Debian: apt-get install nginx-light)")
        yield found


def measure(proxy: Proxy, kind: str, requests: int, concurrency: int) -> float:
    """One bounded load; returns microseconds of the proxy's CPU per request or per chunk."""
    command = [sys.executable, "-m", "benchmarks.load", "--port", str(proxy.port), "--requests", str(requests)]
    command += ["--concurrency", str(concurrency), *(["--stream"] if kind == "chunk" else [])]
    before = proxy.cpu_us()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    cost = proxy.cpu_us() - before
    *failures, counts = [json.loads(line) for line in done.stdout.splitlines()]
    if counts["errors"] or counts["requests"] != requests // concurrency * concurrency:
        sys.exit(f"error: {proxy.name} failed under load: {failures or counts}")
    if kind == "chunk":
        proxy.frames += counts["frames"]
        proxy.lines += counts["lines"]
    return cost / (counts["lines"] if kind == "chunk" else counts["requests"])


def run(options: argparse.Namespace, found: list[Proxy]) -> None:
    loads = {"request": options.requests, "chunk": options.streams}
    for proxy in found:
        for kind in loads:
            measure(proxy, kind, options.concurrency * (20 if kind == "request" else 1), options.concurrency)
        proxy.frames = proxy.lines = 0
    for number in range(options.rounds):
        for kind, requests in loads.items():
            for proxy in found:
                proxy.costs[kind].append(measure(proxy, kind, requests, options.concurrency))
                print(
                    f"round {number + 1}/{options.rounds}: {proxy.name:8} {proxy.costs[kind][-1]:7.1f} us per {kind}",
                    flush=True,
                )


def spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(found: list[Proxy], kind: str) -> str:
    floor = found[0].costs[kind]
    lines = [f"| proxy | µs of CPU per {kind} | times the floor |", "|---|---|---|"]
    for proxy in found:
        ratios = [cost / least for cost, least in zip(proxy.costs[kind], floor, strict=True)]
        lines.append(f"| {proxy.name} | {spread(proxy.costs[kind], 1)} | {spread(ratios, 2)} |")
    return "\n".join(lines)


REPORT = """# What the gateway costs

CPU of the proxy's processes (utime + stime) for the same load against the same backend, which answers at once.
The *floor* is a plain ASGI pass-through with aiohttp on the same uvicorn, which looks at no byte; the *gateway* runs as
`make run` starts it, with routing, recording, metrics and learning on; *nginx* has one worker and no buffering.
Medians over rounds, least and most in brackets; ratios are taken within a round. Made by `make bench-overhead`.

- Date: {date}
- Machine: {cores} cores, {model}, Linux {kernel}
- Versions: Python {python}, {packages}
- Load: {concurrency} connections; {rounds} rounds, interleaved; per round {requests} small requests and
  {streams} streams of {chunks} chunks, {interval_ms:g} ms apart

## A small request (`POST /api/chat`, `stream: false`)

{request_table}

## A streamed chunk (`POST /api/chat`, streamed)

{chunk_table}

A stream's CPU divided by its chunks: the cost of its request is part of it. HTTP chunks that the client received
per chunk that the backend sent (1: nothing was merged on the way): {frames}.
"""


def report(options: argparse.Namespace, found: list[Proxy]) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("uvicorn", "uvloop", "httptools", "aiohttp", "django"))
    return REPORT.format(
        **vars(options),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        cores=os.cpu_count(),
        model=processor(),
        kernel=platform.release(),
        python=platform.python_version(),
        packages=packages,
        request_table=table(found, "request"),
        chunk_table=table(found, "chunk"),
        frames=", ".join(f"{proxy.name} {proxy.frames / proxy.lines:.3f}" for proxy in found),
    )


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=8000, help="Small requests per proxy and round; default 8000.")
    parser.add_argument("--streams", type=int, default=96, help="Streams per proxy and round; default 96.")
    parser.add_argument("--chunks", type=int, default=400, help="Chunks per stream; default 400.")
    parser.add_argument("--interval-ms", type=float, default=2.5, help="Time between two chunks; default 2.5 ms.")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--output", type=Path, default=RESULTS, help="Where the report goes.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sollol-overhead-") as folder, proxies(options, Path(folder)) as found:
        run(options, found)
        text = report(options, found)
    options.output.write_text(text)
    print(f"\n{text}\nwritten to {options.output}")


if __name__ == "__main__":
    main()
