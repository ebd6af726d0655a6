"""Streams that stand still, and what becomes of everything when the gateway stops."""

import asyncio
import json

import httpx
import pytest

from routing.gateway.settings import GatewaySettings
from tests.fakes.address import CHAT, MESSAGES, address, sim

STREAM = {"model": CHAT, "messages": MESSAGES}
V1 = STREAM | {"stream": True}
QUICK = GatewaySettings(poll=0.2, stall=0.3)


def text_of(answer: httpx.Response) -> str:
    return "".join(json.loads(line)["message"]["content"] for line in answer.text.splitlines())


async def test_a_stream_that_stands_still_goes_on_elsewhere():
    """The node answers looks, but nothing comes any more: after a while another one goes on, token for token."""
    async with address(sim("ant"), sim("bee"), settings=QUICK, continuing=True) as one, one.client() as client:
        whole = text_of(await client.post("/api/chat", json=STREAM))
        for node in one.nodes.values():
            node.faults.set(stall_after_chunks=5, times=1)
        one.operate("bee", draining=True)
        asked = asyncio.ensure_future(client.post("/api/chat", json=STREAM))
        await one.until(lambda: any(journey.seen.objects >= 5 for journey in one.gateway.inference.live.values()))
        one.nodes["bee"].faults.clear()
        one.operate("bee", draining=False)
        answer = await asked
        assert text_of(answer) == whole
        assert json.loads(answer.text.splitlines()[-1])["_sollol_routing"]["resumed"] is True


async def test_a_stream_that_stands_still_ends_in_an_error_where_it_cannot_go_on():
    """Never in a clean end."""
    async with address(sim("ant"), settings=QUICK) as one, one.client() as client:
        one.nodes["ant"].faults.set(stall_after_chunks=5)
        answer = await client.post("/api/chat", json=STREAM)
        assert "error" in json.loads(answer.text.splitlines()[-1])
        assert one.gateway.dispatcher.nodes[1].failures == 1


async def test_a_model_that_may_call_tools_may_be_silent():
    """Ollama sends nothing while a tool call is being written."""
    async with address(sim("ant"), settings=QUICK) as one, one.client() as client:
        one.nodes["ant"].faults.set(stall_after_chunks=5)
        tool = {"type": "function", "function": {"name": "sting", "parameters": {"type": "object"}}}
        asked = asyncio.ensure_future(client.post("/api/chat", json=STREAM | {"tools": [tool]}))
        await one.until(lambda: any(journey.seen.objects >= 3 for journey in one.gateway.inference.live.values()))
        one.gateway.stalls.look(one.gateway.clock() + 100.0)
        one.gateway.stalls.look(one.gateway.clock() + 200.0)
        assert not asked.done()
        one.nodes["ant"].faults.clear()
        await asked


# The gateway stops


async def running(one, *requests):
    """Wait until so many streams have begun."""
    await one.until(lambda: sum(j.seen.objects > 0 for j in one.gateway.inference.live.values()) >= len(requests))


async def test_native_streams_end_in_an_error_line_when_the_gateway_stops():
    """And their slots come back."""
    async with address(sim("ant", speed=2)) as one, one.client() as client:
        asked = asyncio.ensure_future(client.post("/api/chat", json=STREAM))
        await running(one, asked)
        one.gateway.end_all()
        last = json.loads((await asked).text.splitlines()[-1])
        assert "error" in last
        assert not one.gateway.dispatcher.in_flight()
        assert one.last.outcome == "failed"


async def test_v1_streams_end_abnormally_when_the_gateway_stops():
    """SDKs raise then."""
    async with address(sim("ant", speed=2)) as one, one.client() as client:
        asked = asyncio.ensure_future(client.post("/v1/chat/completions", json=V1))
        await running(one, asked)
        one.gateway.end_all()
        with pytest.raises(httpx.RemoteProtocolError):
            await asked


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_who_waits_is_told_to_come_again_when_the_gateway_stops(path):
    """503 with a Retry-After, in the API's envelope: another gateway behind the same balancer may serve it."""
    async with address(sim("ant", profile="gpu-8gb", speed=1)) as one, one.client() as client:
        slots = one.gateway.dispatcher.nodes[1].spec.slots
        front = [asyncio.ensure_future(client.post("/api/chat", json=STREAM)) for _ in range(slots)]
        await one.until(lambda: one.gateway.dispatcher.in_flight() == slots)
        waiting = asyncio.ensure_future(client.post(path, json=STREAM))
        await one.until(lambda: one.gateway.dispatcher.waiting == 1)
        one.gateway.end_all()
        answer = await waiting
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert "stopping" in answer.text
        await asyncio.gather(*front)


async def test_a_pull_says_that_the_gateway_stops():
    """Progress lines end in one that tells why."""
    async with address(sim("ant", speed=1)) as one, one.client() as client:
        one.nodes["ant"].faults.slow_pull = 100.0
        asked = asyncio.ensure_future(client.post("/api/pull", json={"model": "llama3.1:8b"}))
        await one.until(lambda: one.asked("ant", "/api/pull") == 1 and bool(one.gateway.exchanges))
        await one.until(lambda: any(exchange.started for exchange in one.gateway.exchanges))
        one.gateway.end_all()
        assert "stopping" in (await asked).text.splitlines()[-1]


async def test_readiness_tells_the_truth():
    """Ready, degraded without its nodes, and not ready once it drains; alive all the time. No key is needed."""
    settings = GatewaySettings(anonymous="deny", poll=0.2)
    async with address(sim("ant"), sim("bee"), settings=settings) as one, one.client() as client:

        async def ready() -> tuple[int, str]:
            answer = await client.get("/readyz")
            return answer.status_code, answer.json()["status"]

        assert await ready() == (200, "ready")
        one.nodes["ant"].kill()
        await one.until(lambda: one.gateway.condition.nodes() == (1, 2))
        assert await ready() == (200, "degraded")
        one.gateway.drain()
        assert await ready() == (503, "draining")
        answer = await client.get("/healthz")
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")


async def test_a_database_that_is_away_degrades_but_serves():
    """What was read last still holds."""
    async with address(sim("ant")) as one, one.client() as client:
        one.gateway.condition.around = lambda: {"database": "away", "database_away_s": 3.0}
        told = (await client.get("/readyz")).json()
        assert (told["status"], told["database"]) == ("degraded", "away")
        assert (await client.post("/api/chat", json=STREAM)).status_code == 200
