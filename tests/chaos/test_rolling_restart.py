"""Two gateways behind a TCP balancer are restarted one after the other, and no client notices."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from random import Random

import aiohttp

from benchmarks.chaos_load import End, Load, Truth
from benchmarks.chaos_run import NAMES, node, undisturbed
from simulator.node import SimulatedNode
from tests.chaos.gateways import Process, gateway, ready, seeded
from tests.tooling.stack import free_port, wait_until

BALANCER = """
global
    maxconn 500
defaults
    mode tcp
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    retries 3
    option redispatch 1
frontend clients
    bind 127.0.0.1:{port}
    default_backend gateways
backend gateways
    option httpchk GET /readyz
    default-server check inter 200ms fall 2 rise 1
{servers}
"""
#: Longer than the balancer needs to notice that a gateway is not ready any more.
DRAIN = {"SOLLOL_DRAIN_S": "1.5", "SOLLOL_SHUTDOWN_S": "20", "SOLLOL_PREFILL_S": "0"}
#: Requests that each gateway must have answered before the next step.
SOME = 30


@contextlib.contextmanager
def balanced(haproxy: str, folder: Path, gateways: Sequence[int]) -> Iterator[str]:
    """A TCP balancer's address, in front of gateways on these ports."""
    port = free_port()
    servers = "\n".join(f"    server g{one} 127.0.0.1:{one}" for one in gateways)
    config = folder / "haproxy.cfg"
    config.write_text(BALANCER.format(port=port, servers=servers))
    with (folder / "haproxy.log").open("w") as log:
        process = subprocess.Popen([haproxy, "-db", "-f", str(config)], stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@contextlib.asynccontextmanager
async def under_load(url: str, nodes: Sequence[SimulatedNode]) -> AsyncIterator[Load]:
    """Requests on connections that are kept, until the end; then every answer has come."""
    async with undisturbed() as told, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        load = Load(session, url, Truth(session, told.base_url), Random(7), 20.0)
        sending = asyncio.create_task(load.run())
        try:
            yield load
        finally:
            sending.cancel()
            await load.done()


async def some_more(load: Load) -> None:
    """Wait until a number of further requests have been answered."""
    wanted = sum(one.end is not None for one in load.requests) + SOME
    async with asyncio.timeout(30):
        while sum(one.end is not None for one in load.requests) < wanted:
            await asyncio.sleep(0.02)


async def restarted(stack: contextlib.ExitStack, one: Process, nodes: Sequence[SimulatedNode]) -> None:
    """End a gateway as a supervisor does, and start another one in its place."""
    one.terminate()
    code, log = await asyncio.to_thread(one.ended)
    assert (code, "Traceback" in log) == (0, False), log
    again = gateway(one.folder, nodes, one.port, **DRAIN)
    await asyncio.to_thread(again.__enter__)
    stack.push(again)


async def rolled(haproxy: str, folder: Path) -> Load:
    async with contextlib.AsyncExitStack() as started:
        nodes = [await started.enter_async_context(node(name, number)) for number, name in enumerate(NAMES)]
        stack = started.enter_context(contextlib.ExitStack())
        gateways = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            await asyncio.to_thread(seeded, folder / name, nodes)
            starting = gateway(folder / name, nodes, **DRAIN)
            gateways.append(await asyncio.to_thread(starting.__enter__))
            stack.push(starting)
        url = stack.enter_context(balanced(haproxy, folder, [one.port for one in gateways]))
        await asyncio.to_thread(wait_until, lambda: ready(url), "a balancer that answers")
        async with under_load(url, nodes) as load:
            for one in gateways:
                await some_more(load)
                await restarted(stack, one, nodes)
            await some_more(load)
        return load


def test_nothing_is_lost(haproxy: str, tmp_path: Path) -> None:
    """Every request that comes meanwhile is answered with its whole text."""
    load = asyncio.run(rolled(haproxy, tmp_path))
    assert [f"{one.end}: {one.told}" for one in load.requests if one.end is not End.SERVED] == []
