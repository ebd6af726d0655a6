"""Notices answers that stand still though their node answers looks: a hung runner, a proxy that swallowed the rest."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from routing.core.state import NodeState
from routing.core.tickets import Lease
from routing.gateway.exchange import Exchange
from routing.gateway.journey import Journey
from routing.ports import Clock

log = logging.getLogger("sollol.stalls")

#: Seconds between two looks.
LOOK_S = 0.5
#: How many times as long as expected the next token may take, and a first byte or a whole answer.
GAPS, ANSWERS = 100.0, 10.0
#: Seconds that a first byte, or a whole answer, may take in any case: a large model loads for minutes; and the first
#: byte of a stream whose model is loaded.
FIRST_S, WARM_S = 300.0, 60.0
#: When a node is asked whether it is there: after so many times as long as expected and so many seconds at least, the
#: first of them for a first byte, the second for what follows. A question costs little, a wrong answer much.
DOUBT_ANSWERS, DOUBT_GAPS = 3.0, 50.0
DOUBT_S = (1.0, 4.0)

Attempts = Mapping[Lease, tuple[Exchange, Journey]]


@dataclass(slots=True)
class Standing:
    """An attempt as it was seen last: objects sent so far, since when no more came, and seconds that it may take.

    `asked` is for how many seconds it had stood still when its node was last asked whether it is there.
    """

    objects: int
    since: float
    expected: float
    asked: float = 0.0


@dataclass(slots=True)
class Stalls:
    """Looks at all running attempts all the time; one that stands still for too long is interrupted, and is a failure.

    Long before, `doubt` is told of its node, which is then asked whether it is there: one that is dead or hangs gives
    up its requests within seconds, one that is there has all the time that a slow model may need. A node that is
    loading a model for the request is not asked, since it may be slow to say so.

    `least` is the least number of seconds that a stream may pause. A model that writes a tool call may be silent until
    it has written it all, so that requests with tools have as long as a whole answer.
    """

    attempts: Attempts
    clock: Clock
    least: float
    tell: Callable[[Lease, float], None]
    doubt: Callable[[NodeState], None]
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
                standing.objects, standing.since, standing.asked = objects, now, 0.0
            elif now - standing.since > self.patience(lease, journey, standing):
                self.tell(lease, now - standing.since)
                standing.since = now
                exchange.interrupt()
            elif now - standing.since > max(self.calm(lease, journey, standing), 2.0 * standing.asked):
                standing.asked = now - standing.since
                self.doubt(lease.node)

    def calm(self, lease: Lease, journey: Journey, standing: Standing) -> float:
        """Seconds for which this attempt may stand still without any doubt in its node."""
        first, next_ = (min(self.least, seconds) for seconds in DOUBT_S)
        if journey.begun:
            return max(next_, DOUBT_GAPS * lease.output_s)
        if not loaded(lease):
            return FIRST_S
        expected = standing.expected
        if lease.ticket.request.stream:
            expected -= lease.output_work
        return max(first, DOUBT_ANSWERS * expected)

    def patience(self, lease: Lease, journey: Journey, standing: Standing) -> float:
        """Seconds for which this attempt may stand still."""
        request = lease.ticket.request
        if journey.begun and not request.tools:
            return max(self.least, GAPS * lease.output_s)
        quick = request.stream and not journey.begun and loaded(lease)
        return max(WARM_S if quick else FIRST_S, self.least, ANSWERS * standing.expected)


def loaded(lease: Lease) -> bool:
    """Whether the model of an attempt is there; others may have had it put out since it was."""
    return lease.remote or lease.answered or (not lease.cold and lease.weights in lease.node.resident)


def told(lease: Lease, seconds: float) -> None:
    name, model = lease.node.spec.name, lease.ticket.request.model
    log.warning("%s: nothing came of an answer of %s for %.0f s, it is taken for broken", name, model, seconds)
