"""Loaded models are probed in the background: once a digest, on a node that has room, and never by loading one."""

import asyncio
import json
from dataclasses import replace

import httpx
import pytest

from routing.core.resuming import Behaviour
from routing.core.snapshot import Prefill
from routing.gateway.settings import GatewaySettings
from simulator.models import CATALOGUE
from tests.fakes.address import CHAT, MESSAGES, address, sim
from tests.gateway.test_resuming import ASKED, first_on_ant, through, tokens, whole

PROBING = GatewaySettings(poll=0.05, prefill_every=0.02)
BODY = {"model": CHAT, "messages": MESSAGES, "stream": False}


def model(prefill: str, **more):
    return replace(CATALOGUE[CHAT], prefill=prefill, answer_tokens=(20, 120), **more)


async def load(one, name: str = "ant", **more) -> None:
    """Load the model behind the gateway's back, and wait until that is seen."""
    async with one.client() as client:
        answer = await client.post(f"{one.nodes[name].base_url}/api/generate", json={"model": CHAT} | more)
        assert answer.status_code == 200
    await one.until(lambda: any(node.resident for node in one.gateway.dispatcher.nodes.values()))


def probed(one) -> Behaviour | None:
    found = one.gateway.prefills.found
    return next(iter(found.values())).behaviour if found else None


@pytest.mark.parametrize("behaviour", ["continue", "restart", "trim"])
async def test_a_probe_tells_models_apart(behaviour):
    """What the template does is found out by asking."""
    async with address(sim("ant", models=[model(behaviour)]), settings=PROBING) as one:
        await load(one)
        await one.until(lambda: probed(one) is not None)
        assert probed(one) == behaviour
        (told,) = one.gateway.taken_prefills()
        assert (told.model, told.node, told.digest) == (CHAT, "ant", model(behaviour).digest)
        assert one.gateway.prefills.continues(told.digest) is (behaviour == "continue")


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/api/generate"])
@pytest.mark.parametrize("behaviour", ["continue", "restart", "trim"])
async def test_what_a_client_reads_is_always_right(behaviour, path):
    """Of a model that continues, the whole; of another the first part and an error; a raw prompt goes on with any."""
    nodes = [sim(name, models=[model(behaviour)]) for name in ("ant", "bee")]
    async with address(*nodes, settings=PROBING) as one, one.client() as client:
        for name in one.nodes:
            await load(one, name)
        await one.until(lambda: probed(one) is not None)
        first_on_ant(one)
        expected = tokens(await whole(one, path))
        one.nodes["ant"].faults.cut_after_chunks = 6
        if behaviour == "continue" or path == "/api/generate":
            assert tokens(await through(one, path)) == expected
        elif path == "/api/chat":
            *part, last = [json.loads(line) for line in (await client.post(path, json=ASKED[path])).text.splitlines()]
            assert (tokens(part), "error" in last) == (expected[:6], True)
        else:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post(path, json=ASKED[path])


async def test_a_model_is_probed_once():
    """Few requests, and none again; nor are they part of the history."""
    async with address(sim("ant"), sim("bee"), settings=PROBING) as one, one.client() as client:
        for name in one.nodes:
            await load(one, name)
        await one.until(lambda: probed(one) is not None)
        asked = one.asked("ant") + one.asked("bee")
        assert 2 <= asked <= 3
        for _ in range(3):
            await one.gateway.prefills.look()
        assert one.asked("ant") + one.asked("bee") == asked
        assert one.recorder.requests == []
        assert (await client.get("/api/queue")).json()["depth"] == 0


async def test_no_model_is_loaded_for_it():
    """What is not loaded stays so, and is not probed."""
    async with address(sim("ant"), settings=PROBING) as one:
        for _ in range(3):
            await one.gateway.prefills.look()
        assert one.asked("ant") == 0
        assert one.nodes["ant"].record.loads == []


