"""Embedding requests that are joined, split or answered from the cache are answered as by a lone node."""

import asyncio
import json
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest

from routing.core.snapshot import Measure, Quota, RoutingRule, TeamPolicy, Window
from routing.gateway.intake import zstd
from routing.gateway.settings import GatewaySettings
from tests.fakes.address import address, sim
from tests.gateway.test_access import bearer, keys

NOMIC = "nomic-embed-text"
VOLATILE = ("total_duration", "load_duration")
PATHS = pytest.mark.parametrize("path", ["/api/embed", "/v1/embeddings"])
SOME = [{"model": NOMIC, "input": f"text number {i} of a bee <&>"} for i in range(5)]


def fleet(*nodes, join=False, split=False, cache=False, settings=None, **policy):
    """Nodes, and a team with these wishes."""
    bees = TeamPolicy(7, "Bees", join_embeddings=join, split_embeddings=split, cache_embeddings=cache, **policy)
    settings = settings or GatewaySettings(poll=0.2, metadata="headers")
    return address(*nodes, teams={7: bees}, keys=keys(), settings=settings)


def bees(one):
    return one.client(headers=bearer(), limits=httpx.Limits(max_connections=200))


def node(name, **more):
    """A node in real time, whose durations mean what they say."""
    return sim(name, speed=1.0, load_fixed=0.0, load_bytes_per_second=1e15, **more)


async def alone(one, name, path, body):
    """What the node itself says."""
    async with httpx.AsyncClient(base_url=one.nodes[name].base_url, timeout=30) as client:
        return await (client.get(path) if body is None else client.post(path, json=body))


def steady(data: bytes) -> bytes:
    """An answer's bytes without its durations, which differ from call to call."""
    told = json.loads(data)
    for name in VOLATILE:
        if name in told:
            assert told[name] > 0
            data = data.replace(b'"%b":%d' % (name.encode(), told[name]), b'"%b":0' % name.encode())
    return data


async def warm(one, client, *names):
    """Every node has the model loaded, and the gateway knows that and how fast it is."""
    for name in names or one.nodes:
        others = [other for other in one.nodes if other != name]
        for other in others:
            one.operate(other, draining=True)
        assert (
            await client.post("/api/embed", json={"model": NOMIC, "input": f"warm {name} " * 100})
        ).status_code == 200
        for other in others:
            one.operate(other, draining=False)
    states = one.gateway.dispatcher.nodes.values()
    await one.until(lambda: all(state.resident for state in states if state.spec.name in (names or one.nodes)))


@asynccontextmanager
async def taken(one, client, clear=True):
    """For as long as this lasts the slot is taken, by a request that is never answered.

    Without `clear` what comes next is not answered either.
    """
    for node in one.nodes.values():
        node.faults.set(stall_after_chunks=0)
    held = asyncio.ensure_future(client.post("/api/embed", json={"model": NOMIC, "input": "x"}))
    await one.until(lambda: one.gateway.dispatcher.in_flight() == 1)
    try:
        yield
    finally:
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)
        await one.until(lambda: one.recorder.requests and one.last.outcome == "cancelled")
        for node in one.nodes.values():
            if clear:
                node.faults.clear()


async def waiting(one, client, bodies=SOME, path="/api/embed"):
    """Send these while the slot is taken."""
    sent = [asyncio.ensure_future(client.post(path, json=body)) for body in bodies]
    await one.until(lambda: one.gateway.dispatcher.waiting == len(bodies))
    return sent


async def crowd(one, client, bodies, path="/api/embed"):
    """The answers to these, sent while the slot was taken."""
    async with taken(one, client):
        sent = await waiting(one, client, bodies, path)
    return await asyncio.gather(*sent)


def counted(answer):
    told = answer.json()
    return told["usage"]["prompt_tokens"] if "usage" in told else told["prompt_eval_count"]


def served(one):
    return [record for record in one.recorder.requests if record.outcome == "served"]


# Joined


