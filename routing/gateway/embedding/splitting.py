"""A long list of texts spread over the nodes that have the very same weights and are idle."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

from routing.core.dispatcher import Verdict
from routing.core.errors import Refusal
from routing.core.learner import Metrics
from routing.core.requests import Route
from routing.core.tickets import Lease, Ticket
from routing.gateway.admission import Admission
from routing.gateway.embedding.calls import fetched, metrics_of, read, verdict_on
from routing.gateway.embedding.counts import shared
from routing.gateway.embedding.spread import PART_S, Part, Spread
from routing.gateway.journey import Journey
from routing.gateway.verdicts import of_failure
from routing.upstream.client import Answer, NodeFailed, Upstream

log = logging.getLogger("sollol.embeddings")

#: Texts, and seconds of work on one node, that are worth looking for others; others that work on one request at most.
LEAST_TEXTS, WORTH_S, HELPERS = 4, 0.2, 15
#: A part is late, and done elsewhere, after so many times the seconds that it was expected to take, and these.
LATE, GRACE_S = 4.0, 1.0
#: How many times over the time of a load must be won by the help of a node that has not loaded the model.
LOADS = 2.0


class Embedded(NamedTuple):
    """What a node answered to a part: `error` is the answer's bytes if it is one, `metrics` what it told."""

    answer: Answer
    error: bytes | None = None
    metrics: Metrics = Metrics()


@dataclass(slots=True, eq=False)
class Run:
    """One split request while it runs: what is left of it, and the parts that other nodes work on.

    `lease` is the request's own slot, `alone`: no other is looked for. `helping` tells of each helper's task when it is
    late, `lost` names nodes that went silent. `own` is what the node of the own slot told, `helped`: others were given
    parts, `over`: nobody is to be given more.
    """

    target: str
    headers: Sequence[tuple[str, str]]
    journey: Journey
    lease: Lease
    work: Spread
    helping: "dict[asyncio.Task[Embedded], float]" = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    own: list[Metrics] = field(default_factory=list)
    helped: bool = False
    over: bool = False
    alone: bool = False

    @property
    def taught(self) -> Metrics:
        """What the own node told in all; the lengths of texts are not learned of parts."""
        return Metrics(
            prompt_tokens=sum(one.prompt_tokens for one in self.own),
            prompt_s=sum(one.prompt_s for one in self.own),
            load_s=sum(one.load_s for one in self.own),
            total_s=sum(one.total_s for one in self.own),
            counted=False,
        )


