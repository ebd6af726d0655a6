"""Measures how late the gateway's event loop comes to what is due, and publishes its gauges for metrics."""

import asyncio
import logging
import time

from fleet import live
from fleet.recorder import DatabaseRecorder
from routing.gateway.app import Gateway
from routing.gateway.gauges import gauges_of
from routing.gateway.tally import LATE, Histogram

log = logging.getLogger("sollol.meter")

#: Seconds between two looks at the clock, and how many of them come before the gauges are made anew.
BEAT_S, BEATS = 0.5, 10


class Meter:
    """The gauges of one gateway, five seconds old at most; `run` belongs to the gateway's event loop."""

    def __init__(self, gateway: Gateway, recorder: DatabaseRecorder) -> None:
        self.gateway, self.recorder = gateway, recorder
        self.lag = Histogram(LATE)

    def read(self) -> None:
        gateway = self.gateway
        live.publish_gauges(
            gauges_of(
                gateway.dispatcher,
                gateway.desk.quotas,
                gateway.access.snapshot.teams.values(),
                gateway.tally,
                time.time(),
                self.lag,
                self.recorder.pending,
            )
        )

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        beats = 0
        try:
            while True:
                if beats % BEATS == 0:
                    self.look()
                beats += 1
                due = loop.time() + BEAT_S
                await asyncio.sleep(BEAT_S)
                self.lag.take(max(0.0, loop.time() - due))
        finally:
            live.publish_gauges(None)

    def look(self) -> None:
        try:
            self.read()
        except Exception:
            log.exception("the gauges of the gateway cannot be read")