@PATHS
async def test_those_who_wait_share_a_call(path):
    """One upstream call answers all, each with its own bytes, and each is a request of its own in the history."""
    bodies = [*SOME, {"model": NOMIC, "input": ["two", "texts of one request"]}]
    async with fleet(node("ant"), join=True) as one, bees(one) as client:
        await warm(one, client)
        answers = await crowd(one, client, bodies, path)
        assert (one.gateway.embedding.joining.calls, one.gateway.embedding.joining.requests) == (1, 6)
        lone = [await alone(one, "ant", path, body) for body in bodies]
        assert [steady(answer.content) for answer in answers] == [steady(answer.content) for answer in lone]
        assert {answer.headers["x-sollol-embedding"] for answer in answers} == {"joined=6"}
        assert {answer.headers["x-sollol-attempts"] for answer in answers} == {"1"}
        await one.until(lambda: len(served(one)) == 7)
        records = served(one)[1:]
        assert sorted(record.prompt_tokens for record in records) == sorted(map(counted, lone))
        assert all(record.node_id == 1 and record.attempts == 1 for record in records)


async def test_base64_answers_are_shared_as_they_are():
    """What the OpenAI SDK asks for is joined, too."""
    bodies = [{**body, "encoding_format": "base64"} for body in SOME]
    async with fleet(node("ant"), join=True) as one, bees(one) as client:
        await warm(one, client)
        answers = await crowd(one, client, bodies, "/v1/embeddings")
        lone = [await alone(one, "ant", "/v1/embeddings", body) for body in bodies]
        assert [answer.content for answer in answers] == [answer.content for answer in lone]
        assert one.gateway.embedding.joining.calls == 1


async def test_a_lone_request_goes_its_way():
    """Nothing is waited for, and its bytes are the node's."""
    async with fleet(node("ant"), join=True) as one, bees(one) as client:
        answer = await client.post("/api/embed", json=SOME[0])
        assert "x-sollol-embedding" not in answer.headers
        assert steady(answer.content) == steady((await alone(one, "ant", "/api/embed", SOME[0])).content)
        assert one.gateway.embedding.joining.calls == 0


async def test_without_the_policy_nothing_is_joined():
    """Each waits for a slot of its own."""
    async with fleet(node("ant")) as one, bees(one) as client:
        await warm(one, client)
        answers = await crowd(one, client, SOME)
        assert {answer.status_code for answer in answers} == {200}
        assert one.asked("ant", "/api/embed") == 7


async def test_one_bad_input_fails_only_its_own_request():
    """The joined call is refused; then each asks alone, and only the bad one is told of it."""
    bodies = [{**body, "truncate": False} for body in SOME]
    bodies[2]["input"] = "long " * 700
    bodies = [{**body, "options": {"num_ctx": 512}} for body in bodies]
    async with fleet(node("ant"), join=True) as one, bees(one) as client:
        await client.post("/api/embed", json=bodies[0])
        answers = await crowd(one, client, bodies)
        lone = [await alone(one, "ant", "/api/embed", body) for body in bodies]
        assert [answer.status_code for answer in answers] == [200, 200, 400, 200, 200]
        assert [steady(answer.content) for answer in answers] == [steady(answer.content) for answer in lone]
        assert one.gateway.embedding.joining.calls == 1
        assert {answer.headers["x-sollol-attempts"] for answer in answers} == {"1"}


@pytest.mark.parametrize("leaving", [0, 3])
async def test_a_client_that_leaves_takes_only_its_own_away(leaving):
    """The call goes on for the others, whoever of them began it."""
    async with fleet(node("ant"), join=True) as one, bees(one) as client:
        await warm(one, client)
        async with taken(one, client, clear=False):
            sent = await waiting(one, client)
        await one.until(lambda: one.gateway.embedding.calls)
        sent[leaving].cancel()
        await one.until(lambda: [record.outcome for record in one.recorder.requests[1:]] == ["cancelled"] * 2)
        one.nodes["ant"].faults.clear()
        others = await asyncio.gather(*sent[:leaving], *sent[leaving + 1 :])
        assert {answer.headers["x-sollol-embedding"] for answer in others} == {"joined=5"}


