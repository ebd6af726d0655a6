"""Wherever a stream is cut and however the network splits it: what the client reads is what was to be said."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.core.health import Health
from routing.core.retries import RetryBudget
from routing.gateway.settings import GatewaySettings
from simulator.models import CATALOGUE
from tests.fakes.address import CHAT, Address, address, sim
from tests.fakes.cutter import Cutter, cutter
from tests.gateway.test_resuming import ASKED, objects, tokens, usage

#: Few words, so that a cut within the first or the last object is no rare case.
SHORT = replace(CATALOGUE[CHAT], answer_tokens=(4, 9))
QUESTIONS = ["Why is the sky blue?", "Tell me of \N{HONEYBEE}.", "One\ntwo\n", "x"]


@dataclass(repr=False)
class Cut:
    """A gateway before two nodes that say the same; `ant`, which is asked first, breaks off where it is told to."""

    runner: asyncio.Runner
    one: Address
    ant: Cutter
    direct: httpx.AsyncClient
    through: httpx.AsyncClient

    def ask(self, path: str, question: str, cut: int, edges: list[int]) -> tuple[bytes, bytes]:
        """What a node says, and what comes through the gateway when the first answer is cut."""
        return self.runner.run(self._ask(path, question, cut, edges))

    async def _ask(self, path: str, question: str, cut: int, edges: list[int]) -> tuple[bytes, bytes]:
        body = ASKED[path] | ({"prompt": question} if "prompt" in ASKED[path] else {"messages": asked(question)})
        self.one.gateway.dispatcher.budget = RetryBudget()
        for state in self.one.gateway.dispatcher.nodes.values():
            state.health, state.failing = Health(), 0.0
        self.ant.cut = None
        expected = (await self.direct.post(path, json=body)).content
        self.ant.cut, self.ant.edges = cut % (len(expected) + 1), edges
        return expected, (await self.through.post(path, json=body)).content


def asked(question: str) -> list[dict]:
    return [{"role": "user", "content": question}]


@pytest.fixture(scope="module")
def cut() -> Iterator[Cut]:
    nodes = [sim(name, "instant", models=[SHORT], exact_length=False, parallel=4) for name in ("ant", "bee")]
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def enter(context):
            return await stack.enter_async_context(context)

        for node in nodes:
            runner.run(enter(node))
        ant = runner.run(enter(cutter(nodes[0])))
        one = runner.run(
            enter(address(ant, nodes[1], settings=GatewaySettings(poll=1.0), continuing=True, start=False))
        )
        one.operate("bee", weight=0.001)
        direct = runner.run(enter(httpx.AsyncClient(base_url=ant.base_url, timeout=20)))
        try:
            yield Cut(runner, one, ant, direct, runner.run(enter(one.client())))
        finally:
            runner.run(stack.aclose())


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(list(ASKED)),
    st.sampled_from(QUESTIONS),
    st.integers(0, 5000),
    st.lists(st.integers(0, 5000), max_size=6),
)
def test_the_text_is_the_uninterrupted_one(cut, path, question, at, edges):
    """Cut after any byte: every token once and in order, one proper end, and the tokens counted."""
    before = cut.ant.broken
    expected, got = cut.ask(path, question, at, edges)
    assert cut.ant.broken == before + 1
    told, wanted = objects(path, got), objects(path, expected)
    assert tokens(told) == tokens(wanted)
    assert usage(told)[1] == usage(wanted)[1]
    ends = [one for one in told if one.get("done") or any(c["finish_reason"] for c in one.get("choices", ()))]
    assert len(ends) == 1
    assert cut.one.last.outcome == "served"


@pytest.mark.parametrize("path", ASKED)
def test_every_byte_of_one_answer(cut, path):
    """One short answer, cut behind each of its bytes in turn."""
    expected, _ = cut.ask(path, QUESTIONS[0], 0, [])
    for at in range(0, len(expected) + 1, 23):
        whole, got = cut.ask(path, QUESTIONS[0], at, [at // 2])
        assert tokens(objects(path, got)) == tokens(objects(path, whole)), at
    assert cut.runner.run(settled(cut.one))


async def settled(one: Address) -> bool:
    await one.until(lambda: not one.gateway.dispatcher.in_flight())
    return not one.gateway.dispatcher.waiting
