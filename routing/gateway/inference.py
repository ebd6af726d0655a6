"""One inference request from its ticket to its record: attempts, answer, verdict."""

import asyncio
import math
import time
from dataclasses import replace
from functools import partial
from random import uniform
from typing import TYPE_CHECKING

from routing.core.dispatcher import Verdict
from routing.core.errors import ClientGone, QueueFull, QuotaExceeded, Refusal, Stopping, TooLate, WaitExpired
from routing.core.records import Outcome
from routing.core.requests import Api
from routing.core.tickets import Lease
from routing.gateway import envelopes, traces, verdicts
from routing.gateway.admission import Admission
from routing.gateway.exchange import Exchange, Headers
from routing.gateway.headers import from_node, routing_headers, to_node
from routing.gateway.hedging import Hedging
from routing.gateway.journey import Journey
from routing.gateway.keepalive import KeepAlive
from routing.gateway.looks import Looks
from routing.gateway.passing import lacks_route
from routing.gateway.prefill import Prefills
from routing.gateway.relay import relay_stream, whole_answer
from routing.gateway.resumption import NotContinued, Resumption, continuable, taken_up, thinks
from routing.gateway.settings import GatewaySettings
from routing.gateway.tally import Tally
from routing.gateway.terms import Desk
from routing.gateway.verdicts import BUSY_STATUS, NOT_FOUND, SERVER_ERROR
from routing.ports import Clock, Recorder
from routing.upstream import wire
from routing.upstream.client import Answer, Body, NodeFailed, Upstream

if TYPE_CHECKING:
    from routing.gateway.embedding.service import Embedding

#: The status that the record of a request has whose client left before it was answered.
CLIENT_CLOSED = 499
OUTCOMES = {
    QuotaExceeded: Outcome.REFUSED,
    QueueFull: Outcome.REFUSED,
    TooLate: Outcome.REFUSED,
    WaitExpired: Outcome.EXPIRED,
}
#: What is told to whoever is not done when the gateway has to end.
STOPPING = "the gateway is stopping; send the request again"
#: Of an answer with status 200 in which nothing is: no model says that, so another node is asked.
EMPTY = "an empty answer"
#: Seconds before the same node is tried again where no other is left; doubled each time, with jitter.
FIRST_PAUSE = 0.1


