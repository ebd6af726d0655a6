"""Runs the gateway of this process: feeds it snapshots, records what it did, publishes what it sees."""

import asyncio
import gc
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.conf import settings
from django.utils import timezone

from fleet import live
from fleet.meter import Meter
from fleet.oversight import Oversight
from fleet.persistence import Persistence
from fleet.recorder import DatabaseRecorder, readers
from fleet.selectors.scheduled import Sighting, sighting
from fleet.services.batch.credential import secret
from fleet.services.channels import answers
from fleet.services.connections import close_connection, kept_connection
from fleet.services.lookup import DatabaseHistory
from fleet.services.past import PastHour, past_hour
from fleet.services.schedules import mend
from fleet.snapshot import current_revision, load_snapshot
from routing.core.dispatcher import Limits
from routing.core.learner import GIB
from routing.core.snapshot import FleetSnapshot
from routing.gateway.access import is_loopback
from routing.gateway.app import Gateway
from routing.gateway.exchange import Receive, Scope, Send
from routing.gateway.picture import Picture
from routing.gateway.pulse import BEAT_S
from routing.gateway.settings import GatewaySettings
from routing.gateway.view import View

log = logging.getLogger("sollol.runtime")

#: Seconds between two looks at the revision; a change by an operator is in force within twice this.
POLL_S = 0.4
#: Seconds between two looks at scheduled work and at the channel layer.
OVERSEE_S = 5.0
#: Past requests that are counted before the loop sees to others.
SLICE = 500

#: New objects before the collector looks at the young ones, and how many such looks come before a wider one.
GC_THRESHOLDS = (20_000, 20, 50)

T = TypeVar("T")


def gateway_settings() -> GatewaySettings:
    """The gateway's settings from the environment."""
    env = settings.ENV
    return GatewaySettings(
        anonymous=env.sollol_anonymous,
        metadata=env.sollol_routing_metadata,
        max_body=env.sollol_max_body_mb << 20,
        connect_timeout=env.sollol_connect_timeout_s,
        poll=env.sollol_poll_s,
        origins=env.sollol_origins,
        listens_locally=is_loopback(env.sollol_host),
        hosts=env.sollol_allowed_hosts,
        model_nodes=env.sollol_model_nodes,
        drift=env.sollol_drift,
        ps=env.sollol_ps,
        list_ttl=env.sollol_list_ttl_s,
        keepalive=env.sollol_keepalive_s,
        native_keepalive=env.sollol_native_keepalive_s,
        stall=env.sollol_stall_s,
        max_blob=int(env.sollol_max_blob_gb * GIB),
        spool=settings.DATA_DIR / "spool",
        spool_size=int(env.sollol_spool_gb * GIB),
        spool_keep=env.sollol_spool_hours * 3600,
        prefill_every=env.sollol_prefill_s,
        traces=env.sollol_traces,
        limits=Limits(queue=env.sollol_max_queue, wait=env.sollol_max_wait_s, spared=env.sollol_batch_spares),
        vectors_memory=env.sollol_vectors_mb << 20,
        vectors_disk=env.sollol_vectors_disk_mb << 20,
        vectors_file=settings.DATA_DIR / "vectors.sqlite3",
        secret=secret(),
    )


def in_database(job: Callable[[], T]) -> T:
    """Run a sync database job in the runtime's own thread."""
    with kept_connection():
        return job()


def seen_work() -> Sighting:
    """How scheduled work goes; a clock that was set back is made up for on the way."""
    now = timezone.now()
    if mend(now):
        log.warning("the clock was set back: schedules that had to wait for it run now")
    return sighting(now)


def in_own_connection(job: Callable[[], T]) -> T:
    """Run a sync database job in a thread that others use, too."""
    try:
        return job()
    finally:
        close_connection()


