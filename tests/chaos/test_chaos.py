"""Nothing is lost, doubled or leaked while nodes fail in every way, one after the other, under steady load."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from random import Random

import aiohttp
import pytest

from benchmarks.chaos_faults import FAULTS, Fault, plan
from benchmarks.chaos_load import End, Load, Truth
from benchmarks.chaos_run import NAMES, Fleet, Struck, chaos, counted, good, node, undisturbed
from routing.core.analysis import analyse
from routing.core.breaker import THRESHOLD
from routing.core.requests import Route
from routing.core.tickets import Ticket
from routing.gateway.settings import GatewaySettings
from tests.fakes.address import CHAT, MESSAGES, address

SEED = 5
RATE = 20.0
#: Seconds that a client waits; of load before the first fault and after each.
PATIENCE, BEFORE, BETWEEN = 30.0, 1.5, 0.6


@asynccontextmanager
async def fleet() -> AsyncIterator[tuple[Fleet, Load]]:
    nodes = [node(name, number) for number, name in enumerate(NAMES)]
    settings = GatewaySettings(poll=1.0, stall=1.0)
    limit = aiohttp.ClientTimeout(total=PATIENCE)
    async with (
        undisturbed() as told,
        address(*nodes, settings=settings, continuing=True) as one,
        aiohttp.ClientSession(timeout=limit, connector=aiohttp.TCPConnector(limit=0, force_close=True)) as session,
    ):
        load = Load(session, one.url, Truth(session, told.base_url), Random(SEED), RATE, ours=True)

        async def in_flight() -> int:
            return dispatcher.in_flight() + dispatcher.waiting + len(one.gateway.inference.live)

        async def usable(name: str) -> bool:
            asked = analyse(Route.CHAT, {"model": CHAT, "messages": MESSAGES})
            ticket = Ticket("", asked, one.gateway.clock())
            return name not in dispatcher.rejected_nodes(ticket, one.gateway.clock())

        def probes(name: str) -> int:
            return next(one.health.probes for one in dispatcher.nodes.values() if one.spec.name == name)

        dispatcher = one.gateway.dispatcher
        yield Fleet("SOLLOL", nodes, load, in_flight, usable, probes), load


async def run() -> Fleet:
    async with fleet() as (found, load):
        strikes = plan(Random(SEED), 1, len(NAMES))
        await chaos([found], strikes, before=BEFORE, between=BETWEEN, share=0.4)
        assert load.requests
        return found


@pytest.fixture(scope="module")
def ran() -> Iterator[Fleet]:
    with asyncio.Runner() as runner:
        yield runner.run(run())


def allowed(struck: Struck) -> int:
    """The most requests that the breakers let a failing node have.

    What its slots hold when the failure that tells is seen, those that tell, and each probe; a probe whose answer
    begins lets others begin until it breaks off, as many as there are slots.
    """
    chats = struck.node.profile.parallel
    begins = struck.fault.chats and struck.strike.chunks > 0
    slots = chats if struck.fault.chats else chats + 1  # an embedder has one
    return slots + THRESHOLD + struck.probes * (slots if begins else 1)


def bad(requests) -> list[str]:
    return [f"{one.end}: {one.told}" for one in requests if one.end not in {End.SERVED, End.CONTINUED}]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_survived(ran: Fleet, fault: Fault) -> None:
    """Every request is answered with exactly what an undisturbed node says; the node is left alone, and used again."""
    met = ran.met(fault)
    assert len(met) >= RATE / 2
    assert good(met) == len(met), bad(met)
    for struck in (one for one in ran.struck if one.fault is fault):
        assert struck.usable_s is not None, "not within ten seconds"
        if fault.ejects:
            assert struck.seen().during <= allowed(struck)


def test_nothing_is_left(ran: Fleet) -> None:
    """Between the faults nothing fails, and at the end no slot is held, at the gateway or at a node."""
    assert counted([one for one in ran.load.requests if one.end is None]) == dict.fromkeys(End, 0)
    assert bad(ran.load.requests) == []
    assert (ran.leaked, ran.left_on_nodes) == (0, 0)


def test_streams_were_continued(ran: Fleet) -> None:
    """Faults in the middle of answers did strike: some streams went on at another node."""
    met = [one for fault in FAULTS if fault.chats for one in ran.met(fault)]
    assert counted(met)[End.CONTINUED]
