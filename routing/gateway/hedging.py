"""Second copies of short requests that take longer than nearly all of their kind: whichever answers first counts."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from routing.core.dispatcher import Verdict
from routing.core.errors import Refusal
from routing.core.learner import Lengths, Metrics
from routing.core.requests import Profile, Task
from routing.core.retries import RetryBudget
from routing.core.tickets import Lease, Ticket
from routing.gateway import verdicts
from routing.gateway.admission import Admission
from routing.ports import Clock
from routing.upstream.client import Answer, NodeFailed

#: Work that is short and can be done twice: it changes nothing.
SHORT = frozenset({Task.EMBEDDING, Task.CLASSIFICATION})
#: The part of answers that come sooner than a second copy is sent, and how many must have been seen.
MOST, ENOUGH = 0.95, 20
#: Requests that may be sent twice, as a part of those that could be.
EXTRA = 0.05
MS = 1000.0

#: An answer and all of its bytes, of one attempt.
Fetched = tuple[Answer, bytes]
Fetch = Callable[[Lease], Awaitable[Fetched]]


class Outcome(NamedTuple):
    """Which attempt answered, and what; `told`: what the first told about its node where the second answered."""

    lease: Lease
    answer: Answer
    data: bytes
    told: Verdict = Verdict.NEUTRAL


@dataclass(slots=True)
class Hedging:
    """Knows how long answers take by task and model, in whole milliseconds; `sent` and `won` count second copies."""

    admission: Admission
    clock: Clock
    budget: RetryBudget = field(default_factory=lambda: RetryBudget(EXTRA, 1.0))
    took: dict[tuple[Task, str], Lengths] = field(default_factory=dict)
    sent: int = 0
    won: int = 0

    def meant(self, request: Profile) -> bool:
        """Whether requests like this may be sent twice."""
        return request.task in SHORT and not request.stream and not request.loads_only and not request.remote

    def after(self, request: Profile) -> float | None:
        """Seconds after which a second copy is worth it; None while too little is known."""
        known = self.took.get((request.task, request.key))
        return None if known is None or known.seen < ENOUGH else known.quantile(MOST) / MS

    async def first_of(self, fetch: Fetch, ticket: Ticket, lease: Lease) -> Outcome:
        """The first good answer of one attempt, or of two if the first takes long. Raises what the first one raised.

        The loser is cancelled at once; what it had is given back, but the lease that was given stays the caller's.
        """
        began, request = self.clock(), ticket.request
        self.budget.came(began)
        first = asyncio.ensure_future(watched(fetch, lease))
        second: asyncio.Future[Fetched] | None = None
        other: Lease | None = None
        outcome: Outcome | None = None
        try:
            await asyncio.wait({first}, timeout=self.after(request))
            if not first.done() and (other := self._slot(ticket, lease)) is not None:
                self.sent += 1
                second = asyncio.ensure_future(watched(fetch, other))
                await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
                if not good(first) and not good(second):
                    await asyncio.wait({first, second})
            if second is not None and other is not None and good(second) and not good(first):
                self.won += 1
                outcome = Outcome(other, *second.result(), verdict(first, lease))
            else:
                outcome = Outcome(lease, *await first)
        finally:
            tasks = [task for task in (first, second) if task is not None]
            for task in tasks:
                task.cancel()
            try:
                await asyncio.gather(*tasks, return_exceptions=True)
            except asyncio.CancelledError:
                outcome = None
                raise
            finally:
                # Whoever is interrupted once more while the copies end still gives the slot back.
                if other is not None and (outcome is None or outcome.lease is not other):
                    self.release(other, Verdict.NEUTRAL if second is None else verdict(second, other))
        self.took.setdefault((request.task, request.key), Lengths(0.0)).take(round((self.clock() - began) * MS))
        return outcome

    def _slot(self, ticket: Ticket, lease: Lease) -> Lease | None:
        """A slot on another node that has the model loaded, at once; None where there is none, or no budget.

        Nor while anybody waits: a second copy takes nothing from a first.
        """
        now, dispatcher = self.clock(), self.admission.dispatcher
        if dispatcher.waiting:
            return None
        copy = Ticket(f"{ticket.id}+", ticket.request, now, tried={lease.node.spec.id})
        place = dispatcher.judge(copy, now).ready
        if place is None or not place.warm or not self.budget.spend(now):
            return None
        try:
            self.admission.submit(copy)
        except Refusal:
            return None
        given = copy.lease
        if given is not None and given.node is not lease.node:
            return given
        self.admission.end(copy)
        return None

    def release(self, lease: Lease, verdict: Verdict, metrics: Metrics | None = None) -> None:
        """Give a second copy's slot back."""
        self.admission.release(lease, verdict, metrics)
        self.admission.end(lease.ticket)


async def watched(fetch: Fetch, lease: Lease) -> Fetched:
    """One copy, given up when its node is found dead. Raises `NodeFailed`, then, too."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 (always in a task)
    lost = False

    def lose() -> None:
        nonlocal lost
        lost = True
        task.cancel()

    lease.node.calls.add(lose)
    try:
        return await fetch(lease)
    except asyncio.CancelledError:
        if not lost:
            raise
        raise NodeFailed("the node does not answer any more") from None
    finally:
        lease.node.calls.discard(lose)


def good(task: "asyncio.Future[Fetched]") -> bool:
    """Whether an attempt has ended with an answer that is no error."""
    return task.done() and not task.cancelled() and task.exception() is None and task.result()[0].status < 400  # noqa: PLR2004


def verdict(task: "asyncio.Future[Fetched]", lease: Lease) -> Verdict:
    """What an attempt that did not count told about its node: an answer is an answer; one that was cut short is not."""
    if not task.done() or task.cancelled():
        return Verdict.NEUTRAL
    if (failure := task.exception()) is not None:
        return verdicts.of_failure(failure) if isinstance(failure, NodeFailed) else Verdict.NEUTRAL
    answer, data = task.result()
    return Verdict.SUCCESS if good(task) else verdicts.of_error(answer.status, data, remote=lease.remote)
