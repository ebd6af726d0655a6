"""Calls that are nobody's own: an embedding call to one node on one lease, whose end is told to all whom it carries."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from routing.core.dispatcher import Verdict
from routing.core.learner import Metrics
from routing.core.requests import Profile
from routing.core.tickets import Lease
from routing.gateway import verdicts
from routing.gateway.embedding.answers import Answered, apart
from routing.gateway.embedding.counts import shared, weight
from routing.gateway.relay import Relayed
from routing.gateway.stalls import FIRST_S
from routing.upstream import wire
from routing.upstream.client import Answer, NodeFailed, Upstream

if TYPE_CHECKING:
    from routing.gateway.embedding.joining import Member

log = logging.getLogger("sollol.embeddings")

#: The lowest status that tells of an error.
ERROR = 400
#: Bytes from which on an answer is read off the event loop.
LARGE = 1 << 20
#: What is said of a node that does not answer any more, or not for much too long.
SILENT, SLOW, ODD = "the node does not answer any more", "no answer for {:.0f} s", "an embedding answer that is none"


class Joined(NamedTuple):
    """What a node answered to a joined call; nothing `found`: it is an error."""

    answer: Answer
    found: Answered | None = None
    metrics: Metrics = Metrics()


class Share(NamedTuple):
    """What a call came to for one of the `joined` requests that it carried.

    `failure`: the node failed, and another is to be tried. Where it is None, and nothing is `answered` either, each is
    to go alone. `held_s` is the request's part of the seconds that the slot was held.
    """

    answer: Answer | None = None
    answered: Answered | None = None
    tokens: Sequence[int] = ()
    held_s: float = 0.0
    failure: NodeFailed | None = None
    joined: int = 0


ALONE = Share()


@dataclass(slots=True, eq=False)
class Call:
    """One joined call: whom it carries, with how many of its `texts` each, and the task that waits for the node.

    `gone` counts those who have left.
    """

    all: "Sequence[Member]"
    lease: Lease
    texts: Sequence[str]
    counts: Sequence[int]
    task: "asyncio.Task[Joined] | None" = None
    lost: bool = False
    gone: int = 0

    def leave(self, member: "Member") -> None:
        """A client has left: only when all have does the call end."""
        if not member.answer.done():
            member.answer.cancel()
            self.gone += 1
            if self.gone == len(self.all) and self.task is not None:
                self.task.cancel()

    def lose(self) -> None:
        """The node does not answer any more."""
        self.lost = True
        if self.task is not None:
            self.task.cancel()

    def failed(self, task: "asyncio.Task[Joined]") -> list[Share] | None:
        """Everybody's share in a call that came to nothing; None where it did."""
        if self.lost or task.cancelled():
            return [Share(failure=NodeFailed(SILENT))] * len(self.all)
        error = task.exception()
        if isinstance(error, NodeFailed):
            return [Share(failure=error)] * len(self.all)
        if error is not None:
            log.error("a joined embedding call failed", exc_info=error)
        return [ALONE] * len(self.all) if error is not None or task.result().found is None else None

    def shares(self, done: Joined, held_s: float) -> list[Share]:
        """Everybody's share in what was found."""
        assert done.found is not None  # noqa: S101 (asked before)
        vectors, tail = done.found
        tokens, weights = shared(done.found.tokens, self.texts), [weight(text) for text in self.texts]
        begin, shares, whole = 0, [], sum(weights)
        for count in self.counts:
            own = slice(begin, begin + count)
            held = held_s * sum(weights[own]) / whole
            shares.append(Share(done.answer, Answered(vectors[own], tail), tokens[own], held, joined=len(self.counts)))
            begin += count
        return shares


async def fetched(
    upstream: Upstream, lease: Lease, target: str, headers: Iterable[tuple[str, str]], body: bytes
) -> tuple[Answer, bytes]:
    """One node's whole answer. Raises `NodeFailed`, also where it takes far longer than any model loads."""
    patience = max(FIRST_S, 100.0 * (lease.ends_at - lease.started_at))
    try:
        async with asyncio.timeout(patience):
            answer = await upstream.open(lease.node.spec, "POST", target, headers, body)
            try:
                return answer, await answer.whole()
            finally:
                answer.close()
    except TimeoutError:
        raise NodeFailed(SLOW.format(patience)) from None


async def read(request: Profile, data: bytes, count: int) -> Answered:
    """The vectors in an answer, off the event loop if it is large. Raises `NodeFailed` where they are not in it."""
    found = (
        apart(request.route, data, count)
        if len(data) < LARGE
        else await asyncio.to_thread(apart, request.route, data, count)
    )
    if found is None:
        raise NodeFailed(ODD, said=True)
    return found


def metrics_of(request: Profile, tail: dict[str, Any], took_s: float, *, warm: bool) -> Metrics:
    """What an answer's tail tells of its node."""
    seen = Relayed(request.route.api, final=tail, usage=wire.openai_usage(tail))
    return seen.metrics(request, took_s, 0.0, warm=warm)


def verdict_on(status: int, data: bytes) -> Verdict:
    """What an error tells of a node that was asked for a part of a request; whoever asks for the rest is told it."""
    return verdicts.of_error(status, data, remote=False) if status >= ERROR else Verdict.NEUTRAL