@pytest.mark.parametrize("num_ctx", [None, 2048])
async def test_a_loaded_model_is_not_loaded_anew(num_ctx):
    """The probe asks for the context size that the model has."""
    options = {} if num_ctx is None else {"options": {"num_ctx": num_ctx}}
    async with address(sim("ant"), settings=PROBING) as one:
        await load(one, **options)
        await one.until(lambda: probed(one) is not None)
        assert len(one.nodes["ant"].record.loads) == 1


async def test_busy_nodes_are_left_alone_at_first():
    """Where all slots are taken nothing is asked; when one is free again it is."""
    async with address(sim("ant", parallel=1), settings=PROBING) as one, one.client() as client:
        await one.gateway.prefills.stop()
        await load(one)
        one.nodes["ant"].faults.stall_after_chunks = 3
        running = asyncio.ensure_future(client.post("/api/chat", json=BODY | {"stream": True}))
        await one.until(lambda: any(j.seen.objects == 3 for j in one.gateway.inference.live.values()))
        asked = one.asked("ant")
        await one.gateway.prefills.look()
        assert (one.asked("ant"), one.gateway.dispatcher.waiting) == (asked, 0)
        one.nodes["ant"].faults.clear()
        await running
        await one.gateway.prefills.look()
        assert probed(one) is Behaviour.CONTINUE


async def test_a_node_that_fails_is_not_asked_at_once_again():
    """A failed probe says nothing of the model; it is repeated later."""
    async with address(sim("ant"), settings=GatewaySettings(poll=0.05)) as one:
        await load(one)
        one.nodes["ant"].faults.busy = True
        await one.gateway.prefills.look()
        await one.gateway.prefills.look()
        assert (probed(one), one.asked("ant")) == (None, 1)
        one.nodes["ant"].faults.clear()
        (wanted,) = one.gateway.prefills.wanted.values()
        wanted.not_before = 0.0
        await one.gateway.prefills.look()
        assert probed(one) is Behaviour.CONTINUE


async def test_what_is_kept_counts_until_it_is_to_be_probed_again():
    """A gateway that starts uses what others have found out; on request it looks anew."""
    digest = model("restart").digest
    async with address(sim("ant", models=[model("restart")]), settings=GatewaySettings(poll=0.05)) as one:
        await load(one)
        prefills = one.gateway.prefills
        prefills.apply({digest: Prefill(Behaviour.CONTINUE, 5.0)})
        await prefills.look()
        assert (one.asked("ant"), prefills.continues(digest)) == (0, True)
        prefills.apply({digest: Prefill(Behaviour.CONTINUE, 5.0, again=True)})
        await prefills.look()
        assert (probed(one), prefills.continues(digest)) == (Behaviour.RESTART, False)
        prefills.apply({digest: Prefill(Behaviour.CONTINUE, prefills.found[digest].at)})
        assert (prefills.found, prefills.continues(digest)) == ({}, True)


async def test_results_that_could_not_be_kept_come_again():
    """The database may be away."""
    async with address(sim("ant"), settings=PROBING) as one:
        await load(one)
        await one.until(lambda: probed(one) is not None)
        taken = one.gateway.taken_prefills()
        one.gateway.give_back_prefills(taken)
        assert one.gateway.taken_prefills() == taken
        assert one.gateway.taken_prefills() == []


async def test_a_fresh_gateway_continues_streams_by_itself():
    """From the first load on nobody has to do anything: a stream of a model that goes on survives its node."""
    async with address(sim("ant"), sim("bee"), settings=PROBING) as one, one.client() as client:
        await client.post("/api/chat", json=BODY)
        await one.until(lambda: probed(one) is not None)
        for node in one.nodes.values():
            node.faults.set(cut_after_chunks=5, times=1)
        lines = (await client.post("/api/chat", json=BODY | {"stream": True})).content.splitlines()
        assert b'"done":true' in lines[-1]
        assert one.last.resumed >= 1
