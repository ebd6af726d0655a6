"""The durations that answers report."""

import asyncio
import time

import pytest

from tests.simulator.conftest import small

SECOND = 1_000_000_000


def takes(seconds):
    """Nanoseconds that work of so many simulated seconds may be measured to take, on a machine that is busy."""
    return pytest.approx(seconds * SECOND * 1.2, rel=0.25)


RATES = {"decode_rate": 50.0, "prefill_rate": 500.0, "load_fixed": 2.0, "load_bytes_per_second": 1e9}


async def test_durations_are_what_the_work_takes(start):
    """Load, prompt and tokens take what sizes and rates say, in simulated nanoseconds."""
    _, client = await start(models=[small("ant:1b")], speed=20, exact_length=True, **RATES)
    answer = await client.chat("ant:1b", "x" * 4000, options={"num_predict": 50})
    assert answer["eval_count"] == 50
    assert answer["load_duration"] == takes(3)
    assert answer["prompt_eval_duration"] == takes(answer["prompt_eval_count"] / 500)
    assert answer["eval_duration"] == takes(1)


async def test_durations_add_up_to_the_total(start):
    """With a free slot the total is load, prompt and tokens."""
    _, client = await start(models=[small("ant:1b")], speed=20, **RATES)
    answer = await client.chat("ant:1b")
    parts = answer["load_duration"] + answer["prompt_eval_duration"] + answer["eval_duration"]
    assert answer["total_duration"] == pytest.approx(parts, rel=0.05)


async def test_waiting_for_a_slot_counts_in_the_total_only(start):
    """load_duration leaves the wait out, total_duration has it."""
    _, client = await start(models=[small("ant:1b")], speed=20, parallel=1, **RATES)
    await client.chat("ant:1b")
    answers = await asyncio.gather(*(client.chat("ant:1b", f"{i}") for i in range(3)))
    last = max(answers, key=lambda answer: answer["total_duration"])
    own = last["load_duration"] + last["prompt_eval_duration"] + last["eval_duration"]
    assert last["load_duration"] < SECOND / 4
    assert last["total_duration"] > 1.5 * own


async def test_a_warm_model_has_a_load_duration(start):
    """It is tiny, and not left out."""
    _, client = await start(models=[small("ant:1b")])
    cold, warm = [await client.chat("ant:1b") for _ in range(2)]
    assert 0 < warm["load_duration"] < cold["load_duration"] / 4


async def test_simulated_time_passes_faster_than_real_time(start):
    """At speed 50 an answer that took four simulated seconds took less than one real one."""
    _, client = await start(models=[small("ant:1b")], speed=50, exact_length=True, **RATES)
    began = time.monotonic()
    answer = await client.chat("ant:1b", options={"num_predict": 50})
    real = time.monotonic() - began
    assert answer["total_duration"] / SECOND == pytest.approx(real * 50, rel=0.3)
    assert real < 2


async def test_a_model_that_spills_over_is_slower(start):
    """What does not fit the GPU runs at the speed of main memory."""
    fits, spills = small("ant:1b", 10), small("bee:1b", 40)
    _, client = await start(models=[fits, spills], ram_bytes=64 * 10**9, speed=50)
    fast, slow = [await client.chat(model, options={"num_predict": 5}) for model in ("ant:1b", "bee:1b")]
    assert slow["eval_duration"] / slow["eval_count"] > 5 * fast["eval_duration"] / fast["eval_count"]


async def test_a_brown_out_slows_a_running_node(start):
    """The slowdown switch stretches what comes after it."""
    node, client = await start(models=[small("ant:1b")], speed=20, **RATES)
    await client.chat("ant:1b")
    node.faults.slowdown = 3.0
    answer = await client.chat("ant:1b")
    assert answer["eval_duration"] / answer["eval_count"] == takes(3 / 50)


async def test_the_instant_profile_takes_no_time(start):
    """Answers are as long as num_predict says, and come at once."""
    _, client = await start("instant", speed=1)
    began = time.monotonic()
    lines = await client.lines("/api/generate", model="llama3.1:8b", prompt="x", options={"num_predict": 500})
    assert len(lines) == 501
    assert time.monotonic() - began < 1
