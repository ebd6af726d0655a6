"""The picture of the gateway that dashboards and metrics are made of."""

import asyncio

from tests.fakes.address import CHAT, MESSAGES, address, sim

BODY = {"model": CHAT, "messages": MESSAGES, "stream": False}


async def test_slots_are_those_of_the_loaded_models():
    """Each loaded model has slots of its own; a node with nothing loaded shows those of one model."""
    async with address(sim("ant", models=[CHAT, "llama3.1:8b"], parallel=2)) as one, one.client() as client:

        def slots():
            return one.gateway.view().as_dict()["nodes"][0]["slots"]

        assert slots() == 2
        await asyncio.gather(*(client.post("/api/chat", json={**BODY, "model": m}) for m in (CHAT, "llama3.1:8b")))
        assert slots() == 4


async def test_the_picture_tells_what_runs_and_what_ended():
    """In flight while it runs; afterwards in the totals, the counts by label and the times."""
    async with address(sim("ant", speed=5)) as one, one.client() as client:
        running = asyncio.ensure_future(client.post("/api/chat", json=BODY))
        await one.until(lambda: one.asked("ant") == 1)
        assert one.gateway.view().as_dict()["nodes"][0]["in_flight"] == 1
        await running
        await one.until(lambda: one.recorder.requests)
        view = one.gateway.view()
        assert (view.as_dict()["totals"]["served"], view.as_dict()["recent"][0]["node"]) == (1, "ant")
        assert view.requests == {("/api/chat", CHAT, "", "ant", "served"): 1}
        assert sum(view.distributions["total"].counts) == 1
