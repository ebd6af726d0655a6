"""What the dashboard shows of a gateway with real requests on simulated nodes."""

import asyncio
import time
from dataclasses import replace

import pytest

from routing.core.names import canonical
from routing.core.snapshot import FleetSnapshot, Measure, Quota, TeamPolicy, Window
from routing.core.usage import DayUse, Use
from routing.gateway.picture import Picture
from routing.gateway.pulse import Depth
from tests.fakes.address import CHAT, MESSAGES, address, sim

BODY = {"model": CHAT, "messages": MESSAGES, "stream": False}


def picture_of(one) -> Picture:
    gateway = one.gateway
    picture = Picture(gateway.inference, gateway.inquiry, gateway.access, gateway.clock, time.time)
    picture.pulse.beat(gateway.clock())
    return picture


def kinds(picture) -> set[tuple[str, str]]:
    return {(alert["kind"], alert["subject"]) for alert in picture.sections()["alerts"]}


async def test_a_request_is_under_way_and_then_ended():
    """While it runs it is on its node; at its end it is in the stream, in the hour's series and in what was learned."""
    async with address(sim("ant", speed=5)) as one, one.client() as client:
        picture = picture_of(one)
        asking = asyncio.ensure_future(client.post("/api/chat", json=BODY))
        await one.until(lambda: one.asked("ant") == 1)
        [running] = picture.sections()["under_way"]
        assert (running["outcome"], running["node"]) == ("running", "ant")
        assert picture.request(running["id"])["decision"]["node"] == "ant"
        await asking
        await one.until(lambda: one.recorder.requests)
        told = picture.sections()
        assert (told["under_way"], told["requests"][0]["id"]) == ([], running["id"])
        [point] = told["series"].values()
        assert point[1] > 0
        [speed] = picture_of(one).sections()["speeds"]
        assert (speed["node"], speed["model"], speed["seen"]) == ("ant", CHAT, 1)
        assert told["nodes"]["1"]["success"] == 1.0
        assert picture.request(running["id"])["state"] == "ended"


async def test_running_answers_count_in_a_nodes_speed():
    """Tokens that are being written are told before the answer has ended."""
    async with address(sim("ant", speed=2)) as one, one.client() as client:
        picture = picture_of(one)

        async def read():
            async with client.stream("POST", "/api/chat", json={**BODY, "stream": True}) as answer:
                async for _ in answer.aiter_lines():
                    pass

        reading = asyncio.ensure_future(read())
        await one.until(lambda: picture.sections()["nodes"]["1"]["tokens_s"] > 0)
        assert not reading.done()
        await reading


async def test_the_queue_is_told_by_priority_and_team():
    """Those who wait are counted in lines, the most urgent first."""
    async with address(sim("ant", speed=5, parallel=1)) as one, one.client() as client:
        picture = picture_of(one)
        asking = [
            asyncio.ensure_future(client.post("/api/chat", json={**BODY, "priority": priority}))
            for priority in (5, 5, 3, 9)
        ]
        await one.until(lambda: one.gateway.dispatcher.waiting == 3)
        lines = picture.sections()["queue"]
        assert sum(line["waiting"] for line in lines) == 3
        assert [line["priority"] for line in lines] == sorted((line["priority"] for line in lines), reverse=True)
        await asyncio.gather(*asking)


async def test_a_dead_node_is_an_alert():
    """A node that refuses connections is told as down as soon as the gateway knows."""
    async with address(sim("ant"), sim("bee")) as one:
        picture = picture_of(one)
        assert kinds(picture) == set()
        one.nodes["bee"].faults.refuse = True
        await one.until(lambda: ("down", "bee") in kinds(picture))
        one.operate("bee", enabled=False)
        assert kinds(picture) == set()


async def test_a_node_that_fails_often_is_an_alert():
    """Attempts that fail now and then, too few in a row for the breaker, are told with their part of all."""
    async with address(sim("ant")) as one, one.client() as client:
        picture = picture_of(one)
        for _ in range(2):
            one.nodes["ant"].faults.set(error_after_chunks=0, times=2)
            for _ in range(3):
                await client.post("/api/chat", json=BODY)
        assert kinds(picture) == {("failing", "ant")}
        assert picture.sections()["nodes"]["1"]["success"] == pytest.approx(1 / 3, abs=0.01)


