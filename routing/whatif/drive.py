"""The gateway's own dispatcher in virtual time; the one module of the model that calls it."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from routing.core.dispatcher import Dispatcher, Limits, Verdict
from routing.core.errors import Refusal
from routing.core.health import Health
from routing.core.learned import Learned
from routing.core.learner import Metrics
from routing.core.snapshot import FleetSnapshot
from routing.core.state import ResidentModel
from routing.core.tickets import Lease, Ticket
from routing.whatif.calls import Call, End
from routing.whatif.machines import Runnable
from routing.whatif.work import Word
from routing.whatif.world import World

#: Seconds that a pass over the queue takes, after which the next one goes on where it ended.
PASS_S = 0.005
#: What a failed attempt tells of its node.
VERDICTS = {Word.LOST: Verdict.UNREACHABLE, Word.FULL: Verdict.FAILURE, Word.ERROR: Verdict.FAILURE}


class Gateway:
    """Drives a dispatcher as the gateway does: requests go in, leases come out, answers and looks are told to it.

    `learned` is what it knows from the start; without it, it has the priors of the nodes' classes.
    """

    def __init__(
        self, snapshot: FleetSnapshot, seed: int = 0, limits: Limits | None = None, learned: Learned | None = None
    ) -> None:
        self.dispatcher = Dispatcher(limits=limits or Limits())
        if learned is not None:
            self.dispatcher.learner.take(learned)
        self.dispatcher.apply(snapshot)
        self.tickets: dict[Call, Ticket] = {}
        self.waits = self.goes_on = False
        rng = random.Random(seed + 9973)
        for state in self.dispatcher.nodes.values():
            state.health = Health(lambda: rng.uniform(0.8, 1.2))

    def begin(self, world: World) -> None:
        self.world = world
        for node_id in world.nodes:
            self.dispatcher.observe_reach(node_id, None, world.now)

    def arrived(self, call: Call) -> None:
        ticket = Ticket(str(call.asked.number), replace(call.asked.profile), self.world.now)
        ticket.wake = lambda: self._woken(call, ticket)
        self.tickets[call] = ticket
        try:
            lease = self.dispatcher.submit(ticket, self.world.now)
        except Refusal:
            self._close(call, End.REFUSED)
            return
        if lease is not None:
            self._go(call, lease)
        self.pump()

    def answered(self, call: Call) -> None:
        lease = self.tickets[call].lease
        if lease is not None:
            self.dispatcher.answered(lease, self.world.now)

    def ended(self, call: Call, word: Word) -> None:
        ticket = self.tickets[call]
        lease = ticket.lease
        if lease is None:
            return
        if word is Word.DONE:
            self.dispatcher.release(lease, Verdict.SUCCESS, self.world.now, metrics_of(call))
            self._close(call, End.SERVED)
        else:
            self.dispatcher.release(lease, VERDICTS[word], self.world.now)
            self._again(call, ticket, lease)
        self.pump()

    def left(self, call: Call) -> None:
        self.dispatcher.end(self.tickets.pop(call), self.world.now)
        self.pump()

    def looked(self, loaded: Mapping[int, Sequence[Runnable] | None]) -> None:
        now = self.world.now
        for node_id, models in loaded.items():
            if models is None:
                self.dispatcher.observe_reach(node_id, "the connection was refused", now, certain=True)
                continue
            self.dispatcher.observe_reach(node_id, None, now)
            self.dispatcher.observe_residents(node_id, [resident(model) for model in models])
        self.pump()

    def pump(self) -> None:
        """Place what can start now, and look again while something waits."""
        dispatcher = self.dispatcher
        if not dispatcher.waiting:
            return
        for lease in dispatcher.assign(self.world.now):
            self._go(self._call_of(lease), lease)
        if dispatcher.unfinished and not self.goes_on:
            self.goes_on = True
            self.world.timeline.after(PASS_S, self._go_on)
        if not self.waits:
            self.waits = True
            self.world.timeline.after(self.world.rules.tick_s, self._tick)

    def _go_on(self) -> None:
        self.goes_on = False
        self.pump()

    def _tick(self) -> None:
        self.waits = False
        self.dispatcher.refuse_hopeless(self.world.now)
        self.pump()

    def _go(self, call: Call, lease: Lease) -> None:
        self.dispatcher.grant(lease)
        self.world.send(call, lease.node.spec.id)

    def _again(self, call: Call, ticket: Ticket, lease: Lease) -> None:
        """After a failed attempt: another node, or the same one after a pause, or the end."""
        if ticket.attempts >= self.world.rules.attempts:
            self._close(call, End.FAILED)
            return
        ticket.tried.add(lease.node.spec.id)
        pause = 0.0
        if not self.dispatcher.alternatives(ticket):
            ticket.tried.clear()
            pause = self.world.pause(call)
        self.dispatcher.retry(ticket, self.world.now, pause)

    def _woken(self, call: Call, ticket: Ticket) -> None:
        """The dispatcher has granted a lease, or refused the ticket after it had waited."""
        if ticket.refusal is not None and call.end is None:
            self._close(call, End.REFUSED)

    def _close(self, call: Call, end: End) -> None:
        self.dispatcher.end(self.tickets.pop(call), self.world.now)
        self.world.close(call, end)

    def _call_of(self, lease: Lease) -> Call:
        return self.world.calls[int(lease.ticket.id)]


def resident(model: Runnable) -> ResidentModel:
    """A loaded model as /api/ps tells it."""
    size = int(model.memory)
    return ResidentModel(model.key, model.key, model.weights, size, size)


def metrics_of(call: Call) -> Metrics:
    """What the last object of an answer tells."""
    work, asked = call.work, call.asked
    assert work is not None  # noqa: S101 (it has just answered)
    done = call.ended_at if call.ended_at >= 0.0 else call.first_at
    return Metrics(
        prompt_tokens=asked.profile.prompt_tokens,
        output_tokens=asked.output_tokens,
        prompt_s=work.first_at - work.begun_at,
        output_s=done - work.first_at,
        load_s=work.load_s,
        total_s=done - work.taken_at,
        cut=asked.profile.max_tokens is not None and asked.output_tokens >= asked.profile.max_tokens,
    )
