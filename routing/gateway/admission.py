"""The dispatcher's asynchronous edge.

Confirms leases with the slot store, wakes waiting requests, keeps time moving.
"""

import asyncio
from collections.abc import Callable

from routing.core.dispatcher import Dispatcher, Verdict
from routing.core.learner import Metrics
from routing.core.tickets import Lease, Ticket, TicketState
from routing.ports import Clock, SlotStore

#: While something waits, time itself can make a place (a breaker's pause ends, patience runs out): look this often.
TICK_S = 0.1


class LocalSlots:
    """The slot store of a gateway that is alone: the dispatcher's own books are the truth."""

    def acquire(self, node_id: int, runner: str, slots: int) -> bool:
        return True

    def release(self, node_id: int, runner: str) -> None:
        return None


class Admission:
    """Requests go in, leases come out."""

    def __init__(self, dispatcher: Dispatcher, clock: Clock, slots: SlotStore | None = None) -> None:
        self.dispatcher, self.clock = dispatcher, clock
        self.slots: SlotStore = slots or LocalSlots()
        self._timer: asyncio.TimerHandle | None = None
        self._more: asyncio.Handle | None = None

    def submit(self, ticket: Ticket) -> None:
        """Take a new ticket and place what can be placed. Raises `QueueFull`."""
        now = self.clock()
        lease = self.dispatcher.submit(ticket, now)
        if lease is not None:
            self._confirm(lease, now)
        self.pump()

    def pump(self) -> None:
        """Place what can start now; called whenever something that placing depends on has changed."""
        dispatcher = self.dispatcher
        if not dispatcher.waiting:
            return
        now = self.clock()
        for lease in dispatcher.assign(now):
            self._confirm(lease, now)
        if dispatcher.unfinished:
            # One pass looks at so much only; others get their turn before it goes on.
            self._soon()
        self._tick_later()

    def _soon(self) -> None:
        if self._more is None:
            self._more = asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._more = None
        self.pump()

    def _confirm(self, lease: Lease, now: float) -> None:
        """Ask the slot store for the slot that the dispatcher has chosen."""
        if self.slots.acquire(lease.node.spec.id, lease.weights, lease.node.spec.slots):
            self.dispatcher.grant(lease)
        else:
            self.dispatcher.deny(lease, now)

    def _tick(self) -> None:
        self._timer = None
        try:
            self.dispatcher.refuse_hopeless(self.clock())
            self.pump()
        finally:
            self._tick_later()

    def _tick_later(self) -> None:
        if self.dispatcher.waiting and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    async def lease(self, ticket: Ticket) -> Lease:
        """The ticket's lease, waiting for it in the queue. Raises the refusal that ended the wait."""
        if ticket.lease is None and ticket.state is TicketState.WAITING:
            woken = asyncio.get_running_loop().create_future()
            ticket.wake = waker(woken)
            try:
                await woken
            finally:
                ticket.wake = None
        if ticket.refusal is not None:
            raise ticket.refusal
        assert ticket.lease is not None  # noqa: S101 (woken with a lease or a refusal)
        return ticket.lease

    def release(self, lease: Lease, verdict: Verdict, metrics: Metrics | None = None) -> None:
        """An attempt is over; its slot goes to the next."""
        self.slots.release(lease.node.spec.id, lease.weights)
        self.dispatcher.release(lease, verdict, self.clock(), metrics)
        self.pump()

    def retry(self, ticket: Ticket, pause: float = 0.0) -> None:
        self.dispatcher.retry(ticket, self.clock(), pause)
        self.pump()

    def end(self, ticket: Ticket) -> None:
        """The ticket's one end, whatever state it is in."""
        if ticket.lease is not None:
            self.slots.release(ticket.lease.node.spec.id, ticket.lease.weights)
        self.dispatcher.end(ticket, self.clock())
        self.pump()

    def close(self) -> None:
        for handle in (self._timer, self._more):
            if handle is not None:
                handle.cancel()


def waker(woken: "asyncio.Future[None]") -> Callable[[], None]:
    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    return wake
