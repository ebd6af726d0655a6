"""Embedding requests of teams whose policy wants more of the gateway than to pass them on."""
# ruff: noqa: SLF001 (a part of `Inference`, in a file of its own so that other requests have nothing to do with it)

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from routing.core.dispatcher import Verdict
from routing.core.learner import Metrics
from routing.core.records import Outcome
from routing.core.requests import Profile, Route
from routing.core.snapshot import TeamPolicy
from routing.core.state import Reach
from routing.core.tickets import Lease
from routing.gateway import envelopes, traces, verdicts
from routing.gateway.embedding.answers import counted, tail_of, together
from routing.gateway.embedding.asked import Wanted
from routing.gateway.embedding.cache import VectorCache
from routing.gateway.embedding.calls import LARGE, Call, Joined, Share, fetched, metrics_of, read
from routing.gateway.embedding.counts import shared, weight
from routing.gateway.embedding.joining import Joining, Member, texts_of
from routing.gateway.embedding.splitting import Run, Splitting
from routing.gateway.embedding.spread import spread
from routing.gateway.exchange import Exchange
from routing.gateway.headers import from_node, to_node
from routing.gateway.inference import Inference
from routing.gateway.journey import Journey
from routing.gateway.relay import whole_answer
from routing.upstream.client import Body, NodeFailed

NOBODY = TeamPolicy(0, "")