@dataclass(slots=True)
class Splitting:
    """Splits requests; `requests` counts those of which other nodes were given parts, `parts` what those were given."""

    admission: Admission
    upstream: Upstream
    requests: int = 0
    parts: int = 0

    def meant(self, journey: Journey, lease: Lease) -> bool:
        """Whether the request is large enough to be worth it; one of which parts are done goes on as it began."""
        wanted, request, learner = journey.wanted, journey.ticket.request, self.admission.dispatcher.learner
        if wanted is None or wanted.route is Route.EMBEDDINGS or lease.remote or len(wanted.texts) < LEAST_TEXTS:
            return False
        expected_s = learner.prompt_tokens(request) * learner.solo(lease.node.spec, lease.speeds)[0]
        return bool(wanted.parts) or expected_s > WORTH_S

    async def run(self, run: Run) -> tuple[Answer, bytes | None]:
        """Embed all that is missing: the last answer of the own node, and its bytes if it is an error.

        Raises `NodeFailed` where that node fails; what has been embedded until then is kept.
        """
        work, node_id = run.work, run.lease.node.spec.id
        work.rates[node_id] = self._rate(run.lease)
        answer: Answer | None = None
        try:
            while work.pending or run.helping:
                if not work.pending:
                    await self._wait(run)
                    continue
                fresh, left = self._slots(run), work.left
                part = work.part(node_id, left)
                self._share(run, fresh, left)
                done = None
                try:
                    done = await self._embed(run, run.lease, part)
                finally:
                    if done is None or done.error is not None:
                        work.give_back(part)
                answer = done.answer
                if done.error is not None:
                    return answer, done.error
                run.own.append(done.metrics)
        finally:
            await self._stop(run)
        assert answer is not None  # noqa: S101 (the first part was the own node's)
        return answer, None

    async def _embed(self, run: Run, lease: Lease, part: Part) -> Embedded:
        """Have a node embed a part, and take what it answers."""
        work, clock, request = run.work, self.admission.clock, lease.ticket.request
        wanted, sent_at = work.wanted, clock()
        texts = [wanted.texts[i] for i in part.indexes]
        answer, data = await fetched(self.upstream, lease, run.target, run.headers, wanted.body(texts))
        if answer.status >= 400:  # noqa: PLR2004
            return Embedded(answer, data)
        found = await read(request, data, len(texts))
        wanted.take(part.indexes, found.vectors, shared(found.tokens, texts))
        metrics = metrics_of(request, found.tail, clock() - sent_at, warm=not lease.cold)
        self.admission.dispatcher.answered(lease, clock())
        work.count(lease.node.spec.id, lease.node.spec.name, metrics, part)
        return Embedded(answer, None, metrics)

    # The other nodes

    def _rate(self, lease: Lease) -> float:
        """Tokens per second of a node, tokens being those of the sizes of texts."""
        learner, request = self.admission.dispatcher.learner, lease.ticket.request
        factor = learner.texts.get(request.key)
        return 1.0 / (learner.solo(lease.node.spec, lease.speeds)[0] * (factor.value if factor is not None else 1.0))

    def _slots(self, run: Run) -> list[Lease]:
        """Slots on all nodes that would help now."""
        fresh: list[Lease] = []
        while run.work.pending and not run.alone and (lease := self._slot(run)) is not None:
            run.work.rates[lease.node.spec.id] = self._rate(lease)
            fresh.append(lease)
        return fresh

    def _slot(self, run: Run) -> Lease | None:
        """A slot at once on a further node that has the same weights and would be done before the others are with all.

        It is a ticket's like any other: whoever waits for the slot has it before, and the team is charged for it.
        """
        work, dispatcher, now = run.work, self.admission.dispatcher, self.admission.clock()
        if len(work.rates) > HELPERS:
            return None
        request = replace(run.journey.ticket.request, prompt_tokens=round(work.left / (len(work.rates) + 1)))
        ticket = Ticket(f"{run.journey.ticket.id}+", request, now, tried={*work.rates, *work.failed})
        place = dispatcher.judge(ticket, now).ready
        if place is None or place.weights != run.lease.weights or place.victims or place.node.spec.id in ticket.tried:
            return None
        if work.seconds < 2 * PART_S + (0.0 if place.warm else LOADS * place.later):
            return None
        try:
            self.admission.submit(ticket)
        except Refusal:
            return None
        given = ticket.lease
        if given is not None and given.weights == run.lease.weights and given.node.spec.id not in ticket.tried:
            return given
        self.admission.end(ticket)
        return None

    def _share(self, run: Run, fresh: Sequence[Lease], left: float) -> None:
        """Give each new helper its part of what was `left` before anybody took of it."""
        for lease in fresh:
            if not run.work.pending:
                del run.work.rates[lease.node.spec.id]
                self._release(lease, Verdict.NEUTRAL, None)
                continue
            part = run.work.part(lease.node.spec.id, left)
            lease.ticket.request.prompt_tokens = round(sum(run.work.sizes[i] for i in part.indexes))
            loads_s = LOADS * lease.speeds.load.value if lease.cold else 0.0
            task = asyncio.ensure_future(self._embed(run, lease, part))
            run.helping[task] = self.admission.clock() + LATE * part.expected_s + loads_s + GRACE_S
            lose = partial(self._lose, run, lease, task)
            lease.node.calls.add(lose)
            # A task that is cancelled before it has begun runs no `finally`: so its end is seen to from outside.
            task.add_done_callback(partial(self._ended, run, lease, part, lose))
            self.requests += not run.helped
            self.parts += 1
            run.helped = True

    def _ended(
        self, run: Run, lease: Lease, part: Part, lose: Callable[[], None], task: "asyncio.Task[Embedded]"
    ) -> None:
        """A helper is done with its part: where it failed, the part goes back, and its node is asked no more."""
        node, work, verdict, metrics = lease.node, run.work, Verdict.NEUTRAL, None
        node.calls.discard(lose)
        del run.helping[task], work.rates[node.spec.id]
        embedded = not task.cancelled() and task.exception() is None and task.result().error is None
        if embedded:
            verdict, metrics = Verdict.SUCCESS, replace(task.result().metrics, counted=False)
            run.journey.held_s += self.admission.clock() - lease.started_at
        else:
            verdict = Verdict.BROKEN if node.spec.id in run.lost else failed(task)
            work.failed.add(node.spec.id)
            work.give_back(part)
        self._release(lease, verdict, metrics)
        if embedded and work.pending and not run.over:
            fresh, left = self._slots(run), work.left
            self._share(run, fresh, left)

    def _lose(self, run: Run, lease: Lease, task: "asyncio.Task[Embedded]") -> None:
        """The helper's node does not answer any more."""
        run.lost.add(lease.node.spec.id)
        task.cancel()

    def _release(self, lease: Lease, verdict: Verdict, metrics: Metrics | None) -> None:
        self.admission.release(lease, verdict, metrics)
        self.admission.end(lease.ticket)

    async def _wait(self, run: Run) -> None:
        """Wait for a helper to be done; one that is late is cancelled, and its part is done elsewhere."""
        now = self.admission.clock()
        soonest = min(run.helping.values())
        await asyncio.wait(run.helping, timeout=max(0.0, soonest - now), return_when=asyncio.FIRST_COMPLETED)
        now = self.admission.clock()
        late = [task for task, until in run.helping.items() if until <= now]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _stop(self, run: Run) -> None:
        """End what still runs elsewhere, at once."""
        run.over = True
        while run.helping:
            tasks = list(run.helping)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def failed(task: "asyncio.Task[Embedded]") -> Verdict:
    """What a helper that did not embed its part told of its node."""
    if task.cancelled():
        return Verdict.NEUTRAL
    error = task.exception()
    if isinstance(error, NodeFailed):
        return of_failure(error)
    if error is not None:
        log.error("a part of an embedding request failed", exc_info=error)
        return Verdict.NEUTRAL
    answer, data, _ = task.result()
    return verdict_on(answer.status, data or b"")
