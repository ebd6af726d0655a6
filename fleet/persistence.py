"""Keeps in the database what a gateway learns and what teams use, and gives it back after a restart."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Protocol, TypeVar

from fleet.services.connections import close_connection, kept_connection
from fleet.services.learning import load_learned, save_learned
from fleet.services.prefill import save_prefills
from fleet.services.usage import add_usage, load_usage
from routing.core.learned import Learned
from routing.core.resuming import Probed
from routing.core.snapshot import FleetSnapshot
from routing.core.usage import DayUse, Level, Taken

log = logging.getLogger("sollol.persistence")

#: Seconds between two additions of what was used, and between two savings of what was learned.
ADD_S, SAVE_S = 1.0, 60.0

T = TypeVar("T")


class Remembering(Protocol):
    """What is asked of a gateway; all of it on the gateway's event loop, and none of it waits."""

    def learn(self, learned: Learned) -> None:
        """Take what was kept from before."""

    def learned(self) -> Learned:
        """All that is known, to be kept."""
        ...

    def relearn(self, nodes: Collection[int], learned: Learned) -> None:
        """Drop what is known of these nodes, and take what is kept of them."""

    def load_usage(self, days: Sequence[DayUse], levels: Sequence[Level]) -> None:
        """Add the database's totals of this month to what was used here, and take the levels.

        Comes once: before anything else, or as soon as the database is there; then without levels.
        """

    def taken_usage(self) -> Taken:
        """What was used since the last call."""
        ...

    def give_back_usage(self, taken: Taken) -> None:
        """What was taken could not be written: it will be part of what is taken next."""

    def taken_prefills(self) -> Sequence[Probed]:
        """What was found out of models since the last call."""
        ...

    def give_back_prefills(self, taken: Sequence[Probed]) -> None:
        """What was taken could not be written: it will be part of what is taken next."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where things are kept: sync functions, called in one thread."""

    load_learned: Callable[[Collection[int] | None], Learned] = load_learned
    save_learned: Callable[[Learned, Mapping[int, float]], None] = save_learned
    load_usage: Callable[[date], tuple[Sequence[DayUse], Sequence[Level]]] = load_usage
    add_usage: Callable[[Sequence[DayUse], Sequence[Level]], None] = add_usage
    save_prefills: Callable[[Sequence[Probed]], None] = save_prefills


class Persistence:
    """Between a gateway and the database; everything but the writing itself runs on the gateway's event loop.

    While the database is away nothing is lost: what was used is handed back to the gateway, and what it learned stays
    with it. What is kept from before is read before anything is written over it.
    """

    def __init__(
        self, gateway: Remembering, shelf: Shelf | None = None, add_s: float = ADD_S, save_s: float = SAVE_S
    ) -> None:
        self.gateway, self.shelf = gateway, shelf or Shelf()
        self.loaded = False
        self.away = False
        self._add_s, self._save_s = add_s, save_s
        self._wanted: dict[int, float] = {}
        self._known: dict[int, float] = {}
        self._saved = Learned()
        self._saved_at = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="persistence")
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def follow(self, snapshot: FleetSnapshot) -> None:
        """A snapshot is in force: of nodes that were forgotten or measured, what is kept is read anew."""
        self._wanted = {node.id: node.relearn_at for node in snapshot.nodes}

    async def start(self, snapshot: FleetSnapshot) -> None:
        """Hand the gateway what is kept, and begin to keep; call it on the gateway's event loop."""
        self.follow(snapshot)
        self._saved_at = asyncio.get_running_loop().time()
        await self._step()
        self._task = asyncio.create_task(self._run(), name="persistence")

    async def stop(self) -> None:
        """Write what the gateway holds, once."""
        self._stop.set()
        if self._task is not None:
            await self._task
            await self._ask(close_connection)
        self._task = None
        self._thread.shutdown(wait=False)

    async def _run(self) -> None:
        while not self._stop.is_set():
            await self._step()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), self._add_s)
        await self._step()
        if self.away:
            log.error("what was used and learned lately is lost: the database is away")

    async def _step(self) -> None:
        try:
            if self.loaded:
                await self._add_usage()
                await self._save_prefills()
                await self._relearn()
            else:
                await self._load()
            if self.loaded and self._due():
                await self._save()
            if self.away:
                log.warning("the database is back: what is used and learned is kept again")
            self.away = False
        except Exception as error:  # noqa: BLE001 (whatever the database does, the gateway goes on)
            if not self.away:
                log.error("what is used and learned cannot be kept while the database is away: %s", error)  # noqa: TRY400
            self.away = True

    async def _ask(self, job: Callable[[], T]) -> T:
        def in_database() -> T:
            with kept_connection():
                return job()

        return await asyncio.get_running_loop().run_in_executor(self._thread, in_database)

    async def _load(self) -> None:
        """Read what is kept before anything is written: what was used here meanwhile is not part of it yet."""
        known = self._wanted
        learned = await self._ask(lambda: self.shelf.load_learned(None))
        days, levels = await self._ask(lambda: self.shelf.load_usage(datetime.now(UTC).date()))
        self.gateway.learn(learned)
        self.gateway.load_usage(days, () if self.away else levels)
        self._known, self._saved = known, learned
        self.loaded = True

    async def _add_usage(self) -> None:
        taken = self.gateway.taken_usage()
        if not taken.days and not taken.levels:
            return
        try:
            await self._ask(lambda: self.shelf.add_usage(taken.days, taken.levels))
        except Exception:
            self.gateway.give_back_usage(taken)
            raise

    async def _save_prefills(self) -> None:
        taken = self.gateway.taken_prefills()
        if not taken:
            return
        try:
            await self._ask(lambda: self.shelf.save_prefills(taken))
        except Exception:
            self.gateway.give_back_prefills(taken)
            raise

    async def _relearn(self) -> None:
        wanted = self._wanted
        nodes = [node for node, moment in wanted.items() if self._known.get(node, 0.0) != moment]
        if nodes:
            learned = await self._ask(lambda: self.shelf.load_learned(nodes))
            self.gateway.relearn(nodes, learned)
            self._saved = Learned()
        self._known = wanted

    def _due(self) -> bool:
        return self._stop.is_set() or asyncio.get_running_loop().time() - self._saved_at >= self._save_s

    async def _save(self) -> None:
        """Write what has changed since it was last written."""
        learned, relearned = self.gateway.learned(), self._known
        self._saved_at = asyncio.get_running_loop().time()
        changed = without(learned, self._saved)
        if changed != Learned():
            await self._ask(lambda: self.shelf.save_learned(changed, relearned))
            self._saved = learned


def without(learned: Learned, saved: Learned) -> Learned:
    """The rows of one that the other does not hold."""
    speeds, nodes, lengths, texts = map(set, (saved.speeds, saved.nodes, saved.lengths, saved.texts))
    return Learned(
        tuple(row for row in learned.speeds if row not in speeds),
        tuple(row for row in learned.nodes if row not in nodes),
        tuple(row for row in learned.lengths if row not in lengths),
        tuple(row for row in learned.texts if row not in texts),
    )
