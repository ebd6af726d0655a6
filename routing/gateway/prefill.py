"""Finds out of each loaded model whether it goes on with an unfinished assistant message: few tokens, once a digest."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import orjson

from routing.core.dispatcher import Verdict
from routing.core.errors import Refusal
from routing.core.names import display
from routing.core.requests import Complexity, Profile, Route, Task
from routing.core.resuming import Behaviour, Probed, cuts, judged
from routing.core.snapshot import Prefill
from routing.core.state import NodeState, Reach, ResidentModel
from routing.core.tickets import Lease, Ticket
from routing.gateway.admission import Admission
from routing.ports import Clock
from routing.upstream import wire
from routing.upstream.client import Answer, NodeFailed, Upstream

log = logging.getLogger("sollol.prefill")

#: A text with much white space that every model can write; what it says does not matter, only that it says it again.
ASKED = {"role": "user", "content": "Count from one to twenty in English words. Write each word on a line of its own."}
TOKENS = 24
#: Seconds that one probe may take, and the largest answer that is read, in bytes.
LIMIT_S, LARGEST = 60.0, 1 << 20
#: Seconds after which a model that never is idle is probed beside other work, and after which a failed probe is
#: repeated, doubled each time up to the last.
PATIENCE_S, AGAIN_S, SLOWEST_S = 20.0, 30.0, 1800.0
PRIORITY = 1
OK, SERVER_ERROR = 200, 500


@dataclass(slots=True)
class Wanted:
    """A digest that is to be probed: since when, how often that has failed, and not before when it is tried again."""

    since: float
    failed: int = 0
    not_before: float = 0.0


class Unclear(Exception):  # noqa: N818 (what happened, not a category)
    """The model's answers cannot be judged."""


