"""The gateway's own eyes.

Each node is looked at by a loop of its own, so that a slow or dead one delays nobody else.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import partial
from random import uniform
from typing import Any

from routing.core.names import display
from routing.core.records import NodeEvent
from routing.core.state import NodeState, Reach
from routing.gateway.admission import Admission
from routing.ports import Clock, Recorder
from routing.upstream import wire
from routing.upstream.client import NodeFailed, Upstream

log = logging.getLogger("sollol.nodes")

#: Seconds that a look may take; a node that loads a model answers /api/version at once, other paths later.
LOOK_LIMIT, LIST_LIMIT = 5.0, 10.0
#: The same while there is doubt whether a node still answers: these, or so many times as long as its looks have taken.
DOUBT_LIMIT, DOUBT_TIMES = 1.0, 4.0
#: What is left of the longest look after each further one.
FADING = 0.9
#: Seconds that a node's coming back waits for its lists.
LIST_PATIENCE = 2.0
#: The largest list of models that is believed.
LARGEST_LIST = 64 << 20
#: A node that does not answer is looked at again after the first of these seconds, then later and later, but never
#: less often than the slowest says.
DOWN_FIRST, DOWN_GROWTH, DOWN_SLOWEST, DOWN_MOST = 0.25, 1.5, 2.0, 20
#: Every so many looks the list of installed models is read again.
INVENTORY_EVERY = 15
OK = 200
#: A list that a node has contradicted is read again unless it is younger than this.
SOON_AGE = 0.05


@dataclass(slots=True)
class Listed:
    """A node's lists as it last told them, row by row, with the gateway's time of each.

    `asked_at` is when the newest list of installed models was asked for, or long ago if it is known to be out of date;
    `changed_at` is when we last had models installed or deleted there. `took` is about how many seconds looks take at
    most.
    """

    tags: list[dict[str, Any]] = field(default_factory=list)
    tags_at: float = float("-inf")
    asked_at: float = float("-inf")
    changed_at: float = float("-inf")
    ps: list[dict[str, Any]] = field(default_factory=list)
    ps_at: float = float("-inf")
    took: float = 0.0


class Looks:
    """Keeps reach, version, installed and resident models of every node up to date."""

    def __init__(
        self, admission: Admission, upstream: Upstream, recorder: Recorder, clock: Clock, interval: float
    ) -> None:
        self.admission, self.upstream, self.recorder, self.clock = admission, upstream, recorder, clock
        self.interval = interval
        self.listed: dict[int, Listed] = {}
        self._loops: dict[int, tuple[str, asyncio.Task[None]]] = {}
        self._doubted: dict[int, asyncio.Event] = {}
        self._limits: dict[int, asyncio.Timeout] = {}
        self._running: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._chores: set[asyncio.Task[None]] = set()

    def follow(self) -> None:
        """Start a loop for every enabled node and end those of nodes that are gone, disabled or moved."""
        nodes = self.admission.dispatcher.nodes
        for node_id, (url, task) in list(self._loops.items()):
            state = nodes.get(node_id)
            if state is None or not watched(state) or state.spec.url != url or task.done():
                task.cancel()
                del self._loops[node_id]
                if state is None or state.spec.url != url:
                    self.listed.pop(node_id, None)
                    self._doubted.pop(node_id, None)
        for node_id, state in nodes.items():
            if watched(state) and node_id not in self._loops:
                self._loops[node_id] = (state.spec.url, asyncio.ensure_future(self._watch(node_id)))

    async def close(self) -> None:
        tasks = [task for _, task in self._loops.values()] + list(self._running.values()) + list(self._chores)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._loops.clear()

    async def first(self, limit: float) -> None:
        """Look at all nodes once, for at most `limit` seconds, so that the first request finds the fleet known."""
        looks = [asyncio.ensure_future(self.look(node)) for node in list(self.nodes()) if node.spec.enabled]
        if looks:
            await asyncio.wait(looks, timeout=limit)

    def nodes(self) -> Any:
        return self.admission.dispatcher.nodes.values()

    async def _watch(self, node_id: int) -> None:
        """One node's loop; ends when the node is gone."""
        looks = failed = 0
        doubted = self._doubted[node_id] = asyncio.Event()
        while (state := self.admission.dispatcher.nodes.get(node_id)) is not None and watched(state):
            try:
                await self.look(state, lists=looks % INVENTORY_EVERY == 0)
            except Exception:
                log.exception("looking at %s failed", state.spec.name)
            if state.reach is Reach.UP:
                looks, failed, pause = looks + 1, 0, self.interval
            else:
                pause = min(self.interval, DOWN_SLOWEST, DOWN_FIRST * DOWN_GROWTH**failed)
                looks, failed = 0, min(failed + 1, DOWN_MOST)
            if doubted.is_set() and state.reach is not Reach.SUSPECT:
                doubted.clear()  # it is answered, the one way or the other
            if doubted.is_set():
                await asyncio.sleep(min(pause, DOWN_FIRST))
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(doubted.wait(), pause * uniform(0.9, 1.1))
        if state is not None and state.gone:
            self.admission.dispatcher.forget(node_id)

    def doubt(self, state: NodeState) -> None:
        """What runs on a node is silent for longer than it should be: look now, and do not wait long for the answer."""
        doubted, limit = self._doubted.get(state.spec.id), self._limits.get(state.spec.id)
        if doubted is None or state.reach not in {Reach.UP, Reach.SUSPECT}:
            return
        doubted.set()
        if limit is not None and not limit.expired():
            soon = asyncio.get_running_loop().time() + self._patience(state)
            limit.reschedule(min(soon, limit.when() or soon))

    def _patience(self, state: NodeState) -> float:
        """Seconds that a look at this node may take now."""
        doubted, listed = self._doubted.get(state.spec.id), self.listed.get(state.spec.id)
        if doubted is None or not doubted.is_set():
            return LOOK_LIMIT
        return min(LOOK_LIMIT, max(DOUBT_LIMIT, DOUBT_TIMES * listed.took if listed else 0.0))

    async def look(self, state: NodeState, *, lists: bool = True) -> None:
        """See whether a node answers and what is loaded there; with `lists`, also what is installed."""
        began = self.clock()
        try:
            state.set_version(wire.version(await self._version(state)))
            took = self.clock() - began
            state.observe_rtt(took)
            listed = self.listed.setdefault(state.spec.id, Listed())
            listed.took = max(took, FADING * listed.took)
        except NodeFailed as failure:
            if not failure.local:
                self._tell(state, str(failure), certain=failure.certain)
            return
        except ValueError as fault:
            self._tell(state, str(fault))
            return
        back = state.reach in {Reach.DOWN, Reach.UNKNOWN}
        reads = [self._aside(self.residents(state))]
        if lists or back:
            reads.append(self._aside(self.inventory(state)))
        if back:
            # Who comes back is used with what it has now, not with what it had; but lists that hang must not hide it.
            await asyncio.wait(reads, timeout=LIST_PATIENCE)
        self._tell(state, None)

    def _tell(self, state: NodeState, error: str | None, *, certain: bool = False) -> None:
        """Hand a look's result to the dispatcher; a change is an event, and the dead node's requests go elsewhere."""
        node_id = state.spec.id
        if self.admission.dispatcher.nodes.get(node_id) is not state:
            return
        changed = self.admission.dispatcher.observe_reach(node_id, error, self.clock(), certain=certain)
        if state.reach is Reach.DOWN:
            for call in tuple(state.calls):
                call()
        if changed is None:
            if error is None:
                self.admission.pump()
            return
        if changed is Reach.DOWN:
            log.warning("node %s is down: %s", state.spec.name, error)
        elif changed is Reach.UP:
            log.info("node %s is up: Ollama %s, %d models", state.spec.name, state.version, len(state.models))
        self.recorder.event(
            NodeEvent(node_id, time.time(), changed.value, f"seen by the gateway: {error or 'it answers'}")
        )
        self.admission.pump()

    def soon(self, state: NodeState) -> None:
        """Read what is installed on a node again, without waiting for it."""
        self._aside(self.inventory(state, SOON_AGE))

    def changed(self, state: NodeState) -> "asyncio.Task[None]":
        """What is installed on a node has just been changed through us: whatever was read before counts no more."""
        listed = self.listed.setdefault(state.spec.id, Listed())
        listed.asked_at, listed.changed_at = float("-inf"), self.clock()
        self._running.pop(("tags", id(state)), None)
        return self._aside(self.inventory(state))

    def _aside(self, reading: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Read a list beside the looks, so that one that hangs does not keep them from finding the node dead."""
        task = asyncio.ensure_future(reading)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
        return task

    async def inventory(self, state: NodeState, max_age: float = 0.0) -> None:
        """Read what is installed, unless that was done within `max_age` seconds.

        Callers at the same time share one look.
        """
        await self._shared("tags", state, max_age, self._read_inventory)

    async def residents(self, state: NodeState, max_age: float = 0.0) -> None:
        """The same for what is loaded."""
        await self._shared("ps", state, max_age, self._read_residents)

    async def _shared(self, kind: str, state: NodeState, max_age: float, read: Any) -> None:
        listed = self.listed.setdefault(state.spec.id, Listed())
        if max_age and self.clock() - (listed.asked_at if kind == "tags" else listed.ps_at) <= max_age:
            return
        key = (kind, id(state))
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.ensure_future(read(state, listed))
            task.add_done_callback(partial(self._read, key))
        await asyncio.shield(task)

    def _read(self, key: tuple[str, int], task: "asyncio.Task[None]") -> None:
        if self._running.get(key) is task:
            del self._running[key]

    async def _read_inventory(self, state: NodeState, listed: Listed) -> None:
        asked = self.clock()
        try:
            rows = wire.rows(await self._get(state, "/api/tags", LIST_LIMIT))
        except (NodeFailed, ValueError) as failure:
            log.info("node %s does not list its models: %s", state.spec.name, failure)
            return
        if self.admission.dispatcher.nodes.get(state.spec.id) is not state:
            return
        if asked < listed.asked_at or asked < listed.changed_at:
            return  # a list that was asked for later counts
        listed.tags, listed.tags_at, listed.asked_at = rows, self.clock(), asked
        drifted = dict(self.admission.dispatcher.drifted)
        models = [model for row in rows if (model := wire.installed(row)) is not None]
        self.admission.dispatcher.observe_inventory(state.spec.id, models, asked)
        for key, digest in self.admission.dispatcher.drifted.items():
            if key not in drifted:
                log.warning("nodes have different weights under the name %s; %s counts", display(key), digest[:12])
        self.admission.pump()

    async def _read_residents(self, state: NodeState, listed: Listed) -> None:
        try:
            rows = wire.rows(await self._get(state, "/api/ps", LOOK_LIMIT))
        except (NodeFailed, ValueError):
            # A node that is loading a model may answer this late; what was resident is believed until it does.
            return
        if self.admission.dispatcher.nodes.get(state.spec.id) is not state:
            return
        listed.ps, listed.ps_at = rows, self.clock()
        residents = [resident for row in rows if (resident := wire.resident(row)) is not None]
        self.admission.dispatcher.observe_residents(state.spec.id, residents)

    async def _version(self, state: NodeState) -> bytes:
        """What a look asks for; how long it may take can change while it does."""
        began, node_id = self.clock(), state.spec.id
        limit = self._limits[node_id] = asyncio.timeout(self._patience(state))
        try:
            async with limit:
                return await self._get(state, "/api/version", LOOK_LIMIT)
        except TimeoutError:
            raise NodeFailed(f"/api/version gave no answer within {self.clock() - began:.1f} s") from None
        finally:
            if self._limits.get(node_id) is limit:
                del self._limits[node_id]

    async def _get(self, state: NodeState, path: str, limit: float) -> bytes:
        """The body of a GET. Raises `NodeFailed`, also for a status that is not 200 and for silence."""
        try:
            async with asyncio.timeout(limit):
                answer = await self.upstream.open(state.spec, "GET", path)
                try:
                    data = await answer.whole(LARGEST_LIST)
                finally:
                    answer.close()
        except TimeoutError:
            raise NodeFailed(f"{path} gave no answer within {limit:.0f} s") from None
        if answer.status != OK:
            raise NodeFailed(f"{path} answered {answer.status}")
        return data


def watched(state: NodeState) -> bool:
    """Whether a node is looked at: while it is enabled, and until what still runs there has ended."""
    return state.spec.enabled or bool(state.in_flight or state.calls)
