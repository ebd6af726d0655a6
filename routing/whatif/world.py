"""One run of the model: requests arrive, a router sends them, nodes work, fail and answer, clients wait and give up."""

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from routing.whatif.calls import Call, End
from routing.whatif.faults import Fault
from routing.whatif.machines import Machine, Runnable
from routing.whatif.node import Node
from routing.whatif.timeline import Timeline
from routing.whatif.traffic import Asked
from routing.whatif.work import Word, Work


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every router alike; times in seconds.

    `look_s`: how often it learns which nodes are up and what is loaded there. `tick_s`: how often it looks at its queue
    while something waits there. A failed attempt is followed by another after `pause_s`, doubled each time, up to
    `attempts` in all; `noise` is the spread of work (sigma of a lognormal), `errors` the part of attempts that fail.
    """

    look_s: float = 2.0
    tick_s: float = 0.1
    attempts: int = 3
    pause_s: float = 0.1
    noise: float = 0.1
    errors: float = 0.0


class Router(Protocol):
    """What decides where requests go. It calls `World.send` and `World.close`; all else that it may know is told here.

    `looked` gets what each node has loaded, None for one that does not answer.
    """

    def begin(self, world: "World") -> None: ...

    def arrived(self, call: Call) -> None: ...

    def answered(self, call: Call) -> None: ...

    def ended(self, call: Call, word: Word) -> None: ...

    def left(self, call: Call) -> None: ...

    def looked(self, loaded: Mapping[int, Sequence[Runnable] | None]) -> None: ...


class World:
    """Nodes, requests and a router in virtual time.

    The same seed gives the same noise, errors and load times whoever routes: a request's noise is drawn by its number.
    `preload` names by node what is in memory at the start.
    """

    def __init__(
        self,
        machines: Sequence[Machine],
        asked: Iterable[Asked],
        router: Router,
        seed: int = 0,
        rules: Rules | None = None,
        faults: Iterable[Fault] = (),
        preload: Mapping[int, Sequence[str]] | None = None,
    ) -> None:
        self.rules, self.router, self.timeline = rules or Rules(), router, Timeline()
        self.random = random.Random(seed)
        self.nodes = {
            machine.spec.id: Node(
                machine,
                self.timeline,
                partial(self._told, machine.rtt_s / 2),
                random.Random(seed * 104_729 + machine.spec.id),
            )
            for machine in machines
        }
        self.calls = [self._call(one) for one in asked]
        self.open = len(self.calls)
        for node_id, keys in (preload or {}).items():
            for key in keys:
                self.nodes[node_id].preload(key)
        self._schedule(faults)
        router.begin(self)
        self._look()

    @property
    def now(self) -> float:
        return self.timeline.now

    def run(self, progress: Callable[[float], None] | None = None) -> list[Call]:
        """Let everything happen until every request has ended; `progress` is told now and then which part has."""
        told = 0
        while self.open and self.timeline.step():
            done = len(self.calls) - self.open
            if progress is not None and done >= told:
                told = done + max(1, len(self.calls) // 200)
                progress(done / len(self.calls))
        return self.calls

    # What a router may do

    def send(self, call: Call, node_id: int) -> None:
        """Begin an attempt."""
        node, asked = self.nodes[node_id], call.asked
        model = node.machine.models[asked.profile.key]
        luck = call.luck[call.attempts % len(call.luck)]
        call.work = Work(
            call,
            model,
            asked.profile.prompt_tokens * model.prompt_s * call.noise,
            asked.output_tokens * model.output_s * call.noise,
            fails=luck < self.rules.errors,
        )
        call.attempts += 1
        call.node_id, call.sent_at, call.begun_at, call.first_at = node_id, self.now, -1.0, -1.0
        self.timeline.after(node.machine.rtt_s / 2, node.take, call.work)

    def close(self, call: Call, end: End) -> None:
        """A request's one end."""
        if call.end is not None:
            raise AssertionError(f"request {call.asked.number} ends twice")
        call.end, call.ended_at = end, self.now
        self.open -= 1

    def pause(self, call: Call) -> float:
        """Seconds before the next attempt of a request that has failed."""
        return float(self.rules.pause_s * 2.0 ** (call.attempts - 1) * self.random.uniform(0.5, 1.5))

    # What happens

    def _call(self, asked: Asked) -> Call:
        noise = math.exp(self.random.gauss(0.0, self.rules.noise))
        luck = tuple(self.random.random() for _ in range(self.rules.attempts))
        return Call(asked, noise, luck)

    def _schedule(self, faults: Iterable[Fault]) -> None:
        for call in self.calls:
            self.timeline.at(call.asked.at, self._arrive, call)
        for fault in faults:
            node = self.nodes.get(fault.node_id)
            if node is not None and fault.speed > 0.0:
                self.timeline.at(fault.at, node.slow, fault.speed)
                self.timeline.at(fault.until, node.slow, 1.0)
            elif node is not None:
                self.timeline.at(fault.at, node.crash)
                self.timeline.at(fault.until, node.recover)

    def _arrive(self, call: Call) -> None:
        self.timeline.after(call.asked.patience_s, self._give_up, call)
        self.router.arrived(call)

    def _told(self, way_s: float, work: Work, word: Word) -> None:
        """A node has said something; the router hears it half a round trip later."""
        self.timeline.after(way_s, self._hear, work, word)

    def _hear(self, work: Work, word: Word) -> None:
        call = work.owner
        if not isinstance(call, Call) or call.work is not work or work.dropped:
            return
        call.begun_at = work.begun_at
        if word is Word.FIRST:
            call.first_at = self.now
            self.router.answered(call)
            return
        work.dropped = True
        self.router.ended(call, word)

    def _give_up(self, call: Call) -> None:
        if call.end is not None:
            return
        self.router.left(call)
        if call.work is not None and call.node_id is not None and not call.work.dropped:
            self.nodes[call.node_id].drop(call.work)
        self.close(call, End.LEFT)

    def _look(self) -> None:
        self.router.looked({node_id: node.loaded() if node.up else None for node_id, node in self.nodes.items()})
        if self.open:
            self.timeline.after(self.rules.look_s, self._look)
