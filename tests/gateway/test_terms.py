"""On what terms requests come in: quotas, demotion, deadlines, strategies, rules; and what a caller may look into."""

import asyncio
import hashlib
from dataclasses import replace

import pytest

from routing.core.dispatcher import Dispatcher, Limits
from routing.core.requests import Complexity, Profile, Route, Task
from routing.core.snapshot import (
    Breach,
    FleetSnapshot,
    Key,
    Measure,
    Quota,
    RoutingRule,
    StrategySpec,
    TeamPolicy,
    Window,
)
from routing.gateway.access import Caller
from routing.gateway.settings import GatewaySettings
from routing.gateway.terms import Desk
from tests.fakes.address import CHAT, MESSAGES, address, sim

BODY = {"model": CHAT, "messages": MESSAGES, "stream": False, "options": {"num_predict": 5}}
TOKEN = "sollol_bees0001_secret"


def key(token: str, team: int, *scopes: str) -> Key:
    digest = hashlib.sha256(token.encode()).hexdigest()
    return Key(digest, token[7:15], team, frozenset(scopes or ("inference",)))


def bees(*quotas: Quota, **more) -> dict:
    """Team Bees with these quotas, and its key."""
    policy = TeamPolicy(7, "Bees", quotas=quotas, **more)
    one = key(TOKEN, 7)
    return {"teams": {7: policy}, "keys": {one.digest: one}}


def quota(measure=Measure.REQUESTS, window=Window.DAY, amount=1.0, breach=Breach.REFUSE, **more) -> Quota:
    return Quota(1, measure, window, amount, breach, **more)


HEADERS = {"authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/api/chat", lambda body: body["error"]),
        ("/v1/chat/completions", lambda body: body["error"]["message"]),
        ("/v1/messages", lambda body: (body["error"]["type"] == "rate_limit_error") and body["error"]["message"]),
    ],
)
async def test_a_hard_quota_refuses_in_each_apis_envelope(path, told):
    """The second request of a day that has room for one is 429, says until when, and no node sees it."""
    async with address(sim("ant"), **bees(quota())) as one, one.client(headers=HEADERS) as client:
        body = BODY | {"max_tokens": 5}
        first, second = await client.post(path, json=body), await client.post(path, json=body)
        assert (first.status_code, second.status_code) == (200, 429)
        assert 0 < int(second.headers["retry-after"]) <= 86_400
        assert "requests per day" in told(second.json())
        assert one.asked("ant", path) == 1


async def test_a_soft_quota_demotes_and_says_so():
    """Beyond a soft quota a request is served at the team's batch priority, with the reason in a header."""
    one_a_day = bees(quota(breach=Breach.DEMOTE), batch_priority=2)
    async with address(sim("ant"), **one_a_day) as one, one.client(headers=HEADERS) as client:
        first, second = await client.post("/api/chat", json=BODY), await client.post("/api/chat", json=BODY)
        assert "x-sollol-demoted" not in first.headers
        assert (second.status_code, second.headers["x-sollol-demoted"]) == (200, "requests per day")
        assert [record.priority for record in one.recorder.requests] == [5, 2]


async def test_a_priority_budget_demotes_to_the_default():
    """Of urgent requests there are so many a day; the next one runs at the team's default priority."""
    budget = quota(breach=Breach.DEMOTE, from_priority=8)
    async with address(sim("ant"), **bees(budget)) as one, one.client(headers=HEADERS) as client:
        for _ in range(2):
            answer = await client.post("/api/chat", json=BODY | {"priority": 9})
        assert answer.headers["x-sollol-demoted"]
        assert [record.priority for record in one.recorder.requests] == [9, 5]


async def test_a_priority_above_the_highest_is_demoted_in_a_header():
    """Who asks for more than the team may gets the team's default, and is told."""
    async with address(sim("ant"), **bees(highest_priority=6)) as one, one.client(headers=HEADERS) as client:
        answer = await client.post("/api/chat", json=BODY | {"priority": 9})
        assert answer.headers["x-sollol-demoted"] == "highest priority"
        assert one.last.priority == 5


