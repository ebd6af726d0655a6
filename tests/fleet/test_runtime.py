"""The gateway of a process, fed from the database and writing to it."""

import gc
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from fleet import live
from fleet.models import LearnedNode, RequestRecord, UsageDay
from fleet.runtime import Runtime
from fleet.services.learning import forget, load_learned
from routing.core import learned as core
from routing.core.learned import Learned
from tests.fleet.conftest import add_quota, add_speed, add_usage_day, make_node
from tests.fleet.test_recorder import until

pytestmark = pytest.mark.django_db(transaction=True)


@asynccontextmanager
async def running():
    """A started runtime; the collector is as it was afterwards."""
    thresholds = gc.get_threshold()
    runtime = Runtime()
    try:
        await runtime.ensure_started()
        yield runtime
    finally:
        await runtime.stop()
        gc.unfreeze()
        gc.set_threshold(*thresholds)


async def test_a_restart_forgets_nothing(bees):
    """A gateway starts with the speeds that were learned and the use of this month, and writes what is new."""

    def kept():
        add_quota(bees)
        add_usage_day(bees, requests=4)
        return add_speed(make_node("ant", enabled=False), 1)

    row = await sync_to_async(kept)()
    async with running() as runtime:
        [speed] = runtime.gateway.learned().speeds
        assert (speed.weights, speed.output_s) == (row.weights, pytest.approx(row.output_s))
        used = runtime.gateway.desk.quotas.used(bees.pk, timezone.now().timestamp())
        assert (used["today"]["requests"], used["quotas"][0]["left"]) == (4, 96)
        runtime.gateway.learn(Learned(nodes=(core.LearnedNode(row.node_id, 0.4, 9),)))
    assert (await LearnedNode.objects.aget()).seen == 9
    assert (await UsageDay.objects.aget()).requests == 4


async def test_the_last_hour_outlives_a_restart():
    """What ended before the start is in the charts, and what is seen of the gateway is shown only while it runs."""

    def kept():
        RequestRecord.objects.create(
            request_id="old",
            started_at=timezone.now() - timedelta(minutes=5),
            route="/api/chat",
            priority=5,
            stream=True,
            outcome="served",
            status=200,
            total_ms=900.0,
            output_tokens=30,
        )

    await sync_to_async(kept)()
    async with running() as runtime:
        await until(lambda: live.panorama().sections()["series"])
        [point] = live.panorama().sections()["series"].values()
        assert point[2] == 2.0
        assert live.view().as_dict()["totals"]["dropped"] == runtime.recorder.dropped
    assert (live.view(), live.panorama()) == (None, None)


async def test_forgetting_reaches_the_gateway():
    """What an operator forgets a running gateway forgets soon, and does not write it again."""

    def kept():
        node = make_node("ant", enabled=False)
        add_speed(node, 1)
        return node

    node = await sync_to_async(kept)()
    async with running() as runtime:
        assert runtime.gateway.learned().speeds
        await sync_to_async(forget)([node])
        await until(lambda: not runtime.gateway.learned().speeds)
    assert (await sync_to_async(load_learned)()).speeds == ()