class Inference:
    """Carries requests out; one per gateway.

    `live` holds what has not ended yet, by request id; `attempts` what runs.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        admission: Admission,
        desk: Desk,
        upstream: Upstream,
        looks: Looks,
        recorder: Recorder,
        tally: Tally,
        prefills: Prefills,
        clock: Clock,
    ) -> None:
        self.settings, self.admission, self.desk, self.upstream, self.looks = settings, admission, desk, upstream, looks
        self.recorder, self.tally, self.prefills, self.clock = recorder, tally, prefills, clock
        self.hedging = Hedging(admission, clock)
        self.embedding: Embedding | None = None
        self.live: dict[str, Journey] = {}
        self.attempts: dict[Lease, tuple[Exchange, Journey]] = {}

    def knows(self, request_id: str) -> bool:
        """Whether a request of this id runs, or has ended lately."""
        return request_id in self.live or request_id in self.tally.ended

    async def attend(self, exchange: Exchange, journey: Journey, body: bytes | Body) -> None:
        """See a ticket through to its one end, whatever happens."""
        ticket = journey.ticket
        self.live[ticket.id] = journey
        if self.settings.traces:
            journey.trace = traces.begun(exchange.headers)
        exchange.watch_soon()
        self._keep_alive(exchange, journey)
        try:
            journey.reservation = self.desk.admit(ticket.request, journey.terms, journey.caller, ticket.arrived_at)
            if journey.wanted is not None and self.embedding is not None:
                await self.embedding.attend(exchange, journey, body)
            else:
                self.admission.submit(ticket)
                await self._attempts(exchange, journey, body)
        except asyncio.CancelledError:
            journey.outcome, journey.error = Outcome.CANCELLED, "the client left"
            if exchange.stopped and not exchange.gone:
                exchange.went_on()
                await self._refused(exchange, journey, Stopping(STOPPING))
            elif not exchange.gone:
                raise
        except ClientGone:
            journey.outcome, journey.error = Outcome.CANCELLED, "the client left"
        except Refusal as refusal:
            await self._refused(exchange, journey, refusal)
        finally:
            exchange.unwatch()
            if journey.keepalive is not None:
                journey.keepalive.cancel()
            self.admission.end(ticket)
            journey.settle(time.time())
            del self.live[ticket.id]
            self._record(exchange, journey)

    async def _refused(self, exchange: Exchange, journey: Journey, refusal: Refusal) -> None:
        journey.outcome, journey.error = OUTCOMES.get(type(refusal), Outcome.FAILED), refusal.message
        status, headers, data = envelopes.refusal(journey.seen.api, refusal)
        await self._respond(exchange, journey, status, headers + self._routing_headers(journey, None), data)

    def _keep_alive(self, exchange: Exchange, journey: Journey) -> None:
        request, settings = journey.ticket.request, self.settings
        interval = settings.native_keepalive if journey.seen.api is Api.OLLAMA else settings.keepalive
        if request.stream and interval:
            journey.keepalive = KeepAlive(exchange, request, interval, lambda: self._routing_headers(journey, None))

    async def _respond(self, exchange: Exchange, journey: Journey, status: int, headers: Headers, data: bytes) -> None:
        """A whole answer; inside the stream where signs of life have begun it already."""
        if journey.keepalive is not None:
            await journey.keepalive.stop()
        if journey.seen.objects:
            await self._cut(exchange, journey)
            return
        if not exchange.started:
            await exchange.respond(status, headers, data)
            return
        if wire.decode(data) is None:
            # Whoever said this was no Ollama, and a stream has room for objects only.
            data = envelopes.error_body(journey.seen.api, status, data.decode("utf-8", "replace").strip())
        if journey.seen.api is Api.OLLAMA:
            await exchange.finish(data.strip() + b"\n")
        else:
            # The event tells why; that the connection is then cut tells readers that look for no such event.
            await exchange.write(envelopes.event(journey.seen.api, data))
            exchange.complete = True

    async def _attempts(self, exchange: Exchange, journey: Journey, body: bytes | Body) -> None:
        """Attempt after attempt until one has answered.

        A failure before the first object goes to another node; a stream that breaks off later, too, if it can go on.
        """
        ticket, seen = journey.ticket, journey.seen
        headers = traces.passed_on(to_node(exchange.scope["headers"]), journey.trace)
        while True:
            lease = ticket.lease or await self.admission.lease(ticket)
            journey.lease = lease
            verdict, broke = Verdict.NEUTRAL, False
            try:
                if seen.resumption is None or lease.weights == seen.resumption.weights:
                    verdict = await self._attempt(exchange, journey, lease, headers, body)
                else:
                    journey.error = f"{lease.node.spec.name}: other weights than those that began the answer"
            except NodeFailed as failure:
                verdict, broke, journey.last = verdicts.of_failure(failure), True, None
                journey.error = f"{lease.node.spec.name}: {failure}"
            except asyncio.CancelledError:
                if not exchange.lost or exchange.gone:
                    raise
                exchange.went_on()
                verdict, broke, journey.last = Verdict.CUT, True, None
                journey.error = f"{lease.node.spec.name}: the node does not answer any more"
            finally:
                if verdict in verdicts.GIVEN:
                    journey.held_s += self.clock() - lease.started_at
                self.admission.release(lease, verdict, journey.taught)
            if broke and seen.objects and journey.begun:
                more = await self._resume(exchange, journey, lease, body)
                if more is None:
                    await self._broken(exchange, journey)
                    return
                body, headers = more, [pair for pair in headers if pair[0].lower() != "content-encoding"]
            journey.begun = False
            if exchange.complete:
                return
            if not await self._again(exchange, journey, lease):
                return

    async def _again(self, exchange: Exchange, journey: Journey, lease: Lease) -> bool:
        """After an attempt that gave nothing: queue the ticket again, or tell the client that this was the last."""
        ticket, dispatcher = journey.ticket, self.admission.dispatcher
        ticket.tried.add(lease.node.spec.id)
        pause = 0.0
        elsewhere = dispatcher.alternatives(ticket)
        if not elsewhere:
            pause = FIRST_PAUSE * math.pow(2, ticket.attempts - 1) * uniform(0.5, 1.5)
        # Where no other node is left, what a node said is its word; a lost connection is worth another try there.
        if (elsewhere or journey.last is None) and dispatcher.may_try_again(ticket, self.clock()):
            if not elsewhere:
                ticket.tried.clear()
            self.admission.retry(ticket, pause)
            return True
        journey.outcome = Outcome.FAILED
        if journey.last is not None:
            status, headers, data = journey.last
        else:
            status, headers = BUSY_STATUS, [(b"content-type", envelopes.PLAIN_JSON), (b"retry-after", b"2")]
            data = envelopes.error_body(
                journey.seen.api, status, f"no node could answer; the last error: {journey.error}"
            )
        await self._respond(exchange, journey, status, headers + self._routing_headers(journey, lease), data)
        return False

    async def _attempt(
        self, exchange: Exchange, journey: Journey, lease: Lease, headers: list[tuple[str, str]], body: bytes | Body
    ) -> Verdict:
        """One attempt on one node. Raises `NodeFailed`.

        Returns without a complete exchange where another node should try.
        """
        self.attempts[lease] = exchange, journey
        call, calls = partial(lose, exchange, journey), lease.node.calls
        try:
            if journey.wanted is not None and self.embedding is not None and self.embedding.splits(journey, lease):
                return await self.embedding.split(exchange, journey, lease, headers)
            if journey.terms.hedge and self.hedging.meant(journey.ticket.request):
                return await self._hedged(exchange, journey, lease, headers, body)
            calls.add(call)
            return await self._answered(exchange, journey, lease, headers, body)
        finally:
            calls.discard(call)
            del self.attempts[lease]

    async def _answered(
        self, exchange: Exchange, journey: Journey, lease: Lease, headers: list[tuple[str, str]], body: bytes | Body
    ) -> Verdict:
        journey.sent_at = self.clock()
        if journey.seen.resumption is not None:
            journey.seen.resumption.sent_at = journey.sent_at
        answer = await self.upstream.open(lease.node.spec, "POST", exchange.target, headers, body)
        try:
            if answer.status >= 400:  # noqa: PLR2004
                return await self._error_answer(exchange, journey, lease, answer, await answer.whole())
            if journey.ticket.request.stream:
                first = await answer.piece()
                if not first:
                    raise NodeFailed(EMPTY)
                self._first_byte(journey, lease)
                if journey.keepalive is not None:
                    await journey.keepalive.stop()
                if not exchange.started:
                    own = self._routing_headers(journey, lease)
                    await exchange.start(answer.status, from_node(answer.headers) + own)
                journey.begun = True
                journey.seen.begin([] if continuable(journey, lease, self.prefills, first) else None)
                if journey.seen.resumption is not None:
                    journey.seen.resumption.times += 1
                await relay_stream(exchange, answer, first, journey.seen, lambda: self._member(journey, lease))
                now = self.clock()
                await exchange.finish()
            else:
                now = await self._whole(exchange, journey, lease, answer, await answer.whole())
        finally:
            answer.close()
        return self._judge(journey, lease, now)

    async def _whole(self, exchange: Exchange, journey: Journey, lease: Lease, answer: Answer, data: bytes) -> float:
        """Relay an answer that is one object; the time at which it had come."""
        if not data:
            raise NodeFailed(EMPTY)
        now = self.clock()
        self._first_byte(journey, lease)
        if journey.wanted is not None and self.embedding is not None:
            await self.embedding.seen(journey, lease, data)
        data = whole_answer(journey.ticket.request.route, data, journey.seen, lambda: self._member(journey, lease))
        await exchange.respond(answer.status, from_node(answer.headers) + self._routing_headers(journey, lease), data)
        return now

    async def _hedged(
        self, exchange: Exchange, journey: Journey, lease: Lease, headers: list[tuple[str, str]], body: bytes | Body
    ) -> Verdict:
        """The same for a short request of which a second copy may be sent if the first one takes long."""

        async def fetch(one: Lease) -> tuple[Answer, bytes]:
            answer = await self.upstream.open(one.node.spec, "POST", exchange.target, headers, body)
            try:
                return answer, await answer.whole()
            finally:
                answer.close()

        journey.sent_at = self.clock()
        won, answer, data, told = await self.hedging.first_of(fetch, journey.ticket, lease)
        if answer.status >= 400:  # noqa: PLR2004
            return await self._error_answer(exchange, journey, lease, answer, data)
        journey.lease, verdict = won, Verdict.NEUTRAL
        try:
            verdict = self._judge(journey, won, await self._whole(exchange, journey, won, answer, data))
        finally:
            if won is not lease:
                self.hedging.release(won, verdict, journey.taught)
                journey.taught = None
        return verdict if won is lease else told

    def _judge(self, journey: Journey, lease: Lease, now: float) -> Verdict:
        """What a relayed answer says about the node and how the request ended."""
        seen = journey.seen
        if seen.error:
            journey.outcome, journey.error = Outcome.FAILED, seen.error.decode("utf-8", "replace").strip()[:500]
            return Verdict.NEUTRAL
        journey.outcome, journey.error = Outcome.SERVED, ""
        first = journey.first_at
        own = seen.metrics(journey.ticket.request, first - journey.sent_at, now - first, warm=not lease.cold)
        journey.metrics = journey.taught = own
        if journey.wanted is not None and journey.wanted.taught is not None:
            journey.taught = journey.wanted.taught
        if seen.resumption is not None:
            # Speeds can be learned of a part of an answer, lengths of texts cannot.
            journey.metrics, journey.taught = seen.resumption.total(own), replace(own, counted=False)
        return Verdict.SUCCESS if seen.done and not seen.hollow(journey.ticket.request, own) else Verdict.DOUBTFUL

    async def _error_answer(
        self, exchange: Exchange, journey: Journey, lease: Lease, answer: Answer, data: bytes
    ) -> Verdict:
        """An error status: the request's own fault is relayed, the node's is kept in case no other node does better.

        What two nodes say in the same words is the request's fault, and held against neither the second nor a third.
        """
        headers = from_node(answer.headers)
        status = answer.status
        journey.error = f"{lease.node.spec.name}: {status} {data[:300].decode('utf-8', 'replace')}"
        absent = lacks_route(answer)
        if absent:
            lease.node.lacks(journey.ticket.request.route.value, self.clock())
        again = journey.last is not None and journey.last[::2] == (status, data) and status != BUSY_STATUS
        if verdicts.elsewhere(status, data) and not again:
            journey.last = (status, headers, data)
            if status == NOT_FOUND and not absent:
                # Its list may be stale. Only the list says so: a client can spell a name in ways that a node refuses.
                self.looks.soon(lease.node)
            return verdicts.of_error(status, data, remote=lease.remote)
        journey.outcome = Outcome.FAILED
        await self._respond(exchange, journey, status, headers + self._routing_headers(journey, lease), data)
        return Verdict.SUCCESS if status < SERVER_ERROR else Verdict.NEUTRAL

    async def _broken(self, exchange: Exchange, journey: Journey) -> None:
        """The node broke off after the client had seen a part, and the stream does not go on."""
        journey.outcome = Outcome.FAILED
        await self._cut(exchange, journey)

    async def _cut(self, exchange: Exchange, journey: Journey) -> None:
        """End a stream of which a part was sent: in the API's own form of an error, never as a clean end."""
        seen = journey.seen
        if journey.keepalive is not None:
            await journey.keepalive.stop()
        if seen.api is Api.OLLAMA:
            words = STOPPING if exchange.stopped else "the node that was answering has failed"
            line = envelopes.error_body(Api.OLLAMA, SERVER_ERROR, words) + b"\n"
            await exchange.finish(seen.error if seen.died else line)
        else:
            # Returning without the last chunk makes the server cut the connection, which SDKs notice.
            exchange.complete = True

    # A stream that breaks off and goes on

    async def _resume(
        self, exchange: Exchange, journey: Journey, lease: Lease, body: bytes | Body
    ) -> bytes | Body | None:
        """What to send to another node so that it goes on where the stream broke off; None where that is not right.

        A stream of which nothing is left to be said is ended here.
        """
        encoding = exchange.headers.get(b"content-encoding")
        try:
            resumed = await taken_up(journey, lease, body, encoding, self.clock())
        except NotContinued as reason:
            journey.error += f" ({reason})"
            return None
        if resumed.complete:
            await self._close(exchange, journey, lease, resumed)
            return body
        self._keep_alive(exchange, journey)
        return await resumed.following(thinks=thinks(lease))

    async def _close(self, exchange: Exchange, journey: Journey, lease: Lease, resumed: Resumption) -> None:
        """End a stream properly that had said all it was to say when it broke off."""
        journey.outcome, journey.error, journey.metrics = Outcome.SERVED, "", resumed.total(None)
        *objects, last = resumed.closing(self.clock())
        for one in objects:
            await exchange.write(one)
        member = self._member(journey, lease) if journey.seen.api is Api.OLLAMA else None
        await exchange.finish(last if member is None else wire.spliced(last, b"_sollol_routing", member))

    def _first_byte(self, journey: Journey, lease: Lease) -> None:
        journey.first_at = self.clock()
        if not journey.seen.objects:
            journey.first_byte_at = journey.first_at
        self.admission.dispatcher.answered(lease, journey.first_at)

    def _routing_headers(self, journey: Journey, lease: Lease | None) -> Headers:
        if self.settings.metadata == "off":
            return []
        own = routing_headers(journey.ticket, lease)
        if journey.terms.demoted:
            own.append((b"x-sollol-demoted", journey.terms.demoted.encode("ascii", "replace")))
        if journey.wanted is not None and journey.wanted.told:
            own.append((b"x-sollol-embedding", journey.wanted.told.encode("ascii", "replace")))
        return own

    def _member(self, journey: Journey, lease: Lease) -> bytes | None:
        """The routing member of the final native object; None where the setting says so."""
        return journey.member(lease, self.clock()) if self.settings.metadata == "body" else None

    def _record(self, exchange: Exchange, journey: Journey) -> None:
        record = journey.record(CLIENT_CLOSED if exchange.gone else exchange.status, self.clock())
        self.recorder.request(record)
        team, lease = journey.caller.team, journey.lease
        self.tally.take(
            record, journey.ticket.request.key, team.name if team else "", lease.node.spec.name if lease else ""
        )


def lose(exchange: Exchange, journey: Journey) -> None:
    """The node does not answer any more. Who waits for its first byte is interrupted at once.

    A running answer is cut only if nothing of it has come since the look before: a busy node may miss looks.
    """
    if not journey.begun or journey.stands_still():
        exchange.interrupt()
