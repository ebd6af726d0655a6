"""Second copies of short requests: the first good answer counts, and the extra work is bounded."""

import asyncio

import pytest

from routing.core.analysis import analyse
from routing.core.dispatcher import Verdict
from routing.core.requests import Route
from routing.core.retries import RetryBudget
from routing.core.snapshot import TeamPolicy
from routing.core.tickets import Ticket
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


async def twice(one, client):
    """A request of which a second copy runs while both nodes hang: its answer to come, the first node and the second.

    On a busy machine others may have been sent twice before; the budget is large enough for one more.
    """
    hedges = one.gateway.inference.hedging
    hedges.budget, before = RetryBudget(1.0, 10.0), hedges.sent
    for node in one.nodes.values():
        node.faults.set(stall_after_chunks=0)
    asked = asyncio.ensure_future(client.post("/api/embed", json=EMBED))
    await one.until(lambda: hedges.sent == before + 1)
    [lease] = one.gateway.inference.attempts
    [second] = one.nodes.keys() - {lease.node.spec.name}
    return asked, lease.node.spec.name, second


async def test_the_second_copy_wins():
    """It is told as the node that answered; the first one is cancelled at once."""
    async with hedging(sim("ant"), sim("bee")) as one, client_of(one) as client:
        await known(one, client)
        usual = (await client.post("/api/embed", json=EMBED)).json()["embeddings"]
        won = one.gateway.inference.hedging.won
        asked, first, second = await twice(one, client)
        one.nodes[second].faults.clear()
        answer = await asked
        assert (answer.status_code, answer.headers["x-sollol-node"]) == (200, second)
        assert answer.json()["embeddings"] == usual
        assert one.gateway.inference.hedging.won == won + 1
        await one.until(lambda: one.nodes[first].record.running.total() == 0)
        assert not one.gateway.dispatcher.in_flight()


async def test_a_first_copy_that_fails_tells_of_its_node_though_the_second_answers():
    """The client has its answer, and the failure counts against the node that failed."""
    async with hedging(sim("ant"), sim("bee")) as one, client_of(one) as client:
        await known(one, client)
        asked, first, second = await twice(one, client)
        before = {state.spec.name: state.failures for state in one.gateway.dispatcher.nodes.values()}
        one.nodes[first].kill()
        one.nodes[second].faults.clear()
        answer = await asked
        assert (answer.status_code, answer.headers["x-sollol-node"]) == (200, second)
        after = {state.spec.name: state.failures for state in one.gateway.dispatcher.nodes.values()}
        assert after == before | {first: before[first] + 1}
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
        won = one.gateway.inference.hedging.won
        asked, first, second = await twice(one, client)
        one.nodes[second].kill()
        one.nodes[first].faults.clear()
        answer = await asked
        assert (answer.status_code, answer.headers["x-sollol-node"]) == (200, first)
        assert one.gateway.inference.hedging.won == won
        assert not one.gateway.dispatcher.in_flight()


async def test_whoever_is_interrupted_twice_gives_back_both_slots():
    """The node is found dead while the copies are being cancelled, say."""
    async with hedging(sim("ant"), sim("bee")) as one, client_of(one) as client:
        await known(one, client)
        admission, hedges = one.gateway.admission, one.gateway.inference.hedging
        ticket = Ticket("twice", analyse(Route.EMBED, EMBED), one.gateway.clock())
        admission.submit(ticket)
        ending = asyncio.Event()

        async def fetch(_):
            try:
                await asyncio.Event().wait()
            finally:
                ending.set()
                await asyncio.Event().wait()

        before = hedges.sent
        running = asyncio.ensure_future(hedges.first_of(fetch, ticket, ticket.lease))
        await one.until(lambda: hedges.sent == before + 1)
        assert one.gateway.dispatcher.in_flight() == 2
        running.cancel()
        await ending.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        admission.release(ticket.lease, Verdict.NEUTRAL)
        admission.end(ticket)
        assert not one.gateway.dispatcher.in_flight()
