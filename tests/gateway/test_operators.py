"""What operators change while requests run, and nodes that only seem to be nodes."""

import asyncio
import json

import pytest

from routing.core.snapshot import FleetSnapshot
from tests.fakes.address import CHAT, MESSAGES, address, changed, sim

BODY = {"model": CHAT, "messages": MESSAGES, "stream": False}


async def hanging_request(one, client):
    """A request that waits for the first byte of ant, which hangs; bee may serve it afterwards."""
    one.operate("bee", enabled=False)
    one.nodes["ant"].faults.hang = True
    waiting = asyncio.ensure_future(client.post("/api/chat", json=BODY))
    await one.until(lambda: one.gateway.dispatcher.in_flight() == 1)
    one.operate("bee", enabled=True)
    return waiting


@pytest.fixture
def quick_looks(monkeypatch):
    """Looks give up soon, so that a hung node is found within a test."""
    monkeypatch.setattr("routing.gateway.looks.LOOK_LIMIT", 0.3)


@pytest.mark.parametrize("change", ["nothing", "disable", "credentials", "remove", "address"])
async def test_a_hung_nodes_requests_go_elsewhere_whatever_the_operator_does(quick_looks, change):
    """Left alone, disabled, given other credentials, removed or moved: who waits for it is served by another node."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        waiting = await hanging_request(one, client)
        ant, bee = one.snapshot.nodes
        nodes = {
            "nothing": (ant, bee),
            "disable": (changed(ant, enabled=False), bee),
            "credentials": (changed(ant, headers=(("X-Key", "1"),)), bee),
            "remove": (bee,),
            "address": (changed(ant, url="http://127.0.0.1:9"), bee),
        }[change]
        one.gateway.apply(FleetSnapshot(9, nodes))
        answer = await asyncio.wait_for(waiting, 8)
        assert answer.json()["_sollol_routing"]["host"] == "bee"
        one.nodes["ant"].faults.hang = False


async def test_a_stream_that_stands_still_on_a_dead_node_is_ended(quick_looks):
    """After the first byte a hung node is the API's error line, once the looks have found it dead."""
    async with address(sim("ant", speed=2)) as one, one.client() as client:
        stream = client.stream("POST", "/api/chat", json={"model": CHAT, "messages": MESSAGES})
        async with stream as answer:
            lines = answer.aiter_lines()
            await anext(lines)
            one.nodes["ant"].faults.hang = True
            rest = await asyncio.wait_for(collect(lines), 8)
        assert "error" in json.loads(rest[-1])
        one.nodes["ant"].faults.hang = False


async def collect(lines):
    return [line async for line in lines]


async def test_a_hung_node_delays_no_light_request(quick_looks):
    """What any node can say is asked of another one when the first is found dead."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        one.nodes["ant"].faults.hang = True
        answer = await asyncio.wait_for(client.post("/api/show", json={"model": CHAT}), 8)
        assert answer.status_code == 200
        one.nodes["ant"].faults.hang = False


async def test_an_odd_spelling_empties_nobodys_queue():
    """A name that a node refuses, though the gateway knows it in another spelling, takes the model from nobody."""
    async with address(sim("ant", parallel=1)) as one, one.client() as client:
        good = [asyncio.ensure_future(client.post("/api/chat", json=BODY)) for _ in range(4)]
        odd = await client.post("/api/generate", json={"model": f" {CHAT}", "prompt": "x"})
        assert odd.status_code in {400, 404}
        assert [answer.status_code for answer in await asyncio.gather(*good)] == [200] * 4


async def test_a_gateway_that_is_its_own_node_is_found_out():
    """Its own address among the nodes is down, with the reason, and no request goes round in circles."""
    async with address(sim("ant")) as one, one.client() as client:
        ant = one.snapshot.nodes[0]
        itself = changed(ant, id=2, name="self", url=one.url, models=ant.models, weight=50.0)
        one.gateway.apply(FleetSnapshot(9, (ant, itself)))
        await one.until(lambda: one.gateway.dispatcher.nodes[2].reach in {"down", "suspect"})
        answers = await asyncio.gather(*(client.post("/api/chat", json=BODY) for _ in range(6)))
        assert {answer.json()["_sollol_routing"]["host"] for answer in answers} == {"ant"}
        assert "508" in one.gateway.dispatcher.nodes[2].error


async def test_one_request_that_cannot_be_judged_harms_no_other():
    """Whatever goes wrong in choosing a node for one request, those beside it in the queue are placed."""
    async with address(sim("ant", parallel=1)) as one, one.client() as client:
        lengths_of = one.gateway.dispatcher.learner.lengths_of

        class Odd(type(one.gateway.dispatcher.learner)):
            def lengths_of(self, request):
                if request.priority == 3:
                    raise ZeroDivisionError("odd")
                return lengths_of(request)

        one.gateway.dispatcher.learner = Odd()
        first = asyncio.ensure_future(client.post("/api/chat", json=BODY))
        await one.until(lambda: one.gateway.dispatcher.in_flight() == 1)
        odd, good = await asyncio.gather(
            client.post("/api/chat", json=BODY | {"priority": 3}), client.post("/api/chat", json=BODY)
        )
        assert ((await first).status_code, odd.status_code >= 500, good.status_code) == (200, True, 200)


async def test_a_context_beyond_the_models_own_is_warm_at_its_limit():
    """A num_ctx that the node clamps is compared as the node clamps it."""
    async with address(sim("ant")) as one, one.client() as client:
        body = BODY | {"options": {"num_ctx": 10_000_000}}
        for _ in range(3):
            await client.post("/api/chat", json=body)
        assert [record.decision.reason for record in one.recorder.requests] == ["loads-model", "warm", "warm"]
        assert len(one.nodes["ant"].record.loads) == 1