async def test_when_all_have_left_the_node_is_left_too():
    """Nobody is worked for who does not listen."""
    async with fleet(node("ant"), join=True) as one, bees(one) as client:
        await warm(one, client)
        async with taken(one, client, clear=False):
            sent = await waiting(one, client)
        await one.until(lambda: one.gateway.embedding.calls)
        for task in sent:
            task.cancel()
        await asyncio.gather(*sent, return_exceptions=True)
        await one.until(lambda: not one.gateway.embedding.calls and not one.gateway.dispatcher.in_flight())
        assert [record.outcome for record in one.recorder.requests[1:]] == ["cancelled"] * 6
        [state] = one.gateway.dispatcher.nodes.values()
        assert (state.failures, state.breaker.state.value) == (0, "closed")


async def test_compressed_bodies_are_joined_and_cached():
    """The OpenAI route takes zstd; what the gateway makes of such requests goes on without it."""
    bodies = [zstd.compress(json.dumps(body).encode()) for body in (*SOME, {"model": NOMIC, "input": ["a", "b"]})]
    async with fleet(node("ant"), join=True, cache=True) as one, bees(one) as client:
        await warm(one, client)
        packed = {"content-encoding": "zstd"}
        async with taken(one, client):
            sent = [asyncio.ensure_future(client.post("/v1/embeddings", content=b, headers=packed)) for b in bodies]
            await one.until(lambda: one.gateway.dispatcher.waiting == len(bodies))
        answers = await asyncio.gather(*sent)
        assert {answer.headers["x-sollol-embedding"] for answer in answers} == {"joined=6"}
        again = zstd.compress(json.dumps({"model": NOMIC, "input": [SOME[0]["input"], "new", "b"]}).encode())
        answer = await client.post("/v1/embeddings", content=again, headers=packed)
        assert answer.headers["x-sollol-embedding"] == "cached=2"
        told = [row["embedding"] for row in answer.json()["data"]]
        assert told[0] == answers[0].json()["data"][0]["embedding"]
        assert told[2] == answers[5].json()["data"][1]["embedding"]


async def test_a_context_size_that_a_rule_pins_is_kept():
    """Joined requests are sent with it, and it is part of what the cache knows them by."""
    async with fleet(node("ant"), join=True, cache=True) as one, bees(one) as client:
        await warm(one, client)
        one.snapshot = replace(one.snapshot, revision=9, rules=(RoutingRule(7, num_ctx=512),))
        one.gateway.apply(one.snapshot)
        await client.post("/api/embed", json=SOME[0])
        answers = await crowd(one, client, SOME[1:])
        assert {answer.headers["x-sollol-embedding"] for answer in answers} == {"joined=4"}
        [model] = (await alone(one, "ant", "/api/ps", None)).json()["models"]
        assert model["context_length"] == 512


@pytest.mark.parametrize("fault", [{"reset_after_chunks": 0}, {"cut_after_chunks": 0}, {"refuse": True}])
async def test_a_node_that_fails_is_retried_elsewhere(fault):
    """The call breaks, and each of those whom it carried is answered by another node."""
    async with fleet(node("ant"), node("bee"), join=True) as one, bees(one) as client:
        await warm(one, client)
        one.operate("bee", draining=True)
        async with taken(one, client, clear=False):
            sent = await waiting(one, client)
        await one.until(lambda: one.gateway.embedding.calls)
        one.operate("bee", draining=False)
        one.nodes["bee"].faults.clear()
        if "refuse" in fault:
            await one.nodes["ant"].stop()
        else:
            one.nodes["ant"].faults.set(stall_after_chunks=None, **fault)
        answers = await asyncio.gather(*sent)
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.headers["x-sollol-node"] for answer in answers} == {"bee"}


