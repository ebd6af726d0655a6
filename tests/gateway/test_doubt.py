"""A node that hangs is found out by the requests that wait for it; one that is slow keeps them."""

import asyncio
import time

import pytest

from routing.core.state import Reach
from routing.gateway.settings import GatewaySettings
from tests.fakes.address import CHAT, MESSAGES, address, sim

STREAM = {"model": CHAT, "messages": MESSAGES}
#: Looks of their own accord come too late for these tests.
RARELY = GatewaySettings(poll=60.0)


async def warmed(one, client, *, times: int = 1) -> None:
    """Every node has the model loaded, and is the one that is preferred for a while."""
    for name in one.nodes:
        for other in one.nodes:
            one.operate(other, weight=1.0 if other == name else 0.01)
        for _ in range(times):
            assert (await client.post("/api/chat", json=STREAM)).headers["x-sollol-node"] == name


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_leaves_a_node_that_hangs_within_seconds(stream):
    """Nobody has looked at the node lately: the silence itself makes somebody look, and the request goes elsewhere."""
    async with address(sim("bee"), sim("ant"), settings=RARELY) as one, one.client() as client:
        await warmed(one, client)
        one.nodes["ant"].faults.hang = True
        began = time.monotonic()
        answer = await client.post("/api/chat", json={**STREAM, "stream": stream})
        assert (answer.status_code, answer.headers["x-sollol-node"]) == (200, "bee")
        assert answer.headers["x-sollol-attempts"] == "2"
        assert time.monotonic() - began < 8.0
        assert one.gateway.dispatcher.nodes[2].reach is Reach.DOWN


async def test_a_node_that_loads_for_long_keeps_its_request():
    """A model that is not in memory takes its time, and nobody asks whether the node is there."""
    async with address(sim("ant", speed=1.0), sim("bee"), settings=RARELY) as one, one.client() as client:
        one.operate("bee", draining=True)
        one.nodes["ant"].faults.set(stall_load=True)
        asked = asyncio.ensure_future(client.post("/api/generate", json={"model": CHAT, "prompt": "", "stream": False}))
        await one.until(lambda: one.asked("ant", "/api/generate") == 1)
        one.operate("bee", draining=False)
        looks = one.asked("ant", "/api/version")
        for seconds in range(1, 290):
            one.gateway.stalls.look(one.gateway.clock() + seconds)
        await asyncio.sleep(0)
        one.nodes["ant"].faults.clear()
        one.nodes["ant"].clock.speed = 1000.0
        answer = await asked
        assert (answer.headers["x-sollol-node"], answer.headers["x-sollol-attempts"]) == ("ant", "1")
        assert one.asked("ant", "/api/version") == looks


async def test_a_long_silence_of_a_node_that_is_there_is_borne():
    """A prompt takes longer than expected: the node is asked, answers, and keeps the request."""
    async with address(sim("ant"), sim("bee"), settings=RARELY) as one, one.client() as client:
        await warmed(one, client)
        one.operate("ant", weight=100.0)
        one.nodes["ant"].faults.stall_after_chunks = 0
        looks = one.asked("ant", "/api/version")
        asked = asyncio.ensure_future(client.post("/api/chat", json=STREAM))
        await one.until(lambda: one.asked("ant", "/api/version") > looks)
        one.nodes["ant"].faults.clear()
        assert (await asked).headers["x-sollol-attempts"] == "1"
        assert one.gateway.dispatcher.nodes[1].reach is Reach.UP
        assert not one.recorder.events


async def test_a_node_that_is_slow_to_answer_looks_is_given_longer():
    """Its looks have taken long before, and so does this one."""
    async with address(sim("ant"), sim("bee"), settings=GatewaySettings(poll=0.1)) as one, one.client() as client:
        await warmed(one, client)
        one.operate("ant", weight=100.0)
        looks, ant = one.gateway.looks, one.gateway.dispatcher.nodes[1]
        one.nodes["ant"].faults.slow_version = 0.6 * one.nodes["ant"].clock.speed
        await one.until(lambda: looks.listed[1].took > 0.5)
        one.nodes["ant"].faults.set(stall_after_chunks=0, slow_version=1.5 * one.nodes["ant"].clock.speed)
        asked = asyncio.ensure_future(client.post("/api/chat", json=STREAM))
        await one.until(lambda: looks.listed[1].took > 1.4)
        assert ant.reach is Reach.UP
        one.nodes["ant"].faults.clear()
        assert (await asked).headers["x-sollol-attempts"] == "1"


async def test_a_loaded_model_that_says_nothing_is_given_up_after_a_minute():
    """Its node answers looks, but what would have loaded a model in that time has not begun to answer."""
    async with address(sim("ant"), sim("bee"), settings=RARELY) as one, one.client() as client:
        await warmed(one, client)
        one.operate("ant", weight=100.0)
        one.nodes["ant"].faults.stall_after_chunks = 0
        asked = asyncio.ensure_future(client.post("/api/chat", json=STREAM))
        await one.until(lambda: one.asked("ant") == 2)
        one.gateway.stalls.look(one.gateway.clock())
        one.gateway.stalls.look(one.gateway.clock() + 55.0)
        assert one.gateway.dispatcher.nodes[1].failures == 0
        one.gateway.stalls.look(one.gateway.clock() + 65.0)
        assert (await asked).headers["x-sollol-node"] == "bee"