class Runtime:
    """The gateway with its surroundings; started once per process, inside the server's event loop."""

    def __init__(self) -> None:
        self.recorder = DatabaseRecorder(readers=readers())
        self.history = DatabaseHistory()
        self.gateway = Gateway(gateway_settings(), self.recorder, time.monotonic, self.history)
        self.persistence = Persistence(self.gateway)
        self.gateway.condition.around = self.condition
        self.meter = Meter(self.gateway, self.recorder)
        self.oversight = Oversight()
        gateway = self.gateway
        self.picture = Picture(
            gateway.inference,
            gateway.inquiry,
            gateway.access,
            time.monotonic,
            time.time,
            self.condition,
            self.oversight,
        )
        self.revision = -1
        self.away_since: float | None = None
        self.channels: bool | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._loops: list[asyncio.Task[None]] = []
        self._starting: asyncio.Task[None] | None = None
        self.started = False

    async def ensure_started(self) -> None:
        """Start once; servers without a lifespan event start it with their first request."""
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        snapshot = await self._first_snapshot()
        await self.recorder.start()
        await self.gateway.start(snapshot)
        await self.persistence.start(snapshot)
        loops = (self._follow(), self._oversee(), self._beat(), self._recall(time.time()), self.meter.run())
        self._loops = [asyncio.ensure_future(loop) for loop in loops]
        live.serve(self.gateway)
        live.offer(self._view)
        live.show(self.picture)
        self.started = True
        # What was imported stays: the collector need not walk through it again while requests are served. Few objects
        # of a request are part of cycles, so looking for them after each 700 new ones is far too often.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        nodes = self.gateway.dispatcher.nodes.values()
        log.info("gateway started: %d nodes, %d of them enabled", len(nodes), sum(node.used for node in nodes))

    async def _first_snapshot(self) -> FleetSnapshot:
        """The database may come up after the gateway: until then it runs without nodes and keys, and says so."""
        try:
            snapshot = await self._ask(load_snapshot)
        except Exception as error:  # noqa: BLE001 (whatever the database does, the gateway starts)
            log.error("the database cannot be read; nodes and keys are unknown until it can: %s", error)  # noqa: TRY400
            self.away_since = time.monotonic()
            return FleetSnapshot(self.revision)
        self.revision = snapshot.revision
        return snapshot

    async def _ask(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, in_database, job)

    async def _follow(self) -> None:
        """Swap the snapshot when the revision has moved; the last good one serves while the database is away."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                if await self._ask(current_revision) != self.revision:
                    snapshot = await self._ask(load_snapshot)
                    self.gateway.apply(snapshot)
                    self.persistence.follow(snapshot)
                    self.revision = snapshot.revision
                if self.away_since is not None:
                    log.warning("the database is back")
                self.away_since = None
            except Exception as error:  # noqa: BLE001 (as above)
                if self.away_since is None:
                    log.error("the database is away, serving from the last snapshot: %s", error)  # noqa: TRY400
                    self.away_since = time.monotonic()

    async def _oversee(self) -> None:
        """See how scheduled work goes, and whether the channel layer answers."""
        while True:
            try:
                self.oversight.take(await self._ask(seen_work), time.monotonic())
            except Exception as error:  # noqa: BLE001 (that the database is away is told by others)
                log.debug("scheduled work cannot be seen: %s", error)
                self.oversight.blind()
            before, self.channels = self.channels, await answers()
            if before is not None and before is not self.channels:
                log.warning("the channel layer %s", "answers again" if self.channels else "does not answer")
            await asyncio.sleep(OVERSEE_S)

    def condition(self) -> dict[str, Any]:
        """How it stands with what the gateway depends on."""
        told: dict[str, Any] = {"database": "ok", "unrecorded": self.recorder.pending, "dropped": self.recorder.dropped}
        if self.away_since is not None:
            told |= {"database": "away", "database_away_s": round(time.monotonic() - self.away_since, 1)}
        elif self.recorder.away_since is not None:
            told |= {"database": "unwritable", "database_away_s": round(time.monotonic() - self.recorder.away_since, 1)}
        if self.channels is not None:
            told["channels"] = "ok" if self.channels else "away"
        return told | self.oversight.condition()

    def _view(self) -> View:
        view = self.gateway.view()
        view.data["totals"]["dropped"] = self.recorder.dropped
        view.data["condition"] = {"status": self.gateway.condition.status, **self.condition()}
        return view

    async def _beat(self) -> None:
        """Sample what rates are told from, whether or not anybody looks."""
        while True:
            self.picture.pulse.beat(self.gateway.clock())
            await asyncio.sleep(BEAT_S)

    async def _recall(self, until: float) -> None:
        """Fill the last hour's charts with what ended before this start."""
        reading = asyncio.ensure_future(asyncio.to_thread(in_own_connection, lambda: past_hour(until)))
        try:
            past: PastHour = await asyncio.shield(reading)
        except asyncio.CancelledError:
            await asyncio.wait([reading])  # the database is closed after this
            raise
        except Exception as error:  # noqa: BLE001 (whatever the database does, the gateway serves)
            log.warning("the last hour cannot be read, its charts begin now: %s", error)
            return
        series = self.gateway.tally.series
        for start in range(0, len(past.requests), SLICE):
            for one in past.requests[start : start + SLICE]:
                series.count(one.ended_at, one.outcome, one.tokens, one.times, past.weight)
            await asyncio.sleep(0)

    async def stop(self) -> None:
        """Stop the loops, close the connections, write what was recorded."""
        if self._starting is None:
            return
        self._starting.cancel()
        for task in self._loops:
            task.cancel()
        await asyncio.gather(self._starting, *self._loops, return_exceptions=True)
        live.serve(None)
        live.show(None)
        live.offer(None)
        await self.gateway.stop()
        await self.persistence.stop()
        await self.recorder.stop()
        await self.history.stop()
        await self._ask(close_connection)
        self._thread.shutdown(wait=True)

    async def lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The server's start and stop."""
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.ensure_started()
                except Exception as error:
                    log.exception("the gateway cannot start")
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return