@dataclass(slots=True)
class Embedding:
    """Answers from the cache, joins what waits, splits what is large; one per gateway.

    `calls` keeps the tasks of joined calls alive.
    """

    inference: Inference
    cache: VectorCache
    joining: Joining
    splitting: Splitting
    calls: "set[asyncio.Task[Joined]]" = field(default_factory=set)

    async def attend(self, exchange: Exchange, journey: Journey, body: bytes | Body) -> None:
        """See an embedding request from its admission to its answer."""
        wanted, inference, policy = journey.wanted, self.inference, journey.caller.team or NOBODY
        assert wanted is not None  # noqa: S101 (asked before)
        if policy.cache_embeddings and self.cache.on and wanted.cacheable and not journey.ticket.request.remote:
            wanted.digest = wanted.weights = self._digest(journey.ticket.request)
            await self.cache.fill(wanted)
        missing = wanted.missing()
        if not missing:
            await self._from_cache(exchange, journey)
            return
        if exchange.headers.pop(b"content-encoding", None) is not None:
            exchange.scope["headers"] = [pair for pair in exchange.scope["headers"] if pair[0] != b"content-encoding"]
            body = wanted.body(wanted.texts)
        if wanted.cached:
            part = sum(weight(wanted.texts[i]) for i in missing) / sum(map(weight, wanted.texts))
            journey.ticket.request.prompt_tokens = round(journey.ticket.request.prompt_tokens * part)
        else:
            wanted.weights = ""
        inference.admission.submit(journey.ticket)
        member = self.joining.member(journey, exchange.target) if policy.join_embeddings else None
        if member is None or not await self._carried(exchange, member):
            await inference._attempts(exchange, journey, body)

    def _digest(self, request: Profile) -> str:
        """The weights that the name means on every node in use; empty where it does not mean one thing."""
        found = {
            model.digest
            for node in self.inference.admission.dispatcher.nodes.values()
            if node.offers(request) and node.reach is not Reach.DOWN and request.key not in node.outdated
            if (model := node.models.get(request.key)) is not None
        }
        return found.pop() if len(found) == 1 else ""

    # From the cache

    async def _from_cache(self, exchange: Exchange, journey: Journey) -> None:
        """Answer with what is known of every text: no slot is taken, and no node is asked."""
        wanted, route = journey.wanted, journey.ticket.request.route
        assert wanted is not None  # noqa: S101 (asked before)
        now, tokens = self.inference.clock(), sum(wanted.tokens)
        took_ns = int((now - journey.ticket.arrived_at) * 1e9)
        data = await finished(wanted, tail_of(route, wanted.model, tokens, took_ns))
        journey.first_at = journey.first_byte_at = now
        journey.outcome, journey.metrics = Outcome.SERVED, Metrics(prompt_tokens=tokens)
        kind = envelopes.NATIVE_JSON if route is not Route.V1_EMBEDDINGS else envelopes.PLAIN_JSON
        own = self.inference._routing_headers(journey, None)
        await exchange.respond(200, [(b"content-type", kind), *own], data)

    # Joined

    async def _carried(self, exchange: Exchange, member: Member) -> bool:
        """Whether the request was answered by a call for several; if not, it holds a slot, or waits for one, alone."""
        inference, journey = self.inference, member.journey
        while True:
            try:
                lease = await self.joining.place(member)
                if lease is not None:
                    company = self.joining.company(member, lease)
                    if not company:
                        return False
                    self._begin([member, *company], lease, exchange)
                share = await asyncio.shield(member.answer)
            except asyncio.CancelledError:
                if member.call is not None:
                    member.call.leave(member)
                raise
            assert member.call is not None  # noqa: S101 (begun, or taken along)
            lease = member.call.lease
            if share.answered is not None:
                await self._told(exchange, member, lease, share)
                return True
            if share.failure is None:
                # Something in the call was refused. Each asks alone, and is told what is its own.
                journey.ticket.attempts -= 1
                inference.admission.retry(journey.ticket)
                return False
            journey.last, journey.error = None, f"{lease.node.spec.name}: {share.failure}"
            if not await inference._again(exchange, journey, lease):
                return True
            member.call, member.answer = None, asyncio.get_running_loop().create_future()

    def _begin(self, members: list[Member], lease: Lease, exchange: Exchange) -> None:
        """One call for all members, on the lease that it then gives back."""
        call = Call(members, lease, texts_of(members), [len(member.texts) for member in members])
        self.joining.begin(members, lease, call)
        headers = traces.passed_on(to_node(exchange.scope["headers"]), members[0].journey.trace)
        body = members[0].wanted.body(call.texts)
        call.task = asyncio.ensure_future(self._call(call, exchange.target, headers, body))
        lease.node.calls.add(call.lose)
        self.calls.add(call.task)
        # A task that is cancelled before it has begun runs no `finally`: so its end is seen to from outside.
        call.task.add_done_callback(partial(self._ended, call))

    async def _call(self, call: Call, target: str, headers: list[tuple[str, str]], body: bytes) -> Joined:
        request, sent_at = call.lease.ticket.request, self.inference.clock()
        answer, data = await fetched(self.inference.upstream, call.lease, target, headers, body)
        if answer.status >= 400:  # noqa: PLR2004
            return Joined(answer)
        found = await read(request, data, len(call.texts))
        now = self.inference.clock()
        metrics = metrics_of(request, found.tail, now - sent_at, warm=not call.lease.cold)
        self.inference.admission.dispatcher.answered(call.lease, now)
        return Joined(answer, found, metrics)

    def _ended(self, call: Call, task: "asyncio.Task[Joined]") -> None:
        """Give the call's slot back, and tell everybody who is still there."""
        lease, admission = call.lease, self.inference.admission
        self.calls.discard(task)
        lease.node.calls.discard(call.lose)
        held_s = admission.clock() - lease.started_at
        verdict, metrics, shares = Verdict.NEUTRAL, None, call.failed(task)
        if shares is None:
            done = task.result()
            assert done.found is not None  # noqa: S101 (as `failed` says)
            verdict, metrics = Verdict.SUCCESS, done.metrics
            shares = call.shares(done, held_s)
        elif (failure := shares[0].failure) is not None and (call.lost or not task.cancelled()):
            verdict = Verdict.CUT if call.lost else verdicts.of_failure(failure)
        admission.release(lease, verdict, metrics)
        admission.end(lease.ticket)
        for member, share in zip(call.all, shares, strict=True):
            if not member.answer.done():
                member.answer.set_result(share)

    async def _told(self, exchange: Exchange, member: Member, lease: Lease, share: Share) -> None:
        """Answer a member as a node would have that it had asked alone."""
        journey, wanted, inference = member.journey, member.wanted, self.inference
        assert share.answer is not None  # noqa: S101
        assert share.answered is not None  # noqa: S101 (what is told)
        request = journey.ticket.request
        wanted.take(member.texts, share.answered.vectors, share.tokens)
        wanted.joined = share.joined
        self._keep(journey, lease, member.texts)
        data = await finished(wanted, counted(request.route, share.answered.tail, sum(wanted.tokens)))
        data = whole_answer(request.route, data, journey.seen, lambda: inference._member(journey, lease))
        journey.first_at = journey.first_byte_at = inference.clock()
        journey.held_s += share.held_s
        own = inference._routing_headers(journey, lease)
        await exchange.respond(share.answer.status, from_node(share.answer.headers) + own, data)
        journey.outcome, journey.error = Outcome.SERVED, ""
        journey.metrics = journey.seen.metrics(request, 0.0, 0.0, warm=False)

    # In parts, and in attempts like those of any request

    async def split(
        self, exchange: Exchange, journey: Journey, lease: Lease, headers: list[tuple[str, str]]
    ) -> Verdict:
        """One attempt on a large request: its own node does a part of it, idle ones do others. Raises `NodeFailed`."""
        wanted, inference, route = journey.wanted, self.inference, journey.ticket.request.route
        assert wanted is not None  # noqa: S101 (as `splits` says)
        if wanted.weights not in {"", lease.weights}:
            wanted.forget()  # vectors of other weights are of another space
        wanted.weights = lease.weights
        missing = wanted.missing()
        policy = journey.caller.team or NOBODY
        alone = not policy.split_embeddings or not self.splitting.meant(journey, lease)
        run = Run(exchange.target, headers, journey, lease, spread(wanted), alone=alone)
        journey.sent_at = inference.clock()
        try:
            answer, error = await self.splitting.run(run)
        finally:
            self._keep(journey, lease, missing)
        if error is not None:
            return await inference._error_answer(exchange, journey, lease, answer, error)
        data = await finished(wanted, tail_of(route, wanted.model, sum(wanted.tokens), *run.work.durations))
        wanted.whole, wanted.taught = True, run.taught
        return inference._judge(journey, lease, await inference._whole(exchange, journey, lease, answer, data))

    def splits(self, journey: Journey, lease: Lease) -> bool:
        """Whether an attempt is made in parts, or for what is missing alone."""
        wanted, policy = journey.wanted, journey.caller.team or NOBODY
        if wanted is None:
            return False
        if wanted.cached or wanted.weights not in {"", lease.weights}:
            return True
        return policy.split_embeddings and self.splitting.meant(journey, lease)

    async def seen(self, journey: Journey, lease: Lease, data: bytes) -> None:
        """Remember what a node has answered to a whole request."""
        wanted, request = journey.wanted, journey.ticket.request
        if wanted is None or wanted.whole or not wanted.digest or wanted.digest != lease.weights:
            return
        indexes = range(len(wanted.texts))
        try:
            found = await read(request, data, len(indexes))
        except NodeFailed:
            return  # whatever it is, it is the node's word
        wanted.take(indexes, found.vectors, shared(found.tokens, wanted.texts))
        self._keep(journey, lease, indexes)

    def _keep(self, journey: Journey, lease: Lease, indexes: Sequence[int]) -> None:
        wanted = journey.wanted
        if wanted is not None and wanted.digest and wanted.digest == lease.weights:
            self.cache.keep(wanted, indexes)

    @property
    def totals(self) -> dict[str, int]:
        """What has been counted since the start; the cache counts texts, and its size is in bytes."""
        return {
            "embeddings_cached": self.cache.hits,
            "embeddings_not_cached": self.cache.misses,
            "embeddings_cache_bytes": self.cache.size,
            "embeddings_joined": self.joining.requests,
            "embedding_calls_joined": self.joining.calls,
            "embeddings_split": self.splitting.requests,
            "embedding_parts": self.splitting.parts,
        }

    async def close(self) -> None:
        """End what nobody waits for any more, and close the cache's store."""
        for task in self.calls:
            task.cancel()
        await asyncio.gather(*self.calls, return_exceptions=True)
        if self.cache.store is not None:
            await self.cache.store.close()


def embedding_of(inference: Inference, cache: VectorCache) -> Embedding:
    admission = inference.admission
    return Embedding(inference, cache, Joining(admission), Splitting(admission, inference.upstream))


async def finished(wanted: Wanted, tail: dict[str, Any]) -> bytes:
    """The answer, every vector of which is known; put together off the event loop if it is large."""
    vectors = [vector for vector in wanted.vectors if vector is not None]
    if sum(map(len, vectors)) < LARGE:
        return together(wanted.route, wanted.model, vectors, tail)
    return await asyncio.to_thread(together, wanted.route, wanted.model, vectors, tail)