async def test_what_was_used_is_charged_exactly_and_a_failed_attempt_is_not():
    """Tokens as the node counted them; a request that no node could answer costs nothing."""
    async with address(sim("ant"), **bees()) as one, one.client(headers=HEADERS) as client:
        await client.post("/api/chat", json=BODY)
        served = one.last
        one.nodes["ant"].faults.busy = True
        assert (await client.post("/api/chat", json=BODY)).status_code >= 500
        used = (await client.get("/api/usage")).json()
        assert used["today"]["requests"] == 1
        assert used["today"]["tokens_in"] == served.prompt_tokens
        assert used["today"]["tokens_out"] == served.output_tokens == 5
        taken = one.gateway.taken_usage()
        assert [(row.team_id, row.use.tokens_out) for row in taken.days] == [(7, 5)]


async def test_who_leaves_while_waiting_costs_nothing():
    """A client that gives up in the queue has used nothing, and its reservation is given back."""
    async with address(sim("ant", parallel=1, speed=1.0), **bees()) as one, one.client(headers=HEADERS) as client:
        first = asyncio.ensure_future(client.post("/api/chat", json=BODY))
        await one.until(lambda: one.gateway.dispatcher.in_flight() == 1)
        second = asyncio.ensure_future(client.post("/api/chat", json=BODY))
        await one.until(lambda: one.gateway.dispatcher.waiting == 1)
        second.cancel()
        await one.until(lambda: one.gateway.dispatcher.waiting == 0)
        await first
        assert (await client.get("/api/usage")).json()["today"]["requests"] == 1


async def test_a_team_runs_no_more_than_it_may():
    """With a hard bound on concurrency the second request waits for the first, though slots are free."""
    async with (
        address(sim("ant", parallel=4, speed=1.0), **bees(max_concurrent=1)) as one,
        one.client(headers=HEADERS) as client,
    ):
        pair = [asyncio.ensure_future(client.post("/api/chat", json=BODY)) for _ in range(2)]
        await one.until(lambda: one.gateway.dispatcher.waiting == 1)
        assert one.gateway.dispatcher.in_flight() == 1
        assert [answer.status_code for answer in await asyncio.gather(*pair)] == [200, 200]


async def test_a_soft_bound_on_concurrency_demotes():
    """What runs beside as much as the team may runs as batch work."""
    soft = bees(max_concurrent=1, concurrent_breach=Breach.DEMOTE)
    async with address(sim("ant", parallel=4, speed=1.0), **soft) as one, one.client(headers=HEADERS) as client:
        first = asyncio.ensure_future(client.post("/api/chat", json=BODY))
        await one.until(lambda: one.gateway.dispatcher.in_flight() == 1)
        second = await client.post("/api/chat", json=BODY)
        assert second.headers["x-sollol-demoted"] == "concurrent requests"
        await first


async def test_a_deadline_that_cannot_be_kept_is_refused_at_once():
    """A cold model takes seconds to load; who needs an answer in a tenth of one hears no immediately."""
    async with address(sim("ant", speed=1.0)) as one, one.client() as client:
        late = await client.post("/api/chat", json=BODY, headers={"x-sollol-deadline": "0.1"})
        assert (late.status_code, "deadline" in late.json()["error"]) == (503, True)
        assert int(late.headers["retry-after"]) >= 1
        assert one.asked("ant") == 0
        kept = await client.post("/api/chat", json=BODY, headers={"x-sollol-deadline": "600"})
        assert kept.status_code == 200


@pytest.mark.parametrize("value", ["", "soon", "-1", "0", "nan", "inf", "1e9"])
async def test_a_deadline_that_is_none_is_refused(value):
    """A malformed deadline is the client's fault, and told."""
    async with address(sim("ant")) as one, one.client() as client:
        answer = await client.post("/api/chat", json=BODY, headers={"x-sollol-deadline": value})
        assert (answer.status_code, "X-Sollol-Deadline" in answer.json()["error"]) == (400, True)


async def test_a_part_of_a_batch_job_says_so():
    """It runs at batch priority, and leaves slots free for others that come."""
    settings = GatewaySettings(limits=Limits(spared=0.75))
    bulk = {"x-sollol-bulk": "true", "x-sollol-priority": "5"}
    async with address(sim("ant", parallel=4, speed=1.0), settings=settings) as one, one.client() as client:
        chat = asyncio.ensure_future(client.post("/api/chat", json=BODY))
        await one.until(lambda: one.gateway.dispatcher.in_flight() == 1)
        parts = [asyncio.ensure_future(client.post("/api/chat", json=BODY, headers=bulk)) for _ in range(2)]
        await one.until(lambda: one.gateway.dispatcher.waiting == 1)
        assert one.gateway.dispatcher.bulk.total() == 1
        for answer in await asyncio.gather(chat, *parts):
            assert answer.status_code == 200
        assert sorted(record.priority for record in one.recorder.requests) == [1, 1, 5]
        answer = await client.post("/api/chat", json=BODY, headers={"x-sollol-bulk": "perhaps"})
        assert (answer.status_code, "X-Sollol-Bulk" in answer.json()["error"]) == (400, True)


