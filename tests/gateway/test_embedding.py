"""Embedding requests that are joined, split or answered from the cache are answered as by a lone node."""

import asyncio
import json

import httpx
import pytest

from routing.core.snapshot import TeamPolicy
from routing.gateway.settings import GatewaySettings
from tests.fakes.address import address, sim
from tests.gateway.test_access import bearer, keys

NOMIC = "nomic-embed-text"
OPENAI = {"model": NOMIC, "input": "Bees dance."}
VOLATILE = ("total_duration", "load_duration")


def fleet(*nodes, join=False, split=False, cache=False, settings=None, **policy):
    """Nodes, and a team with these wishes."""
    bees = TeamPolicy(
        7, "Bees", join_embeddings=join, split_embeddings=split, cache_embeddings=cache, **policy
    )
    settings = settings or GatewaySettings(poll=0.2, metadata="headers")
    return address(*nodes, teams={7: bees}, keys=keys(), settings=settings)


def bees(one):
    return one.client(headers=bearer(), limits=httpx.Limits(max_connections=200))


def slow(node, factor):
    node.faults.set(slowdown=factor)


async def alone(one, name, path, body):
    """What the node itself says."""
    async with httpx.AsyncClient(base_url=one.nodes[name].base_url, timeout=30) as client:
        return await client.post(path, json=body)


def steady(data: bytes) -> bytes:
    """An answer's bytes without its durations, which differ from call to call."""
    told = json.loads(data)
    for name in VOLATILE:
        if name in told:
            assert told[name] > 0
            data = data.replace(b'"%b":%d' % (name.encode(), told[name]), b'"%b":0' % name.encode())
    return data


async def warm(one, client, *names):
    """Every node has the model loaded, and the gateway knows it."""
    for name in names or one.nodes:
        others = [other for other in one.nodes if other != name]
        for other in others:
            one.operate(other, draining=True)
        assert (await client.post("/api/embed", json={"model": NOMIC, "input": f"warm {name}"})).status_code == 200
        for other in others:
            one.operate(other, draining=False)
    states = one.gateway.dispatcher.nodes.values()
    await one.until(lambda: all(state.resident for state in states if state.spec.name in (names or one.nodes)))


async def crowd(one, client, bodies, path="/api/embed"):
    """Send a request that takes the slot, then these while it is taken; their answers in order."""
    slow(one.nodes["ant"], 3e5)
    first = asyncio.ensure_future(client.post(path, json={"model": NOMIC, "input": "the first"}))
    await one.until(lambda: one.gateway.dispatcher.in_flight() == 1)
    sent = [asyncio.ensure_future(client.post(path, json=body)) for body in bodies]
    await one.until(lambda: one.gateway.dispatcher.waiting == len(bodies))
    one.nodes["ant"].faults.clear()
    assert (await first).status_code == 200
    return await asyncio.gather(*sent)


@pytest.mark.parametrize("path", ["/api/embed", "/v1/embeddings"])
async def test_those_who_wait_share_a_call(path):
    """One upstream call answers all, each with its own bytes, and each is a request of its own in the history."""
    bodies = [{"model": NOMIC, "input": f"text number {i} of a bee <&>"} for i in range(5)]
    bodies += [{"model": NOMIC, "input": ["two", "texts of one request"]}]
    async with fleet(sim("ant"), join=True) as one, bees(one) as client:
        await warm(one, client)
        before = one.asked("ant", path)
        answers = await crowd(one, client, bodies, path)
        assert one.asked("ant", path) - before == 2
        for body, answer in zip(bodies, answers, strict=True):
            assert steady(answer.content) == steady((await alone(one, "ant", path, body)).content)
            assert answer.headers["x-sollol-embedding"] == "joined=6"
            assert answer.headers["x-sollol-attempts"] == "1"
        await one.until(lambda: len(one.recorder.requests) >= 8)
        assert all(record.outcome == "served" and record.node_id == 1 for record in one.recorder.requests)


async def test_a_lone_request_goes_its_way():
    """Nothing is waited for, and its bytes are the node's."""
    async with fleet(sim("ant"), join=True) as one, bees(one) as client:
        answer = await client.post("/api/embed", json=OPENAI)
        assert "x-sollol-embedding" not in answer.headers
        assert steady(answer.content) == steady((await alone(one, "ant", "/api/embed", OPENAI)).content)
        assert one.gateway.embedding.joining.calls == 0