@pytest.mark.parametrize("other", [{"dimensions": 64}, {"options": {"num_ctx": 1024}}, {"keep_alive": "1h"}])
async def test_only_what_asks_for_the_same_is_joined(other):
    """Other options are other calls."""
    async with fleet(node("ant"), join=True) as one, bees(one) as client:
        await warm(one, client)
        bodies = [SOME[0], {**SOME[1], **other}, SOME[2], {**SOME[3], **other}]
        answers = await crowd(one, client, bodies)
        assert {answer.headers.get("x-sollol-embedding", "") for answer in answers} <= {"joined=2", ""}
        lone = [await alone(one, "ant", "/api/embed", body) for body in bodies]
        assert [answer.json()["embeddings"] for answer in answers] == [answer.json()["embeddings"] for answer in lone]


async def test_priorities_are_not_joined():
    """Who is more urgent does not wait for the texts of others."""
    async with fleet(node("ant"), join=True) as one, bees(one) as client:
        await warm(one, client)
        async with taken(one, client):
            sent = []
            for i, body in enumerate(SOME):
                headers = {"x-sollol-priority": "9" if i % 2 else "5"}
                sent.append(asyncio.ensure_future(client.post("/api/embed", json=body, headers=headers)))
            await one.until(lambda: one.gateway.dispatcher.waiting == len(SOME))
        answers = await asyncio.gather(*sent)
        assert [answer.headers["x-sollol-embedding"] for answer in answers] == [f"joined={3 - i % 2}" for i in range(5)]


async def test_each_counts_for_quotas_by_itself():
    """Requests and tokens are those that each would have used alone."""
    quotas = (Quota(1, Measure.REQUESTS, Window.DAY, 1e6), Quota(2, Measure.TOKENS, Window.DAY, 1e6))
    async with fleet(node("ant"), join=True, quotas=quotas) as one, bees(one) as client:
        await warm(one, client)
        before = used(one)
        answers = await crowd(one, client, SOME)
        tokens = sum(map(counted, answers))
        await one.until(lambda: used(one)[0] - before[0] >= len(SOME))
        # The one that held the slot was cancelled, and is charged for what ran.
        assert used(one)[0] - before[0] in {len(SOME), len(SOME) + 1}
        assert tokens <= used(one)[1] - before[1] <= tokens + 2


def used(one):
    told = one.gateway.desk.quotas.used(7, time.time())["quotas"]
    return [quota["used"] for quota in told]


# Split

TEXTS = [f"number {i}: " + "bees dance where the flowers are, and the others follow. " * 4 for i in range(40)]
LONG = {"model": NOMIC, "input": TEXTS}
#: A node as slow as that takes some second for all, alone.
PACE = {"prefill_rate": 2500.0}


@PATHS
async def test_a_long_list_is_spread_over_idle_nodes(path):
    """All vectors in order, counts summed, one request in the history; both have done much of it."""
    async with fleet(node("ant", **PACE), node("bee", **PACE), split=True) as one, bees(one) as client:
        await warm(one, client)
        answer = await client.post(path, json=LONG)
        lone = await alone(one, "ant", path, LONG)
        assert steady(answer.content) == steady(lone.content)
        parts = dict(part.split("=") for part in answer.headers["x-sollol-embedding"].split(", "))
        assert parts.keys() == {"ant", "bee"}
        assert sum(map(int, parts.values())) == len(TEXTS)
        assert one.last.prompt_tokens == counted(lone)
        assert min(map(int, parts.values())) >= len(TEXTS) // 5
        assert [record.attempts for record in served(one)[2:]] == [1]


async def test_a_slower_node_gets_less():
    """Sizes follow the learned speeds."""
    quick, lame = node("ant", prefill_rate=5000.0), node("bee", prefill_rate=1250.0)
    async with fleet(quick, lame, split=True) as one, bees(one) as client:
        await warm(one, client)
        for _ in range(2):
            answer = await client.post("/api/embed", json=LONG)
        parts = dict(part.split("=") for part in answer.headers["x-sollol-embedding"].split(", "))
        assert int(parts["ant"]) > 2 * int(parts["bee"])


