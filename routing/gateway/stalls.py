"""Notices answers that stand still though their node answers looks: a hung runner, a proxy that swallowed the rest."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from routing.core.tickets import Lease
from routing.gateway.exchange import Exchange
from routing.gateway.journey import Journey
from routing.ports import Clock

log = logging.getLogger("sollol.stalls")

#: Seconds between two looks.
LOOK_S = 1.0
#: How many times as long as expected the next token may take, and a first byte or a whole answer.
GAPS, ANSWERS = 100.0, 10.0
#: Seconds that a first byte, or a whole answer, may take in any case: a large model loads for minutes.
FIRST_S = 300.0

Attempts = Mapping[Lease, tuple[Exchange, Journey]]


@dataclass(slots=True)
class Standing:
    """An attempt as it was seen last: objects sent so far, since when no more came, and seconds that it may take."""

    objects: int
    since: float
    expected: float


@dataclass(slots=True)
class Stalls:
    """Looks at all running attempts each second; one that stands still for too long is interrupted, and is a failure.

    `least` is the least number of seconds that a stream may pause. A model that writes a tool call may be silent until
    it has written it all, so that requests with tools have as long as a whole answer.
    """

    attempts: Attempts
    clock: Clock
    least: float
    tell: Callable[[Lease, float], None]
    seen: dict[Lease, Standing] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self.least > 0.0:
            self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self.look(self.clock())

    def look(self, now: float) -> None:
        """Interrupt what has stood still for longer than it may."""
        self.seen = {lease: standing for lease, standing in self.seen.items() if lease in self.attempts}
        for lease, (exchange, journey) in list(self.attempts.items()):
            standing = self.seen.get(lease)
            objects = journey.seen.objects
            if standing is None:
                self.seen[lease] = Standing(objects, lease.started_at, max(0.0, lease.ends_at - lease.started_at))
            elif standing.objects != objects:
                standing.objects, standing.since = objects, now
            elif now - standing.since > self.patience(lease, journey, standing):
                self.tell(lease, now - standing.since)
                standing.since = now
                exchange.interrupt()

    def patience(self, lease: Lease, journey: Journey, standing: Standing) -> float:
        """Seconds for which this attempt may stand still."""
        request = lease.ticket.request
        if not journey.begun or request.tools:
            return max(FIRST_S, self.least, ANSWERS * standing.expected)
        return max(self.least, GAPS * lease.output_s)


def told(lease: Lease, seconds: float) -> None:
    name, model = lease.node.spec.name, lease.ticket.request.model
    log.warning("%s: nothing came of an answer of %s for %.0f s, it is taken for broken", name, model, seconds)
