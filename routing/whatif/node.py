"""A simulated Ollama node: runners with slots, one load at a time, eviction; what /api/ps shows is all it tells."""

import math
import random
from collections import deque
from collections.abc import Callable

from routing.whatif.machines import OVERHEAD_S, Machine, Runnable
from routing.whatif.timeline import Timeline
from routing.whatif.work import Runner, Word, Work

#: Spread (sigma of a lognormal) of the time that loads take.
LOAD_SPREAD = 0.15
#: Seconds alone below which work counts as done.
DONE = 1e-9


class Node:
    """One machine at work; `tell` is called with what it says of each work, at the moment at which it says it.

    A request for a loaded model goes to its runner and waits there for a slot; any other waits in one line for its
    model to be loaded. For room the idle runner used longest ago goes; if none is idle, that of the busy ones is closed
    and drained while the line waits. (Ollama lets newcomers join a runner that is to go, which can hold the line up
    without end; closing it is kinder to routers that do not hold requests back.)
    """

    def __init__(
        self, machine: Machine, timeline: Timeline, tell: Callable[[Work, Word], None], rng: random.Random
    ) -> None:
        self.machine, self.timeline, self.tell, self.rng = machine, timeline, tell, rng
        self.up, self.slowed = True, 1.0
        self.runners: dict[str, Runner] = {}
        self.line: deque[Work] = deque()
        self.running: list[Work] = []
        self.loading: Runner | None = None
        self.loads = self.evictions = 0
        self.busy_s = 0.0
        self._advanced_at = 0.0
        self._version = self._life = 0

    # What comes from outside

    def take(self, work: Work) -> None:
        """A request arrives."""
        if work.dropped:
            return
        if not self.up or self.queued >= self.machine.most_queued:
            self.tell(work, Word.FULL if self.up else Word.LOST)
            return
        work.taken_at = self.timeline.now
        self._expire()
        runner = self.runners.get(work.model.weights)
        (self.line if runner is None or runner.leaving else runner.waiting).append(work)
        self._turn()

    def drop(self, work: Work) -> None:
        """The client is gone."""
        work.dropped = True
        self._advance()
        if work in self.running:
            self._end(work)
        elif work in self.line:
            self.line.remove(work)
        elif (runner := self.runners.get(work.model.weights)) is not None and work in runner.waiting:
            runner.waiting.remove(work)
        self._turn()

    def crash(self) -> None:
        """The machine is gone, and with it all work and all that was loaded."""
        self._advance()
        lost = [*self.running, *self.line, *(work for runner in self.runners.values() for work in runner.waiting)]
        self.up, self.loading = False, None
        self.running, self.line, self.runners = [], deque(), {}
        self._life += 1
        self._version += 1
        for work in lost:
            self.tell(work, Word.LOST)

    def recover(self) -> None:
        self.up, self._advanced_at = True, self.timeline.now

    def slow(self, speed: float) -> None:
        """From now on at this part of its speed."""
        self._advance()
        self.slowed = speed
        self._turn()

    def preload(self, key: str) -> None:
        """Have a model in memory from the start, if there is room."""
        model = self.machine.models[key]
        if model.weights not in self.runners and self._room(model) and len(self.runners) < self.machine.most_loaded:
            self.runners[model.weights] = Runner(model, self.timeline.now, ready=True)

    def loaded(self) -> list[Runnable]:
        """What /api/ps would list."""
        self._expire()
        return [runner.model for runner in self.runners.values() if runner.ready]

    @property
    def queued(self) -> int:
        """Requests that wait here."""
        return len(self.line) + sum(len(runner.waiting) for runner in self.runners.values())

    @property
    def used(self) -> float:
        """Bytes of memory taken."""
        return sum(runner.model.memory for runner in self.runners.values())

    # The work itself

    def rates(self) -> tuple[float, float]:
        """How fast each of the running requests gets on while its prompt is read, and while it answers."""
        running = len(self.running)
        if running <= 1:
            return self.slowed, self.slowed
        machine = self.machine
        return (
            self.slowed * math.pow(running, machine.prompt_alpha - 1.0),
            self.slowed * math.pow(running, machine.alpha - 1.0),
        )

    def _advance(self) -> None:
        """Bring the running work up to now."""
        now = self.timeline.now
        span, self._advanced_at = now - self._advanced_at, now
        if span <= 0.0 or not self.running:
            return
        reading, answering = self.rates()
        self.busy_s += span
        for work in self.running:
            if work.first_at < 0.0:
                work.prompt_left -= span * reading
            else:
                work.answer_left -= span * answering

    def _turn(self) -> None:
        """Start what can start, and come back when the next of the running work gets somewhere."""
        self._advance()
        self._load_next()
        for runner in self.runners.values():
            while runner.ready and runner.waiting and runner.running < runner.model.slots:
                self._start(runner, runner.waiting.popleft())
        self._version += 1
        if self.running:
            reading, answering = self.rates()
            soonest = min(
                work.prompt_left / reading if work.first_at < 0.0 else work.answer_left / answering
                for work in self.running
            )
            self.timeline.after(max(0.0, soonest), self._reached, self._version)

    def _start(self, runner: Runner, work: Work) -> None:
        work.begun_at = runner.used_at = self.timeline.now
        work.prompt_left += OVERHEAD_S
        runner.running += 1
        self.running.append(work)

    def _reached(self, version: int) -> None:
        """Some running work has read its prompt or is done."""
        if version != self._version:
            return
        self._advance()
        for work in tuple(self.running):
            if work.first_at < 0.0 and work.prompt_left <= DONE:
                if work.fails:
                    self._say(work, Word.ERROR)
                    continue
                work.first_at = self.timeline.now
                self.tell(work, Word.FIRST)
            if work.first_at >= 0.0 and work.answer_left <= DONE:
                self._say(work, Word.DONE)
        self._turn()

    def _say(self, work: Work, word: Word) -> None:
        self._end(work)
        self.tell(work, word)

    def _end(self, work: Work) -> None:
        self.running.remove(work)
        runner = self.runners[work.model.weights]
        runner.running -= 1
        runner.used_at = self.timeline.now

    # Memory

    def _room(self, model: Runnable) -> bool:
        return self.used + model.memory <= self.machine.memory

    def _expire(self) -> None:
        """Let go what was idle for longer than it is kept."""
        since = self.timeline.now - self.machine.keep_alive_s
        for weights, runner in list(self.runners.items()):
            if runner.idle and runner.used_at < since:
                del self.runners[weights]

    def _load_next(self) -> None:
        """The line's head gets its runner: the loaded one, or one that is loaded now, once there is room."""
        for weights in [weights for weights, runner in self.runners.items() if runner.leaving and runner.idle]:
            self._evict(weights)
        while self.line and self.loading is None:
            model = self.line[0].model
            runner = self.runners.get(model.weights)
            if runner is None:
                if not self._make_room(model):
                    return
                runner = self._load(model)
            elif runner.leaving:
                return
            runner.waiting.append(self.line.popleft())

    def _make_room(self, model: Runnable) -> bool:
        """Evict idle runners until the model fits; true once it does."""
        for runner in sorted((one for one in self.runners.values() if one.idle), key=lambda one: one.used_at):
            if self._fits(model):
                break
            self._evict(runner.model.weights)
        if self._fits(model):
            return True
        if not any(runner.leaving for runner in self.runners.values()):
            busy = [runner for runner in self.runners.values() if runner.ready]
            min(busy, key=lambda one: one.used_at).leaving = True
        return False

    def _fits(self, model: Runnable) -> bool:
        return self._room(model) and len(self.runners) < self.machine.most_loaded

    def _evict(self, weights: str) -> None:
        del self.runners[weights]
        self.evictions += 1

    def _load(self, model: Runnable) -> Runner:
        runner = self.loading = self.runners[model.weights] = Runner(model, self.timeline.now)
        self.loads += 1
        seconds = model.load_s * math.exp(self.rng.gauss(0.0, LOAD_SPREAD)) / self.slowed
        self.timeline.after(seconds, self._loaded, runner, self._life)
        return runner

    def _loaded(self, runner: Runner, life: int) -> None:
        if life != self._life:
            return
        runner.ready, runner.used_at, self.loading = True, self.timeline.now, None
        for work in runner.waiting:
            work.load_s = self.timeline.now - work.taken_at
        self._turn()