class Prefills:
    """What is known of models by digest: what was kept, and what this gateway has found out since.

    A probe takes a slot as any request of batch priority, and only where the model is loaded and can begin at once.
    """

    def __init__(
        self,
        admission: Admission,
        upstream: Upstream,
        clock: Clock,
        every: float,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.admission, self.upstream, self.clock, self.every, self.wall = admission, upstream, clock, every, wall
        self.kept: Mapping[str, Prefill] = {}
        self.found: dict[str, Probed] = {}
        self.wanted: dict[str, Wanted] = {}
        self._unsaved: list[Probed] = []
        self._numbers = count(1)
        self._task: asyncio.Task[None] | None = None

    def apply(self, kept: Mapping[str, Prefill]) -> None:
        """Take what the snapshot tells; where it is as new as what was found here, that is forgotten."""
        self.kept = kept
        self.found = {
            digest: one
            for digest, one in self.found.items()
            if digest not in kept or kept[digest].at < one.at - 0.001  # the database keeps microseconds
        }

    def continues(self, digest: str) -> bool:
        """Whether a probe has shown that a model goes on where an assistant message stops."""
        found = self.found.get(digest)
        known = found.behaviour if found is not None else None
        if known is None and digest in self.kept:
            known = self.kept[digest].behaviour
        return known is Behaviour.CONTINUE

    def known(self, digest: str) -> bool:
        """Whether no probe of a model is wanted."""
        kept = self.kept.get(digest)
        return digest in self.found or (kept is not None and kept.at > 0.0 and not kept.again)

    # What is to be kept

    def taken(self) -> list[Probed]:
        """The results since the last call."""
        taken, self._unsaved = self._unsaved, []
        return taken

    def give_back(self, taken: Iterable[Probed]) -> None:
        """Results that could not be written: they come with the next."""
        self._unsaved = [*taken, *self._unsaved]

    # Probing

    def start(self) -> None:
        if self.every:
            self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("probing models failed")
            await asyncio.sleep(self.every)

    async def look(self) -> None:
        """Probe what is loaded and unknown, one model after the other, as far as there is room for it now."""
        candidates = self.candidates()
        self.wanted = {digest: self.wanted.get(digest) or Wanted(self.clock()) for digest in candidates}
        for digest, nodes in candidates.items():
            wanted, now = self.wanted[digest], self.clock()
            if now < wanted.not_before:
                continue
            patient = now - wanted.since < PATIENCE_S
            for node in sorted(nodes, key=lambda node: node.in_flight):
                if not (patient and node.in_flight) and await self.probe(node, digest):
                    break

    def candidates(self) -> dict[str, list[NodeState]]:
        """The digests that are to be probed, each with the nodes that have it loaded."""
        found: dict[str, list[NodeState]] = {}
        for node in self.admission.dispatcher.nodes.values():
            if node.reach is not Reach.UP or not node.used or Route.CHAT in node.missing:
                continue
            for digest, resident in node.resident.items():
                model = node.models.get(resident.key)
                if model is None or model.digest != digest or model.remote or self.known(digest):
                    continue
                if not model.capabilities or "completion" in model.capabilities:
                    found.setdefault(digest, []).append(node)
        return found

    async def probe(self, node: NodeState, digest: str) -> bool:
        """Probe a model where it is loaded; false where there was no room, so that nothing was asked."""
        resident = node.resident.get(digest)
        lease = None if resident is None else self._lease(node, resident, digest)
        if resident is None or lease is None:
            return False
        try:
            async with asyncio.timeout(LIMIT_S):
                behaviour, detail = await self._judged(lease, resident.name)
            self._tell(Probed(digest, display(resident.key), node.spec.name, behaviour, self.wall(), detail))
        except (NodeFailed, TimeoutError) as failure:
            wanted = self.wanted.setdefault(digest, Wanted(self.clock()))
            wanted.failed += 1
            pause = min(SLOWEST_S, AGAIN_S * 2.0 ** (wanted.failed - 1))
            wanted.not_before = self.clock() + pause
            reason = str(failure) or "it takes too long"
            log.info("%s on %s cannot be probed: %s", resident.name, node.spec.name, reason)
        finally:
            self.admission.release(lease, Verdict.NEUTRAL)
            self.admission.end(lease.ticket)
        return True

    def _tell(self, probed: Probed) -> None:
        self.found[probed.digest] = probed
        self._unsaved.append(probed)
        told = "what %s does with an unfinished answer, probed on %s: %s"
        log.info(told, probed.model, probed.node, probed.behaviour.value)

    def _lease(self, node: NodeState, resident: ResidentModel, digest: str) -> Lease | None:
        """A slot of the loaded model on this very node, at once; None where there is none."""
        dispatcher = self.admission.dispatcher
        ticket = Ticket(f"prefill-{next(self._numbers)}", self._profile(node, resident, digest), self.clock())
        ticket.tried = {other for other in dispatcher.nodes if other != node.spec.id}
        place = dispatcher.judge(ticket, self.clock()).ready
        if place is None or place.node is not node or not place.warm:
            return None
        try:
            self.admission.submit(ticket)
        except Refusal:
            return None
        lease = ticket.lease
        if lease is not None and lease.node is node and not lease.cold:
            return lease
        self.admission.end(ticket)
        return None

    def _profile(self, node: NodeState, resident: ResidentModel, digest: str) -> Profile:
        """What the probe is to the dispatcher.

        Its context size is that with which the model was loaded, since another would load it anew: the size that a
        request of ours asked for, else the one that the node tells.
        """
        return Profile(
            route=Route.CHAT,
            model=resident.name,
            key=resident.key,
            stream=True,
            task=Task.CHAT,
            complexity=Complexity.SIMPLE,
            needs_gpu=False,
            prompt_tokens=len(ASKED["content"]) // 4,
            max_tokens=TOKENS,
            num_ctx=node.loaded_with.get(digest, resident.context_length or None),
            messages=1,
            priority=PRIORITY,
        )

    async def _judged(self, lease: Lease, name: str) -> tuple[Behaviour, str]:
        """Let the model say something, and then go on with parts of it. Raises `NodeFailed`."""
        try:
            pieces = await self._said(lease, name, [ASKED], TOKENS)
            at = cuts(pieces)
            if not at:
                return Behaviour.UNCLEAR, f"too little to judge: {''.join(pieces)[:80]!r}"
            given = {}
            for cut in at:
                partial = {"role": "assistant", "content": "".join(pieces[:cut])}
                given[cut] = "".join(await self._said(lease, name, [ASKED, partial], len(pieces) - cut))
        except Unclear as reason:
            return Behaviour.UNCLEAR, str(reason)
        behaviour = judged(pieces, given)
        told = "" if behaviour is Behaviour.CONTINUE else f"{''.join(pieces)!r}: {given!r}"
        return behaviour, told[:500]

    async def _said(self, lease: Lease, name: str, messages: list[dict[str, str]], tokens: int) -> list[str]:
        """The pieces of text of one answer. Raises `NodeFailed`, and `Unclear` for a refusal or what is no answer."""
        model = lease.node.models.get(lease.ticket.request.key)
        options: dict[str, Any] = {"temperature": 0, "seed": 1, "num_predict": tokens}
        if lease.num_ctx is not None:
            options["num_ctx"] = lease.num_ctx
        asked = {"model": name, "messages": messages, "stream": True, "options": options}
        if model is not None and "thinking" in model.capabilities:
            asked["think"] = False
        answer = await self.upstream.open(
            lease.node.spec, "POST", Route.CHAT.value, [("content-type", "application/json")], orjson.dumps(asked)
        )
        try:
            data = await answer.whole(LARGEST)
        finally:
            answer.close()
        return pieces_of(answer, data)


def pieces_of(answer: Answer, data: bytes) -> list[str]:
    """The texts of the objects of a native chat stream."""
    if answer.status >= SERVER_ERROR:
        raise NodeFailed(f"{answer.status} {data[:200].decode('utf-8', 'replace')}")
    if answer.status != OK:
        raise Unclear(f"{answer.status} {data[:200].decode('utf-8', 'replace').strip()}")
    pieces = []
    for line in data.splitlines():
        value = wire.decode(line)
        if value is None or "error" in value:
            raise NodeFailed(f"an odd object: {line[:200]!r}")
        message = value.get("message")
        message = message if isinstance(message, dict) else {}
        if message.get("thinking"):
            raise Unclear("it thinks although it is told not to")
        text = message.get("content")
        if isinstance(text, str) and text:
            pieces.append(text)
    return pieces