async def test_small_requests_and_busy_nodes_are_left_alone():
    """A request that is soon done is not split, nor is one where nobody is idle."""
    async with fleet(node("ant", **PACE), split=True) as one, bees(one) as client:
        await warm(one, client)
        answers = [await client.post("/api/embed", json=body) for body in (SOME[0], LONG)]
        assert [answer.headers.get("x-sollol-embedding") for answer in answers] == [None, None]
        assert one.asked("ant", "/api/embed") == 3


@pytest.mark.parametrize("fault", [{"reset_after_chunks": 0}, {"error_after_chunks": 0}, {"busy": True}])
@pytest.mark.parametrize("failing", ["ant", "bee"])
async def test_a_part_that_fails_is_done_elsewhere(fault, failing):
    """Whichever node fails: the client gets every vector, in order."""
    async with fleet(node("ant", **PACE), node("bee", **PACE), split=True) as one, bees(one) as client:
        await warm(one, client)
        whole = (await alone(one, "ant", "/api/embed", LONG)).content
        one.nodes[failing].faults.set(**fault)
        answer = await client.post("/api/embed", json=LONG)
        assert answer.status_code == 200
        assert steady(answer.content) == steady(whole)


async def test_a_part_whose_node_hangs_is_done_elsewhere():
    """A part that is much too late is not waited for."""
    async with fleet(node("ant", **PACE), node("bee", **PACE), split=True) as one, bees(one) as client:
        await warm(one, client)
        asked = asyncio.ensure_future(client.post("/api/embed", json=LONG))
        await one.until(lambda: one.gateway.dispatcher.in_flight() == 2)
        [own] = [lease.node.spec.name for lease in one.gateway.inference.attempts]
        [other] = one.nodes.keys() - {own}
        one.nodes[other].faults.set(slowdown=1e6)
        answer = await asked
        assert answer.status_code == 200
        assert [len(vector) for vector in answer.json()["embeddings"]] == [768] * len(TEXTS)


async def test_an_input_that_is_refused_is_told_as_by_one_node():
    """The whole request is refused, in the node's words."""
    body = {**LONG, "input": [*TEXTS, "long " * 5000], "truncate": False}
    async with fleet(node("ant", **PACE), node("bee", **PACE), split=True) as one, bees(one) as client:
        await warm(one, client)
        answer, lone = await client.post("/api/embed", json=body), await alone(one, "ant", "/api/embed", body)
        assert (answer.status_code, answer.content) == (400, lone.content)


async def test_a_client_that_leaves_ends_all_parts():
    """On every node, at once."""
    async with fleet(node("ant", **PACE), node("bee", **PACE), split=True) as one, bees(one) as client:
        await warm(one, client)
        asked = asyncio.ensure_future(client.post("/api/embed", json=LONG))
        await one.until(lambda: one.gateway.dispatcher.in_flight() == 2)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await one.until(lambda: not one.gateway.dispatcher.in_flight(), 1.0)
        await one.until(lambda: not sum(node.record.running.total() for node in one.nodes.values()))


async def test_joining_and_splitting_leave_the_learner_right():
    """After both, the speeds that are known are still those of the nodes."""
    async with fleet(node("ant", **PACE), node("bee", **PACE), join=True, split=True) as one, bees(one) as client:
        await warm(one, client)
        for _ in range(4):
            assert (await client.post("/api/embed", json=LONG)).status_code == 200
        one.operate("bee", draining=True)
        await crowd(one, client, SOME)
        for speeds in one.gateway.dispatcher.learner.speeds.values():
            assert speeds.prompt.value == pytest.approx(1 / PACE["prefill_rate"], rel=0.5)


# From the cache


