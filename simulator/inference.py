"""One inference request from its arrival to its end: load, slot, prompt, tokens, and the durations they took."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from simulator.answer import Answer, Question, compose
from simulator.forms import Form, Metrics, Result
from simulator.http_answer import Delivery, EndedEarly
from simulator.library import InstalledModel
from simulator.options import Options
from simulator.prompt import Prompt
from simulator.runner import Runner, RunnerDied
from simulator.runner import Sequence as EngineSequence
from simulator.scheduler import QueueFull
from simulator.text import token_ids
from simulator.wire import Refusal

if TYPE_CHECKING:
    from simulator.node import SimulatedNode

# So many tokens at most share one write, so that others get their turn.
BATCH_TOKENS = 64
CONTEXTS_GENERATED = 10


@dataclass(frozen=True)
class Call:
    """A request that was understood: which model, which prompt, and how the answer is wanted.

    keep_alive is in seconds, None leaves the runner's. `started` is when the handler began, in simulated seconds.
    """

    model: InstalledModel
    prompt: Prompt
    question: Question
    options: Options
    keep_alive: float | None
    stream: bool
    started: float
    with_context: bool = False
    top_logprobs: int | None = None


async def infer(node: "SimulatedNode", request: web.BaseRequest, call: Call, form: Form) -> web.StreamResponse:
    """Answer in the given form; raises Refusal when the request ends before its work begins."""
    if node.faults.busy and not call.model.spec.remote_host and node.faults.strikes():
        node.record.busy_refusals += 1
        raise QueueFull
    delivery = Delivery(request, node.faults, form.content_type, form.headers)
    if node.faults.blank and node.faults.strikes():
        return await delivery.finish()
    async with node.scheduler.lease(call.model, call.options.runner, call.keep_alive) as runner:
        loaded = node.clock.now()
        try:
            async with runner.slot(call.prompt.text) as sequence:
                work = Work(node, call, form, delivery, sequence, runner)
                work.metrics.load = loaded - call.started
                return await work.run()
        except EndedEarly:
            return await delivery.finish()
        except RunnerDied as death:
            bury(node, runner, death.text)
            if not call.stream or not delivery.sent:
                raise Refusal(death.status, death.text, charset=not call.stream) from None
            for line in form.failure(death.text):
                await delivery.stream.send([line])
            return await delivery.finish()


def bury(node: "SimulatedNode", runner: Runner, text: str) -> None:
    """What a failure does to the runners: it may have cost this one, or for want of memory all of them."""
    if "out of memory" in text:
        node.scheduler.expire_all()
    if node.faults.error_kills_runner and not runner.dead:
        node.scheduler.crash(runner)


@dataclass
class Work:
    """A request that has its slot."""

    node: "SimulatedNode"
    call: Call
    form: Form
    delivery: Delivery
    sequence: EngineSequence
    runner: Runner
    metrics: Metrics = field(default_factory=Metrics)
    decode_started: float = 0.0

    async def run(self) -> web.StreamResponse:
        clock, call = self.node.clock, self.call
        await self.delivery.check()
        if self.node.faults.slow_first_byte:
            await clock.sleep(self.node.faults.slow_first_byte)
        slot_taken = self.decode_started = clock.now()
        if self.node.faults.mute and self.node.faults.strikes():
            return await (self._stream(Answer()) if call.stream else self._whole(Answer()))
        self.metrics.prompt_tokens = call.prompt.tokens
        await self.sequence.evaluate(call.prompt.tokens)
        self.decode_started = clock.now()
        self.metrics.prompt = self.decode_started - slot_taken
        most = CONTEXTS_GENERATED * self.runner.num_ctx
        limit = call.question.limit
        answer = compose(
            call.model, call.prompt, replace(call.question, limit=most if limit is None else min(limit, most))
        )
        return await (self._stream(answer) if call.stream else self._whole(answer))

    async def _stream(self, answer: Answer) -> web.StreamResponse:
        tokens = answer.thinking + answer.content
        thinking = len(answer.thinking)
        clock, form, sent = self.node.clock, self.form, 0
        while sent < len(tokens):
            due = await self.sequence.due(min(BATCH_TOKENS, len(tokens) - sent))
            stamp = clock.stamp()
            lines = [
                form.piece(stamp, tokens[i], thinking=i < thinking, logprobs=self._logprobs(tokens[i], i >= thinking))
                for i in range(sent, sent + due)
            ]
            sent += due
            self.node.record.tokens += due
            await self.delivery.send(lines)
        if answer.hidden_tokens:
            await self.sequence.finish(answer.hidden_tokens)
            await self.delivery.send([form.calls(clock.stamp(), answer.calls)])
        result = self._result(answer)
        await self.delivery.send(form.closing(clock.stamp(), result))
        return await self.delivery.finish()

    async def _whole(self, answer: Answer) -> web.StreamResponse:
        # Faults that count chunks strike where the stream would have had them.
        broken = self.node.faults.next_break()
        tokens = answer.tokens
        if broken is not None and broken[0] < tokens:
            await self.sequence.finish(broken[0])
            self.delivery.sent = broken[0]
            try:
                await self.delivery.check()
            except EndedEarly:
                cut = replace(answer, content=answer.content[: broken[0]], done_reason="")
                return self.form.whole(self.node.clock.stamp(), self._result(cut))
            tokens -= broken[0]
        await self.sequence.finish(tokens)
        self.node.record.tokens += answer.tokens
        return self.form.whole(self.node.clock.stamp(), self._result(answer))

    def _result(self, answer: Answer) -> Result:
        now = self.node.clock.now()
        text = "".join(answer.content)
        self.metrics.tokens = answer.tokens
        self.metrics.decode = now - self.decode_started
        self.metrics.total = now - self.call.started
        self.sequence.remember(text)
        wants = self.call.top_logprobs is not None
        return Result(
            thinking="".join(answer.thinking),
            content=text,
            calls=answer.calls,
            done_reason=answer.done_reason,
            metrics=self.metrics,
            context=token_ids(self.call.prompt.text + text) if self.call.with_context else None,
            logprobs=[entry for token in answer.content for entry in self._logprobs(token, wants) or ()] or None,
        )

    def _logprobs(self, token: str, shown: bool) -> list[dict[str, Any]] | None:
        if self.call.top_logprobs is None or not shown:
            return None
        return logprobs(token, self.call.top_logprobs)


def logprobs(token: str, top: int) -> list[dict[str, Any]]:
    """Log probabilities of one token: made up, the same for the same token."""
    probability = -0.015625 - sum(token.encode()) % 97 / 128
    entry = {"token": token, "logprob": probability, "bytes": list(token.encode())}
    if not top:
        return [entry]
    others: Sequence[str] = [f" alternative{i}" for i in range(1, top)]
    rest = [
        {"token": other, "logprob": probability - i - 1.5, "bytes": list(other.encode())}
        for i, other in enumerate(others)
    ]
    return [{**entry, "top_logprobs": [entry, *rest]}]


def not_found(name: str) -> Refusal:
    """What chat and generate say of a model that is not on disk."""
    return Refusal(HTTPStatus.NOT_FOUND, f"model '{name}' not found")


def not_pulled(name: str) -> Refusal:
    """What the embedding routes say of a model that is not on disk."""
    return Refusal(HTTPStatus.NOT_FOUND, f'model "{name}" not found, try pulling it first')
