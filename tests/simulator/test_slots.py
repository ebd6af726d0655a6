"""Slots: how many run at once, in which order, and what becomes of those whose client leaves."""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.runner import Slots
from tests.simulator.conftest import small

HELLO = [{"role": "user", "content": "hello"}]


async def stream(client, model):
    """Open a stream and read its first object."""
    answer = await client.session.post(client.node.base_url + "/api/chat", json={"model": model, "messages": HELLO})
    await answer.content.readline()
    return answer


async def test_no_more_run_than_there_are_slots(start):
    """Requests beyond the slots of a runner wait."""
    node, client = await start(models=[small("ant:1b")], parallel=3)
    await asyncio.gather(*(client.chat("ant:1b", f"{i}") for i in range(10)))
    assert node.record.peak_running["ant:1b"] == 3
    assert node.record.peak_in_flight["ant:1b"] == 10


async def test_an_embedding_model_has_one_slot(start):
    """Models that only embed run one input at a time."""
    node, client = await start(models=["nomic-embed-text:latest"], parallel=4)
    await asyncio.gather(*(client.post("/api/embed", model="nomic-embed-text", input=f"{i}") for i in range(5)))
    assert node.record.peak_running["nomic-embed-text:latest"] == 1


async def test_no_headers_while_waiting_for_a_slot(start):
    """A request in the queue of a runner sees nothing, not even headers, until its first object."""
    node, client = await start(models=[small("ant:1b")], parallel=1)
    node.faults.stall_after_chunks = 1
    first = await stream(client, "ant:1b")
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(stream(client, "ant:1b"), 0.1)
    assert node.record.running["ant:1b"] == 1
    first.close()


async def test_a_client_that_leaves_frees_its_slot(start):
    """Generation stops, the slot goes to the next in line, and the departure is noted."""
    node, client = await start(models=[small("ant:1b")], parallel=1)
    node.faults.stall_after_chunks = 1
    first = await stream(client, "ant:1b")
    second = asyncio.create_task(stream(client, "ant:1b"))
    await node.until(lambda: node.record.in_flight["ant:1b"] == 2)
    first.close()
    (await second).close()
    await node.until(lambda: not node.record.in_flight["ant:1b"])
    assert [departure.model for departure in node.record.aborted] == ["ant:1b", "ant:1b"]
    assert node.record.running["ant:1b"] == 0


async def test_a_client_that_leaves_the_queue_takes_no_slot(start):
    """The one behind it moves up."""
    node, client = await start(models=[small("ant:1b")], parallel=1)
    node.faults.stall_after_chunks = 1
    first = await stream(client, "ant:1b")
    second = asyncio.create_task(stream(client, "ant:1b"))
    await node.until(lambda: node.record.in_flight["ant:1b"] == 2)
    second.cancel()
    await node.until(lambda: node.record.in_flight["ant:1b"] == 1)
    node.faults.clear()
    await first.read()
    assert (await client.chat("ant:1b"))["done"]


async def test_more_sequences_run_slower_each_and_faster_together(start):
    """Four at once take longer than one alone, and less than four times as long."""
    rates = {"decode_rate": 50.0, "prefill_rate": 1e6, "load_fixed": 0.0, "alpha": 0.5}
    _, client = await start(models=[small("ant:1b")], parallel=4, speed=5, exact_length=True, **rates)
    asked = {"options": {"num_predict": 40}}
    alone = min([(await client.chat("ant:1b", **asked))["eval_duration"] for _ in range(3)])
    together = await asyncio.gather(*(client.chat("ant:1b", **asked) for _ in range(4)))
    slowest = max(answer["eval_duration"] for answer in together)
    assert slowest / alone == pytest.approx(2.0, rel=0.4)


async def test_a_conversation_pays_only_for_its_new_part(start):
    """The slot still holds the last turn, so that the next one evaluates only what was added."""
    _, client = await start(models=[small("ant:1b")], prefill_rate=100.0, decode_rate=1e4)
    text = "word " * 400
    first = await client.chat("ant:1b", text)
    turn = [{"role": "user", "content": text}, first["message"], {"role": "user", "content": "and?"}]
    second = await client.post("/api/chat", model="ant:1b", messages=turn)
    assert second["prompt_eval_count"] > first["prompt_eval_count"]
    assert second["prompt_eval_duration"] < first["prompt_eval_duration"] / 2


@given(st.lists(st.sampled_from(["come", "leave", "end"]), max_size=40), st.integers(1, 3))
def test_slots_are_never_lost(moves, count):
    """Whoever comes, leaves or ends: at most `count` hold a slot, and nobody waits beside a free one."""

    async def play():
        slots, numbers = Slots(count), itertools.count()
        holding, waiting = [], []

        async def hold(number, ended):
            slot = await slots.acquire(str(number))
            holding.append(number)
            try:
                await ended.wait()
            finally:
                holding.remove(number)
                slots.release(slot)

        for move in moves:
            if move == "come":
                ended = asyncio.Event()
                waiting.append((asyncio.create_task(hold(next(numbers), ended)), ended))
            elif waiting:
                task, ended = waiting.pop(0 if move == "end" else -1)
                ended.set() if move == "end" else task.cancel()
            for _ in range(4):
                await asyncio.sleep(0)
            alive = sum(not task.done() for task, _ in waiting)
            assert len(holding) == min(count, alive)
        for task, ended in waiting:
            ended.set()
            await task
        assert len(slots._free) == count

    asyncio.run(play())


async def test_work_that_is_streamed_arrives_as_it_is_made(start):
    """Tokens come one by one over the time that they take, not all at the end."""
    node, client = await start(models=[small("ant:1b")], decode_rate=50.0, speed=10)
    async with client.session.post(node.base_url + "/api/chat", json={"model": "ant:1b", "messages": HELLO}) as answer:
        await answer.content.readline()
        made = node.record.tokens
        assert made < 10
        await answer.read()
    assert node.record.tokens > made