@pytest.mark.parametrize("path", ["/api/embed", "/v1/embeddings", "/api/embeddings"])
async def test_what_was_answered_is_answered_again_without_a_node(path):
    """The same bytes, the same counts, no slot; a request of the history without a node."""
    body = {"model": NOMIC, "prompt": "Bees dance."} if path == "/api/embeddings" else SOME[0]
    async with fleet(node("ant"), cache=True) as one, bees(one) as client:
        first = await client.post(path, json=body)
        asked = one.asked("ant", path)
        again = await client.post(path, json=body)
        assert one.asked("ant", path) == asked
        assert again.headers["x-sollol-embedding"] == "cached=1"
        assert without_durations(again) == without_durations(first)
        assert (one.last.outcome, one.last.node_id, one.last.attempts) == ("served", None, 0)


def without_durations(answer):
    return {name: value for name, value in answer.json().items() if name not in VOLATILE}


async def test_only_what_is_missing_is_asked_for():
    """Known vectors and new ones in the order of the texts; counts are summed."""
    async with fleet(node("ant"), cache=True) as one, bees(one) as client:
        for body in SOME[:2]:
            await client.post("/api/embed", json=body)
        body = {"model": NOMIC, "input": [SOME[i]["input"] for i in (2, 0, 3, 1, 2)]}
        answer = await client.post("/api/embed", json=body)
        assert answer.headers["x-sollol-embedding"] == "cached=2"
        assert without_durations(answer) == without_durations(await alone(one, "ant", "/api/embed", body))
        told = one.gateway.view().data["totals"]
        assert (told["embeddings_cached"], told["embeddings_not_cached"]) == (2, 5)


@pytest.mark.parametrize("other", [{"dimensions": 64}, {"model": "nomic-embed-text:v9"}, {"options": {"num_ctx": 512}}])
async def test_other_options_are_other_vectors(other):
    """Nothing is taken for what it is not."""
    async with fleet(node("ant"), cache=True) as one, bees(one) as client:
        await client.post("/api/embed", json=SOME[0])
        answer = await client.post("/api/embed", json={**SOME[0], **other})
        assert "x-sollol-embedding" not in answer.headers


async def test_a_request_to_unload_the_model_reaches_it():
    """An answer from the cache would leave the model loaded."""
    async with fleet(node("ant"), cache=True) as one, bees(one) as client:
        await client.post("/api/embed", json=SOME[0])
        await client.post("/api/embed", json={**SOME[0], "keep_alive": 0})
        assert one.asked("ant", "/api/embed") == 2


async def test_without_the_policy_nothing_is_kept():
    """The cache is off by default."""
    async with fleet(node("ant")) as one, bees(one) as client:
        for _ in range(2):
            await client.post("/api/embed", json=SOME[0])
        assert one.asked("ant", "/api/embed") == 2
        assert not one.gateway.embedding.cache.entries


async def test_the_cache_outlives_a_restart(tmp_path):
    """Vectors in its file are known to the next gateway."""
    settings = GatewaySettings(poll=0.2, vectors_memory=0, vectors_disk=1 << 20, vectors_file=tmp_path / "v.sqlite3")
    answers = []
    for _ in range(2):
        async with fleet(node("ant"), cache=True, settings=settings) as one, bees(one) as client:
            answers.append(await client.post("/api/embed", json=SOME[0]))
    assert answers[1].headers["x-sollol-embedding"] == "cached=1"
    assert answers[0].json()["embeddings"] == answers[1].json()["embeddings"]


async def test_joined_split_and_cached_together():
    """All three at once give what a lone node gives."""
    nodes = node("ant", **PACE), node("bee", **PACE)
    async with fleet(*nodes, join=True, split=True, cache=True) as one, bees(one) as client:
        await warm(one, client)
        await client.post("/api/embed", json={"model": NOMIC, "input": TEXTS[5:15]})
        answer = await client.post("/api/embed", json=LONG)
        assert "cached=10" in answer.headers["x-sollol-embedding"]
        assert without_durations(answer) == without_durations(await alone(one, "ant", "/api/embed", LONG))
        again = await client.post("/api/embed", json=LONG)
        assert again.headers["x-sollol-embedding"] == "cached=40"
        assert without_durations(again) == without_durations(answer)
