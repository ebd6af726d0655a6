"""Which models are in memory: one loader loop, a bounded queue in front of it, and eviction."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from simulator.clock import Clock
from simulator.faults import LOAD_FAILED, Faults
from simulator.library import InstalledModel
from simulator.options import DEFAULT_BATCH, RunnerOptions
from simulator.profiles import FIT_SHARE, GIB, Profile
from simulator.record import Eviction, Load, Record
from simulator.runner import Device, Runner
from simulator.wire import Refusal

BUSY_TEXT = "server busy, please try again.  maximum pending requests exceeded"
OUT_OF_MEMORY = "llama-server process has terminated: error: out of memory"
RECOVERY_POLL_SECONDS = 0.25
SMALLER_CONTEXTS = (32_768, 4096)


class QueueFull(Refusal):
    def __init__(self) -> None:
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, BUSY_TEXT)


class LoadFailed(Refusal):
    def __init__(self, text: str = LOAD_FAILED) -> None:
        super().__init__(HTTPStatus.INTERNAL_SERVER_ERROR, text)


@dataclass(eq=False)
class Pending:
    """A request that waits for its model to be loaded; it keeps its place in the queue also when its client is gone."""

    model: InstalledModel
    options: RunnerOptions
    keep_alive: float | None
    granted: "asyncio.Future[Runner]"
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class Scheduler:
    """The runners of one node, at most one for each weights file, and the loop that loads and evicts them."""

    def __init__(self, clock: Clock, profile: Profile, device: Device, faults: Faults, record: Record) -> None:
        self._clock = clock
        self._profile = profile
        self._device = device
        self._faults = faults
        self._record = record
        # Other people's machine: what runs there takes no time that this node could tell.
        self._elsewhere = Device(clock, replace(profile, instant=True), faults)
        self.runners: dict[str, Runner] = {}
        self._pending: deque[Pending] = deque()
        self._arrived = asyncio.Event()
        self._unloaded = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self.loading: str = ""
        """The model that is being loaded, empty when none is."""

    @property
    def queued(self) -> int:
        """Requests in the load queue; the one that the loop works on is not among them."""
        return len(self._pending)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop().create_task(self._load_one_by_one())

    def lose_all(self, reason: str) -> None:
        """The process is gone: no loop, no queue, no runners."""
        if self._loop is not None:
            self._loop.cancel()
            self._loop = None
        for pending in self._pending:
            pending.granted.cancel()
        self._pending.clear()
        self.loading = ""
        for runner in list(self.runners.values()):
            runner.die()
            self._remove(runner, reason)

    @asynccontextmanager
    async def lease(
        self, model: InstalledModel, options: RunnerOptions, keep_alive: float | None
    ) -> AsyncIterator[Runner]:
        """A runner that is loaded and stays so until the request has ended; one elsewhere takes nothing of this node.

        keep_alive is in seconds, None leaves the runner's. Raises QueueFull and LoadFailed.
        """
        if model.spec.remote_host:
            yield Runner(model, options, options.num_ctx or model.spec.train_context, self._elsewhere, Record())
            return
        runner = await self._acquire(model, options.clamped(model.spec), keep_alive)
        try:
            yield runner
        finally:
            self._release(runner)

    def expire(self, model: InstalledModel) -> None:
        """Unload as soon as nobody uses it; the answer to an unload request does not wait for that."""
        runner = self.runners.get(model.spec.weights_digest)
        if runner is None:
            return
        self._mark(runner, "asked")
        runner.expires_at = self._clock.epoch()

    def expire_all(self) -> None:
        """After running out of memory at work: no runner stays longer than its requests."""
        for runner in list(self.runners.values()):
            self._mark(runner, "room")

    def crash(self, runner: Runner) -> None:
        """The engine died: whoever uses it gets an error, and the next request loads anew."""
        runner.die()
        if self.runners.get(runner.spec.weights_digest) is runner:
            self._remove(runner, "crashed")

    async def _acquire(self, model: InstalledModel, options: RunnerOptions, keep_alive: float | None) -> Runner:
        runner = self.runners.get(model.spec.weights_digest)
        if runner is not None and not self._needs_reload(runner, options):
            return self._use(runner, keep_alive)
        if len(self._pending) >= self._profile.max_queue:
            self._record.busy_refusals += 1
            raise QueueFull
        pending = Pending(model, options, keep_alive, asyncio.get_running_loop().create_future())
        self._pending.append(pending)
        self._arrived.set()
        try:
            return await pending.granted
        except asyncio.CancelledError:
            pending.gone.set()
            granted = pending.granted
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self._release(granted.result())
            raise

    def _needs_reload(self, runner: Runner, options: RunnerOptions) -> bool:
        default = min(self._profile.default_context(), runner.spec.train_context)
        return options.needs_reload(runner.options, runner.num_ctx, default)

    def _use(self, runner: Runner, keep_alive: float | None) -> Runner:
        runner.references += 1
        if runner.timer is not None:
            runner.timer.cancel()
            runner.timer = None
        if keep_alive is not None:
            runner.session = keep_alive
            runner.leaves_for = "expired"
        return runner

    def _release(self, runner: Runner) -> None:
        runner.references -= 1
        if runner.references or runner.dead:
            return
        if runner.session <= 0:
            self._remove(runner, runner.leaves_for)
            return
        runner.expires_at = self._clock.epoch() + runner.session
        if not math.isinf(runner.session):
            runner.timer = self._clock.call_later(runner.session, lambda: self._expired(runner))

    def _expired(self, runner: Runner) -> None:
        if not runner.references and not runner.dead:
            self._remove(runner, "expired")

    def _remove(self, runner: Runner, reason: str) -> None:
        if self.runners.get(runner.spec.weights_digest) is not runner:
            return
        del self.runners[runner.spec.weights_digest]
        if runner.timer is not None:
            runner.timer.cancel()
        self._record.evictions.append(Eviction(runner.model.name.shortest, reason, self._clock.now()))
        self._unloaded.set()

    def _mark(self, runner: Runner, reason: str) -> None:
        runner.session = 0.0
        runner.leaves_for = reason
        if not runner.references:
            self._remove(runner, reason)

    async def _load_one_by_one(self) -> None:
        while True:
            while not self._pending:
                self._arrived.clear()
                await self._arrived.wait()
            pending = self._pending.popleft()
            with suppress(Refusal):
                await self._place(pending)

    async def _place(self, pending: Pending) -> None:
        """Give the request a runner, evicting and loading as needed; everybody behind it waits."""
        while not pending.gone.is_set():
            runner = self.runners.get(pending.model.spec.weights_digest)
            if runner is not None and not self._needs_reload(runner, pending.options):
                self._grant(pending, runner)
                return
            if runner is not None:
                await self._evict(runner, "reload")
            elif (victim := self._in_the_way(pending)) is not None:
                await self._evict(victim, "room")
            else:
                await self._load(pending)
                return

    def _grant(self, pending: Pending, runner: Runner) -> None:
        self._use(runner, pending.keep_alive)
        if pending.granted.done():
            self._release(runner)
        else:
            pending.granted.set_result(runner)

    def _in_the_way(self, pending: Pending) -> Runner | None:
        """The runner to evict before this model can be loaded, None when there is room."""
        if not self.runners:
            return None
        if len(self.runners) < self._profile.max_loaded:
            needed = self._needed(pending.model, pending.options, self._context(pending))
            if needed <= FIT_SHARE * self._free_bytes():
                return None
        ordered = sorted(self.runners.values(), key=lambda runner: (runner.session, runner.spec.weights_digest))
        return next((runner for runner in ordered if not runner.references), ordered[0])

    async def _evict(self, victim: Runner, reason: str) -> None:
        """Unload a runner when it is idle; the memory of a GPU takes a moment to come back."""
        self._unloaded.clear()
        self._mark(victim, reason)
        # Whichever runner goes first, the situation is looked at again, as the real loop does.
        await self._unloaded.wait()
        if self._profile.has_gpu and self._profile.unload_recovery > 0:
            polls = math.ceil(self._profile.unload_recovery / RECOVERY_POLL_SECONDS)
            await self._clock.sleep(polls * RECOVERY_POLL_SECONDS)

    def _context(self, pending: Pending) -> int:
        return pending.options.num_ctx or min(self._profile.default_context(), pending.model.spec.train_context)

    def _needed(self, model: InstalledModel, options: RunnerOptions, num_ctx: int) -> int:
        """Bytes of the memory that runners share which this one would take."""
        total = self._profile.needed_bytes(model.spec, num_ctx, options.num_batch or DEFAULT_BATCH)
        if not self._profile.has_gpu or options.num_gpu < 0:
            return total
        return int(total * min(1.0, options.num_gpu / (model.spec.layers + 1)))

    def _free_bytes(self) -> int:
        used = sum(runner.vram if self._profile.has_gpu else runner.memory for runner in self.runners.values())
        return max(0, self._profile.memory_bytes - used)

    async def _load(self, pending: Pending) -> None:
        started = self._clock.now()
        num_ctx = self._context(pending)
        name = self.loading = pending.model.name.shortest
        try:
            runner = await self._load_or_retry(pending, num_ctx)
        except Refusal as refusal:
            self._record.loads.append(Load(name, num_ctx, started, self._clock.now() - started, failed=True))
            if not pending.granted.done():
                pending.granted.set_exception(refusal)
            return
        finally:
            self.loading = ""
        if runner is None:
            return
        self._record.loads.append(Load(name, runner.num_ctx, started, self._clock.now() - started))
        self.runners[runner.spec.weights_digest] = runner
        self._grant(pending, runner)

    async def _load_or_retry(self, pending: Pending, num_ctx: int) -> Runner | None:
        if await self._attempt(pending):
            return None
        if self._faults.load_memory_errors > 0:
            # One retry that needs less: a smaller automatic context, and nobody else in memory.
            self._faults.load_memory_errors -= 1
            if pending.options.num_ctx is None:
                num_ctx = next((smaller for smaller in SMALLER_CONTEXTS if smaller < num_ctx), num_ctx)
            for other in list(self.runners.values()):
                await self._evict(other, "room")
            if await self._attempt(pending):
                return None
            if self._faults.load_memory_errors > 0:
                self._faults.load_memory_errors -= 1
                raise LoadFailed(OUT_OF_MEMORY)
        return self._loaded(pending, num_ctx)

    async def _attempt(self, pending: Pending) -> bool:
        """Spend the time of a load; True when the client left, which ends it for nobody else."""
        seconds = self._device.jittered(self._profile.load_seconds(pending.model.spec)) * self._faults.slowdown
        failure = self._faults.fail_load
        if failure is not None and self._faults.strikes():
            await self._aborted_within(pending, min(seconds, self._profile.load_fixed))
            raise LoadFailed(failure or LOAD_FAILED)
        aborted = await self._aborted_within(pending, seconds)
        if self._faults.stall_load:
            aborted = await self._aborted_in_stall(pending)
        await self._faults.until_thawed()
        return aborted

    async def _aborted_within(self, pending: Pending, seconds: float) -> bool:
        if not seconds:
            return pending.gone.is_set()
        with suppress(TimeoutError):
            await asyncio.wait_for(pending.gone.wait(), seconds / self._clock.speed)
        return pending.gone.is_set()

    async def _aborted_in_stall(self, pending: Pending) -> bool:
        waits = [asyncio.ensure_future(wait) for wait in (pending.gone.wait(), self._faults.until_loads_go_on())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return pending.gone.is_set()

    def _loaded(self, pending: Pending, num_ctx: int) -> Runner:
        """The runner, as much of it on the GPU as there is room for."""
        model, options = pending.model, pending.options
        batch = options.num_batch or DEFAULT_BATCH
        runner = Runner(model, options, num_ctx, self._device, self._record)
        runner.memory = self._profile.needed_bytes(model.spec, num_ctx, batch)
        if self._profile.has_gpu:
            runner.vram = min(self._needed(model, options, num_ctx), self._free_bytes())
        runner.gpu_share = runner.vram / runner.memory
        system_memory = runner.memory - runner.vram
        if system_memory > self._profile.ram_bytes:
            raise LoadFailed(
                f"model requires more system memory ({system_memory / GIB:.1f} GiB) "
                f"than is available ({self._profile.ram_bytes / GIB:.1f} GiB)"
            )
        runner.session = self._profile.keep_alive
        return runner
