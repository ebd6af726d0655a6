"""What clients see while nodes fail in ten ways, one after the other, under steady load: SOLLOL, nginx and HAProxy.

Each balancer has three simulated nodes of its own, which fail in the same way at the same moment; every answer is
compared with what an undisturbed node says. Nodes and clients live in this process, the balancers in their own.
"""

import argparse
import asyncio
import contextlib
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random

import aiohttp

from benchmarks.chaos_balancers import BALANCERS, SILENCE_S, probed, version_of
from benchmarks.chaos_faults import FAULTS, Strike, plan
from benchmarks.chaos_load import KINDS, Load, Truth, asked
from benchmarks.chaos_report import Run, report
from benchmarks.chaos_run import NAMES, Fleet, chaos, node, undisturbed
from benchmarks.overhead import ROOT, free_ports, processor
from benchmarks.throughput import out_of_time
from sollol_site.environment import Environment

RESULTS = ROOT / "benchmarks" / "results" / "chaos.md"
#: Seconds of load before the first fault, and after each once the node is usable again.
BEFORE, BETWEEN = 3.0, 4.0
#: Seconds that a client waits for its whole answer, and for which the benchmark waits for the gateway's probe.
PATIENCE_S, PROBING_S = 30.0, 30.0
#: Seconds that a round takes by the plan; nodes that are not used again at once make it longer.
ROUND_S = sum(fault.lasts(1.0) for fault in FAULTS) + len(FAULTS) * (BETWEEN + 1.0)
#: Seconds that starting, settling and writing may take beside the rounds.
REST_S = 120


async def in_flight(session: aiohttp.ClientSession, url: str) -> int:
    """Requests that the gateway believes to run or wait."""
    async with session.get(f"{url}/api/queue") as answer:
        told = await answer.json()
        return int(told["in_flight"]) + int(told["depth"])


async def usable(session: aiohttp.ClientSession, url: str, name: str) -> bool:
    """Whether the gateway would send a chat to this node now."""
    body = KINDS[0].body("Are you there?")
    async with session.post(f"{url}/api/explain", json=body) as answer:
        return name not in (await answer.json())["rejected_nodes"]


@contextlib.asynccontextmanager
async def fleet(
    name: str, folder: Path, session: aiohttp.ClientSession, truth: Truth, options: argparse.Namespace
) -> AsyncIterator[Fleet]:
    """A balancer in front of started nodes, all of which have their models loaded."""
    start, _ = BALANCERS[name]
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    async with contextlib.AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(node(one, seed)) for seed, one in enumerate(NAMES)]
        for one in nodes:
            for kind in KINDS:
                await asked(session, one.base_url, kind, "Are you there?")
        balancer = start(folder, port, nodes)
        await asyncio.to_thread(balancer.__enter__)
        stack.push_async_callback(asyncio.to_thread, balancer.__exit__, None, None, None)
        ours = name == "SOLLOL"
        if ours:
            await until_probed(folder)
        load = Load(session, url, truth, Random(options.seed), options.rate, ours=ours)
        asked_of = (partial(in_flight, session, url), partial(usable, session, url)) if ours else ()
        yield Fleet(name, nodes, load, *asked_of)


async def until_probed(folder: Path) -> None:
    deadline = time.monotonic() + PROBING_S
    while not probed(folder):
        if time.monotonic() > deadline:
            sys.exit("error: the gateway has not found out whether chats can be continued")
        await asyncio.sleep(0.2)


async def measured(names: Sequence[str], strikes: Sequence[Strike], options: argparse.Namespace, folder: Path) -> Run:
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S), connector=connector)
        )
        truth = Truth(session, (await stack.enter_async_context(undisturbed())).base_url)
        for name in names:
            (folder / name).mkdir()
        fleets = [
            await stack.enter_async_context(fleet(name, folder / name, session, truth, options)) for name in names
        ]
        began = time.monotonic()
        late = await chaos(fleets, strikes, before=BEFORE, between=BETWEEN, tell=partial(print, flush=True))
        return Run(fleets, time.monotonic() - began, late)


def conditions_of(options: argparse.Namespace, rounds: int, programs: Sequence[str]) -> str:
    return (
        f"{datetime.now(UTC):%Y-%m-%d}; {os.cpu_count()} cores, {processor()}, Linux {platform.release()}, "
        f"Python {platform.python_version()}; {', '.join(programs)}\n"
        f"- seed {options.seed}, {rounds} {'round' if rounds == 1 else 'rounds'} of {len(FAULTS)} faults, "
        f"{options.rate:g} requests a second at each balancer; answers stand still for at least {SILENCE_S} s "
        "before any of them takes a node for broken"
    )


def options_of(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="Of order, nodes and requests; default 1.")
    parser.add_argument(
        "--seconds", type=float, default=0.0, help=f"Whole rounds in about so much time; one takes {ROUND_S:.0f} s."
    )
    parser.add_argument("--rate", type=float, default=12.0, help="Requests a second at each balancer; default 12.")
    parser.add_argument("--only", nargs="+", choices=list(BALANCERS), default=list(BALANCERS), help="Balancers.")
    parser.add_argument("--output", type=Path, default=RESULTS, help="Where the report goes.")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    options = options_of(words)
    if Environment().database_url:
        sys.exit("error: DATABASE_URL is set, and the benchmark would write to that database")
    rounds = max(1, int(options.seconds // ROUND_S))
    versions = {name: version_of(BALANCERS[name][1]) if BALANCERS[name][1] else name for name in options.only}
    missing = [name for name, version in versions.items() if not version]
    for name in missing:
        print(f"{name} is not installed and is left out (Debian: apt-get install nginx-light haproxy)")
    names = [name for name in options.only if versions[name]]
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(int(rounds * (ROUND_S + 10 * len(FAULTS))) + REST_S)
    with tempfile.TemporaryDirectory(prefix="sollol-chaos-") as folder:
        run = asyncio.run(measured(names, plan(Random(options.seed), rounds, len(NAMES)), options, Path(folder)))
    signal.alarm(0)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    programs = [versions[name] for name in names if name != "SOLLOL"]
    text = report(run, conditions=conditions_of(options, rounds, programs), missing=missing)
    options.output.write_text(text)
    print(f"\n{text}\nwritten to {options.output}")


if __name__ == "__main__":
    main()