async def test_an_open_breaker_is_an_alert():
    """A node that was busy three times in a row is told until an attempt there has gone well."""
    async with address(sim("ant")) as one, one.client() as client:
        picture = picture_of(one)
        one.nodes["ant"].faults.set(busy=True, times=3)
        for _ in range(3):
            await client.post("/api/chat", json=BODY)
        assert ("breaker", "ant") in kinds(picture)
        assert picture.sections()["nodes"]["1"]["breaker"] == "open"
        assert (await client.post("/api/chat", json=BODY)).status_code == 200
        assert ("breaker", "ant") not in kinds(picture)


async def test_a_model_that_fails_on_a_node_is_an_alert():
    """The node itself is not blamed."""
    async with address(sim("ant")) as one, one.client() as client:
        picture = picture_of(one)
        one.nodes["ant"].faults.set(error_after_chunks=0, times=3)
        for _ in range(3):
            await client.post("/api/chat", json=BODY)
        assert ("model", f"ant/{canonical(CHAT)}") in kinds(picture)
        assert ("breaker", "ant") not in kinds(picture)
        assert (await client.post("/api/chat", json=BODY)).status_code == 200
        assert ("model", f"ant/{canonical(CHAT)}") not in kinds(picture)


async def test_a_database_that_is_away_is_an_alert():
    """With how long, and how much of the history waits for it."""
    async with address(sim("ant")) as one:
        picture = picture_of(one)
        picture.around = lambda: {"database": "away", "database_away_s": 30.0, "unrecorded": 1200, "dropped": 0}
        [alert] = [alert for alert in picture.sections()["alerts"] if alert["kind"] == "database"]
        assert alert["severity"] == "error"
        assert "30 s" in alert["text"]
        assert "1,200 rows" in alert["text"]


@pytest.mark.parametrize(("used", "told"), [(70, set()), (85, {("warning", "used")}), (100, {("error", "used up")})])
async def test_a_quota_nearly_used_is_an_alert(used, told):
    """From four fifths on a quota is told, with the team's name."""
    quota = Quota(3, Measure.REQUESTS, Window.DAY, 100)
    async with address(sim("ant"), teams={7: TeamPolicy(7, "Bees", quotas=(quota,))}) as one:
        day = time.time() // 86_400 + 719_163
        one.gateway.desk.quotas.load([DayUse(7, int(day), 5, Use(used))], [])
        found = [alert for alert in picture_of(one).sections()["alerts"] if alert["kind"] == "quota"]
        assert len(found) == len(told)
        for (severity, text), alert in zip(told, found, strict=True):
            assert alert["severity"] == severity
            assert text in alert["text"]
            assert alert["text"].startswith("Bees: 100 requests per day")


async def test_a_growing_queue_is_an_alert():
    """A queue that was empty a minute ago and is crowded now is told."""
    async with address(sim("ant", speed=5, parallel=1)) as one, one.client() as client:
        picture = picture_of(one)
        picture.pulse.depths.appendleft(Depth(one.gateway.clock() - 61, 0))
        asking = [asyncio.ensure_future(client.post("/api/chat", json=BODY)) for _ in range(8)]
        await one.until(lambda: one.gateway.dispatcher.waiting >= 5)
        assert ("queue", "queue") in kinds(picture)
        await asyncio.gather(*asking)


async def test_different_weights_under_one_name_are_an_alert():
    """The nodes that have other weights than those that count are named."""
    async with address(sim("ant"), sim("bee")) as one:
        picture = picture_of(one)
        node = one.gateway.dispatcher.nodes[2]
        models = [replace(model, digest="f" * 64, modified_at=1.0) for model in node.models.values()]
        one.gateway.dispatcher.observe_inventory(2, models, one.gateway.clock())
        [alert] = [one for one in picture.sections()["alerts"] if CHAT in one["text"]]
        assert (alert["kind"], "bee" in alert["text"]) == ("drift", True)


async def test_lost_history_is_an_alert():
    """Rows that the recorder dropped are told."""
    async with address(sim("ant")) as one:
        gateway = one.gateway
        picture = Picture(
            gateway.inference, gateway.inquiry, gateway.access, gateway.clock, time.time, lambda: {"dropped": 1200}
        )
        assert "1,200 rows" in picture.sections()["alerts"][0]["text"]


async def test_the_playground_is_told_models_that_answer():
    """Models that only embed are left out, as are nodes that are drained; a fleet without nodes has none."""
    async with address(sim("ant"), sim("bee")) as one:
        picture = picture_of(one)
        one.operate("bee", draining=True)
        [model] = picture.models()
        assert (model["name"], model["nodes"]) == (CHAT, ["ant"])
        one.gateway.apply(FleetSnapshot(9))
        assert picture.models() == []
