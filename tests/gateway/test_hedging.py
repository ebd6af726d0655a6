"""Second copies of short requests: the first good answer counts, and the extra work is bounded."""

import asyncio

import pytest

from routing.core.snapshot import TeamPolicy
from tests.fakes.address import CHAT, MESSAGES, address, sim
from tests.gateway.test_access import bearer, keys

EMBED = {"model": "nomic-embed-text", "input": "Bees dance."}


def hedging(*nodes, hedge=True, **more):
    """Two nodes, and a team whose short requests may be sent twice."""
    return address(*nodes, teams={7: TeamPolicy(7, "Bees", hedge=hedge)}, keys=keys(), **more)


def client_of(one):
    return one.client(headers=bearer())


async def known(one, client, count=40):
    """Both nodes have the model loaded, and the gateway has seen so many answers."""
    for name in one.nodes:
        one.operate(name, draining=True)
        assert (await client.post("/api/embed", json=EMBED)).status_code == 200
        one.operate(name, draining=False)
    await one.until(lambda: all(state.resident for state in one.gateway.dispatcher.nodes.values()))
    for _ in range(count):
        assert (await client.post("/api/embed", json=EMBED)).status_code == 200


async def test_a_slow_first_copy_is_overtaken_by_a_second():
    """The client has its answer long before the slow node would have given it, and no slot leaks."""
    async with hedging(sim("ant"), sim("bee")) as one, client_of(one) as client:
        await known(one, client)
        usual = (await client.post("/api/embed", json=EMBED)).json()["embeddings"]
        for node in one.nodes.values():
            node.faults.set(slowdown=1e6)
        asked = asyncio.ensure_future(client.post("/api/embed", json=EMBED))
        await one.until(lambda: one.gateway.inference.hedging.sent == 1)
        first = one.asked("ant", "/api/embed") + one.asked("bee", "/api/embed")
        assert first >= 42
        for node in one.nodes.values():
            node.faults.clear()
        answer = await client.post("/api/embed", json=EMBED)
        assert answer.status_code == 200
        asked.cancel()
        await one.until(lambda: not one.gateway.dispatcher.in_flight())
        assert usual == answer.json()["embeddings"]


async def test_the_second_copy_wins():
    """It is told as the node that answered; the first one is cancelled at once."""
    async with hedging(sim("ant"), sim("bee")) as one, client_of(one) as client:
        await known(one, client)
        one.nodes["ant"].faults.set(slowdown=1e6)
        hedges = one.gateway.inference.hedging
        for _ in range(20):
            answer = await client.post("/api/embed", json=EMBED)
            assert answer.headers["x-sollol-node"] == "bee"
            if hedges.sent:
                break
        assert (hedges.sent, hedges.won) == (1, 1)
        await one.until(lambda: one.nodes["ant"].record.running.total() == 0)
        assert not one.gateway.dispatcher.in_flight()


async def test_at_most_one_in_twenty_is_sent_twice():
    """When all are slow, second copies do not double the load."""
    async with hedging(sim("ant"), sim("bee")) as one, client_of(one) as client:
        await known(one, client, 100)
        for node in one.nodes.values():
            node.faults.set(slowdown=3e5)
        for _ in range(8):
            await client.post("/api/embed", json=EMBED)
        assert 1 <= one.gateway.inference.hedging.sent <= 0.05 * 110 + 1


@pytest.mark.parametrize("hedge", [True, False])
async def test_only_short_work_and_only_where_the_policy_says_so(hedge):
    """Chats are never sent twice, and nothing is by default."""
    async with hedging(sim("ant"), sim("bee"), hedge=hedge) as one, client_of(one) as client:
        chat = {"model": CHAT, "messages": MESSAGES, "stream": False}
        for _ in range(25):
            await client.post("/api/chat", json=chat)
            if not hedge:
                await client.post("/api/embed", json=EMBED)
        one.nodes["ant"].faults.set(slowdown=50.0)
        for _ in range(4):
            await client.post("/api/chat" if hedge else "/api/embed", json=chat if hedge else EMBED)
        assert one.gateway.inference.hedging.sent == 0


async def test_a_second_copy_that_fails_changes_nothing():
    """The first one's answer counts."""
    async with hedging(sim("ant"), sim("bee")) as one, client_of(one) as client:
        await known(one, client)
        for node in one.nodes.values():
            node.faults.set(slowdown=1e6)
        asked = asyncio.ensure_future(client.post("/api/embed", json=EMBED))
        await one.until(lambda: one.gateway.inference.hedging.sent == 1)
        [lease] = one.gateway.inference.attempts
        first = lease.node.spec.name
        [second] = one.nodes.keys() - {first}
        one.nodes[second].faults.set(slowdown=1.0, reset_after_chunks=0)
        await one.until(lambda: one.nodes[second].record.running.total() == 0)
        one.nodes[first].faults.clear()
        answer = await asked
        assert (answer.status_code, answer.headers["x-sollol-node"]) == (200, first)
        assert one.gateway.inference.hedging.won == 0
        assert not one.gateway.dispatcher.in_flight()