async def test_a_strategy_can_be_named_in_a_header():
    """round_robin takes turns where fastest would stay with the warm node; an unknown name is told."""
    async with (
        address(sim("ant"), sim("bee")) as one,
        one.client(headers={"x-sollol-strategy": "round_robin"}) as client,
    ):
        for _ in range(4):
            await client.post("/api/chat", json=BODY)
        assert (one.asked("ant"), one.asked("bee")) == (2, 2)
        assert one.last.decision.strategy == "round_robin"
        odd = await client.post("/api/chat", json=BODY, headers={"x-sollol-strategy": "best"})
        assert (odd.status_code, "priority_nodes" in odd.json()["error"]) == (400, True)


def with_rules(one, *rules: RoutingRule, **more) -> None:
    """Put rules in force, as a new snapshot would."""
    one.snapshot = replace(one.snapshot, revision=one.snapshot.revision + 1, rules=rules, **more)
    one.gateway.apply(one.snapshot)


async def test_labels_are_a_hard_restriction():
    """A model that a rule binds to a label runs only there, and is an error where no such node has it."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        one.operate("bee", labels={"rack": "b1"})
        with_rules(one, RoutingRule(model="registry.ollama.ai/library/llama3.2:3b", labels={"rack": "b1"}))
        for _ in range(3):
            await client.post("/api/chat", json=BODY)
        assert (one.asked("ant"), one.asked("bee")) == (0, 3)
        one.operate("bee", labels={})
        with_rules(one, RoutingRule(labels={"rack": "b1"}))
        answer = await client.post("/api/chat", json=BODY)
        assert (answer.status_code, "rack=b1" in answer.json()["error"]) == (503, True)
        assert one.asked("ant") == 0


async def test_preferred_nodes_come_first_and_others_stand_in():
    """priority_nodes uses its list in order, and a node that is not on it when those are busy."""
    async with (
        address(sim("ant", parallel=1, speed=2.0), sim("bee", parallel=1, speed=2.0)) as one,
        one.client() as client,
    ):
        strategy = StrategySpec("bees-first", "priority_nodes", preferred=("bee",))
        with_rules(one, RoutingRule(strategy="bees-first"), strategies={"bees-first": strategy})
        answers = await asyncio.gather(*(client.post("/api/chat", json=BODY) for _ in range(2)))
        assert {answer.headers["x-sollol-node"] for answer in answers} == {"ant", "bee"}
        assert (await client.post("/api/chat", json=BODY)).headers["x-sollol-node"] == "bee"


async def test_a_rule_pins_the_context_size():
    """Whatever clients ask for, the node gets one num_ctx, so that nobody makes it load the model anew."""
    async with address(sim("ant")) as one, one.client() as client:
        with_rules(one, RoutingRule(model="registry.ollama.ai/library/llama3.2:3b", num_ctx=8192))
        for asked in (2048, 4096, None):
            await client.post(
                "/api/chat", json=BODY | {"options": {"num_predict": 3} | ({"num_ctx": asked} if asked else {})}
            )
        assert len(one.nodes["ant"].record.loads) == 1
        assert [record.decision.reason for record in one.recorder.requests] == ["loads-model", "warm", "warm"]


async def test_the_queue_tells_places_and_predictions():
    """Who waits is told in order, with a place and when it will start and end; a team sees only its own."""
    async with address(sim("ant", parallel=1, speed=1.0), **bees()) as one, one.client() as client:
        running = asyncio.ensure_future(client.post("/api/chat", json=BODY))
        await one.until(lambda: one.gateway.dispatcher.in_flight() == 1)
        waiting = [
            asyncio.ensure_future(client.post("/api/chat", json=BODY, headers={"x-request-id": f"r{i}"}))
            for i in range(3)
        ]
        await one.until(lambda: one.gateway.dispatcher.waiting == 3)
        told = (await client.get("/api/queue")).json()
        assert (told["depth"], told["by_priority"]) == (3, {"5": 3})
        assert [row["id"] for row in told["requests"]] == ["r0", "r1", "r2"]
        assert [row["position"] for row in told["requests"]] == [1, 2, 3]
        starts = [row["predicted_start_s"] for row in told["requests"]]
        assert starts == sorted(starts)
        assert all(row["predicted_finish_s"] >= row["predicted_start_s"] for row in told["requests"])
        others = (await client.get("/api/queue", headers=HEADERS)).json()
        assert (others["depth"], others["requests"]) == (3, [])
        await asyncio.gather(running, *waiting)


async def test_explain_tells_what_would_happen_and_changes_nothing():
    """Every node has its cost term by term or the filter that rejects it; nothing is sent, queued or charged."""
    async with (
        address(sim("ant"), sim("bee", models=("nomic-embed-text:latest",)), **bees(quota())) as one,
        one.client(headers=HEADERS) as client,
    ):
        for _ in range(3):
            told = (await client.post("/api/explain", json=BODY)).json()
        assert told["would"] == "start at once on ant"
        assert told["rejected_nodes"] == {"bee": "has_model"}
        assert told["decision"]["best"][0]["terms"]["run"] > 0
        assert (told["refused"], told["profile"]["task"]) == ("", "chat")
        assert (one.asked("ant"), one.gateway.dispatcher.waiting) == (0, 0)
        assert (await client.post("/api/chat", json=BODY)).status_code == 200
        assert "requests per day" in (await client.post("/api/explain", json=BODY)).json()["refused"]


async def test_explain_agrees_with_what_then_happens():
    """The node and the cost that are explained are those of the request that follows."""
    async with address(sim("ant"), sim("bee", profile="cpu-32")) as one, one.client() as client:
        told = (await client.post("/api/explain", json=BODY)).json()["decision"]["best"][0]
        await client.post("/api/chat", json=BODY)
        made = one.last.decision
        assert (made.node, round(made.score, 2)) == (told["node"], round(told["cost_s"], 2))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"model": 3}', b'{"model": "m", "route": "/api/pull"}'])
async def test_explain_says_what_is_wrong_with_a_body(body):
    """A body that is no request gets a clear error."""
    async with address(sim("ant")) as one, one.client() as client:
        answer = await client.post("/api/explain", content=body)
        assert (answer.status_code, bool(answer.json()["error"])) == (400, True)


async def test_a_team_may_not_fill_the_queue_for_all():
    """Where the queue fills up, a team that holds its share of it is refused with a wait; others still come in."""
    limits = GatewaySettings(limits=Limits(queue=8))
    async with (
        address(sim("ant", parallel=1, speed=0.5), settings=limits, **bees()) as one,
        one.client() as client,
        one.client(headers=HEADERS) as flood,
    ):
        held = [asyncio.ensure_future(flood.post("/api/chat", json=BODY))]
        await one.until(lambda: one.gateway.dispatcher.in_flight() == 1)
        held.append(asyncio.ensure_future(client.post("/api/chat", json=BODY)))
        await one.until(lambda: one.gateway.dispatcher.waiting == 1)
        held += [asyncio.ensure_future(flood.post("/api/chat", json=BODY)) for _ in range(4)]
        await one.until(lambda: one.gateway.dispatcher.waiting == 5)
        refused = await flood.post("/api/chat", json=BODY)
        assert (refused.status_code, "share of the queue" in refused.json()["error"]) == (429, True)
        assert int(refused.headers["retry-after"]) >= 1
        held.append(asyncio.ensure_future(client.post("/api/chat", json=BODY)))
        await one.until(lambda: one.gateway.dispatcher.waiting == 6)
        for one_held in held:
            one_held.cancel()
        await asyncio.gather(*held, return_exceptions=True)


def test_a_later_snapshot_keeps_what_was_used():
    """Raising a quota's amount does not forget what was used of it."""
    desk = Desk(Dispatcher(), wall=lambda: 1_000_000.0)
    desk.apply(FleetSnapshot(1, teams={7: TeamPolicy(7, "Bees", quotas=(quota(amount=2),))}))
    profile = Profile(Route.CHAT, CHAT, CHAT, False, Task.CHAT, Complexity.SIMPLE, False, 10, team_id=7)
    caller = Caller(TeamPolicy(7, "Bees"), anonymous=False)
    desk.admit(profile, desk.prepare(profile, {}, caller, 0.0), caller, 0.0)
    desk.apply(FleetSnapshot(2, teams={7: TeamPolicy(7, "Bees", quotas=(quota(amount=5),))}))
    [told] = desk.quotas.used(7, 1_000_000.0)["quotas"]
    assert (told["amount"], told["used"] + told["reserved"]) == (5, 1)
