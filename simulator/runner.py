"""A loaded model: its slots, and the share of the machine that its sequences get."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from simulator.clock import Clock
from simulator.faults import RUNNER_DIED, Faults
from simulator.library import InstalledModel
from simulator.options import RunnerOptions
from simulator.profiles import Profile
from simulator.record import Record
from simulator.text import common_prefix, count_tokens

# Work that is less than this far away is done; it is far below what a timer can tell.
_NEGLIGIBLE_SECONDS = 1e-9


class RunnerDied(Exception):  # noqa: N818 - named after what happened
    """The engine behind a running request is gone; `status` is what the client is told before the first object."""

    def __init__(self, text: str = RUNNER_DIED) -> None:
        super().__init__(text)
        self.status = HTTPStatus.INTERNAL_SERVER_ERROR
        self.text = text


class Slots:
    """A first-come-first-served semaphore; each slot remembers the text whose keys and values it still holds."""

    def __init__(self, count: int, *, remembers: bool = True) -> None:
        self._remembers = remembers
        self._free = list(range(count))
        self._waiting: deque[tuple[asyncio.Future[int], str]] = deque()
        self.texts = [""] * count

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def acquire(self, prompt: str) -> int:
        """A slot, the one that shares the longest beginning with the prompt among those that are free."""
        if self._free and not self._waiting:
            return self._pick(prompt)
        place: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        entry = (place, prompt)
        self._waiting.append(entry)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self.release(place.result())
            elif entry in self._waiting:
                self._waiting.remove(entry)
            raise

    def release(self, slot: int) -> None:
        self._free.append(slot)
        while self._waiting and self._free:
            place, prompt = self._waiting.popleft()
            if not place.done():
                place.set_result(self._pick(prompt))

    def fail_waiting(self) -> None:
        for place, _ in self._waiting:
            if not place.done():
                place.set_exception(RunnerDied())
        self._waiting.clear()

    def _pick(self, prompt: str) -> int:
        if not self._remembers:
            return self._free.pop()
        # The least recently used one (they are released to the end) wins a tie.
        best = max(self._free, key=lambda slot: common_prefix(self.texts[slot], prompt))
        self._free.remove(best)
        return best


class Device:
    """The machine's compute, divided among the sequences that run.

    Each of k sequences of one runner advances at k**(alpha - 1) of its speed alone; runners that are busy at the
    same time take equal turns. Work is counted in seconds of one sequence alone on an idle machine.
    """

    def __init__(self, clock: Clock, profile: Profile, faults: Faults, seed: int = 0) -> None:
        self.clock = clock
        self.profile = profile
        self.faults = faults
        self.random = random.Random(seed)
        self._busy: set[Runner] = set()

    def advance(self) -> None:
        """Credit every busy runner with the work since the last call."""
        now = self.clock.now()
        for runner in self._busy:
            runner.work += (now - runner.worked_at) * self.share(runner)
            runner.worked_at = now

    def share(self, runner: "Runner") -> float:
        """Work per second of each sequence of a busy runner."""
        return self.profile.slowdown(runner.active) / (len(self._busy) * self.faults.slowdown)

    def enter(self, runner: "Runner") -> None:
        self.advance()
        if not runner.active:
            runner.worked_at = self.clock.now()
            self._busy.add(runner)
        runner.active += 1

    def leave(self, runner: "Runner") -> None:
        self.advance()
        runner.active -= 1
        if not runner.active:
            self._busy.discard(runner)

    def jittered(self, seconds: float) -> float:
        jitter = self.profile.jitter
        return seconds * (1 + self.random.uniform(-jitter, jitter)) if jitter else seconds


class Runner:
    """A model in memory. Sizes are bytes; `session` is its keep_alive in seconds, `expires_at` seconds since 1970."""

    def __init__(
        self, model: InstalledModel, options: RunnerOptions, num_ctx: int, device: Device, record: Record
    ) -> None:
        self.model = model
        self.spec = model.spec
        self.options = options
        self.num_ctx = num_ctx
        self.device = device
        self.record = record
        self.memory = 0
        self.vram = 0
        self.gpu_share = 0.0
        self.parallel = device.profile.slots(model.spec)
        self.slots = Slots(self.parallel, remembers=not device.profile.instant)
        self.session = 0.0
        self.expires_at: float | None = None
        self.references = 0
        self.timer: asyncio.TimerHandle | None = None
        self.leaves_for = "expired"
        self.dead = False
        self.active = 0
        self.work = 0.0
        self.worked_at = 0.0

    @asynccontextmanager
    async def slot(self, prompt: str) -> AsyncIterator["Sequence"]:
        """A place in the batch, waited for in the order of arrival and given back at the end."""
        slot = await self.slots.acquire(prompt)
        name = self.model.name.shortest
        self.record.start(name)
        self.device.enter(self)
        try:
            yield Sequence(self, slot, prompt)
        finally:
            self.device.leave(self)
            self.record.stop(name)
            self.slots.release(slot)

    def die(self) -> None:
        self.dead = True
        self.slots.fail_waiting()


class Sequence:
    """One request in a runner's batch: first its prompt, then its tokens, each due at an absolute amount of work."""

    def __init__(self, runner: Runner, slot: int, prompt: str) -> None:
        self._runner = runner
        self._device = runner.device
        self._slot = slot
        self._prompt = prompt
        profile = runner.device.profile
        self._decode = runner.device.jittered(profile.decode_seconds(runner.spec, runner.gpu_share))
        self._prefill = runner.device.jittered(profile.prefill_seconds(runner.spec, runner.gpu_share))
        self._start = 0.0
        self._tokens = 0

    async def evaluate(self, tokens: int) -> None:
        """Work through a prompt of so many tokens; what the slot still holds of it costs nothing."""
        if not self._prefill:
            await self._check()
            return
        held = common_prefix(self._runner.slots.texts[self._slot], self._prompt)
        cached = count_tokens(self._prompt[:held]) if held else 0
        self._runner.slots.texts[self._slot] = ""
        self._device.advance()
        await self._reach(self._runner.work + max(1, tokens - cached) * self._prefill)
        self._runner.slots.texts[self._slot] = self._prompt
        self._start = self._runner.work

    async def due(self, most: int) -> int:
        """Wait until at least one more token is due, and return how many are, at most `most`."""
        if not self._decode:
            # No time model: hand out what is asked for, and let the others have their turn.
            await asyncio.sleep(0)
            await self._check()
            return most
        await self._reach(self._start + (self._tokens + 1) * self._decode)
        due = int((self._runner.work - self._start) / self._decode + 1e-6) - self._tokens
        due = max(1, min(due, most))
        self._tokens += due
        return due

    async def finish(self, tokens: int) -> None:
        """Wait until so many more tokens are due."""
        self._tokens += tokens
        if not self._decode:
            await self._check()
            return
        await self._reach(self._start + self._tokens * self._decode)

    def remember(self, answer: str) -> None:
        """The slot now holds prompt and answer, so that a next turn need not evaluate them again."""
        if self._prefill:
            self._runner.slots.texts[self._slot] = self._prompt + answer

    async def _reach(self, target: float) -> None:
        runner, device = self._runner, self._device
        while True:
            if device.faults.hang or runner.dead:
                target += await self._check()
            device.advance()
            remaining = target - runner.work
            if remaining <= _NEGLIGIBLE_SECONDS:
                return
            # Others may come or go meanwhile, and then this wakes early or a little late and looks again.
            await device.clock.sleep(remaining / device.share(runner))

    async def _check(self) -> float:
        """Stand still while the node hangs; returns the work that was not done meanwhile."""
        self._device.advance()
        before = self._runner.work
        await self._device.faults.until_thawed()
        if self._runner.dead:
            raise RunnerDied
        self._device.advance()
        lost = self._runner.work - before
        self._start += lost
        return lost
