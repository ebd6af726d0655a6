"""A stream that breaks off goes on at another node, token for token, and its client notices nothing."""

import asyncio
import json
import sys

import httpx
import ollama
import openai
import pytest

from routing.core.resuming import OnBreak
from routing.core.snapshot import Measure, Quota, TeamPolicy, Window
from routing.gateway import relay
from routing.gateway.settings import GatewaySettings
from simulator.models import CATALOGUE
from tests.fakes.address import CHAT, MESSAGES, address, sim
from tests.gateway.test_access import bearer, keys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

RAW = {"model": CHAT, "prompt": "Once upon a time", "raw": True}
ASKED = {
    "/api/chat": {"model": CHAT, "messages": MESSAGES},
    "/v1/chat/completions": {
        "model": CHAT,
        "messages": MESSAGES,
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    "/api/generate": RAW,
}
BREAKS = {
    "reset": {"reset_after_chunks": 7},
    "cut": {"cut_after_chunks": 7},
    "runner died": {"error_after_chunks": 7, "error_kills_runner": True},
}


def objects(path: str, data: bytes) -> list[dict]:
    """The objects of a stream, which is whole."""
    if not path.startswith("/v1/"):
        return [json.loads(line) for line in data.splitlines()]
    *events, done, rest = data.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return [json.loads(event.removeprefix(b"data: ")) for event in events]


def text_of(one: dict) -> str:
    if "choices" in one:
        return "".join(choice["delta"].get("content", "") for choice in one["choices"])
    return one["message"]["content"] if "message" in one else one["response"]


def tokens(told: list[dict]) -> list[str]:
    return [text for one in told if (text := text_of(one))]


def usage(told: list[dict]) -> tuple[int, int]:
    last = told[-1]
    if "usage" in last:
        assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + last["usage"]["completion_tokens"]
        return last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]
    return last["prompt_eval_count"], last["eval_count"]


async def whole(one, path: str, **more) -> list[dict]:
    """What a node says to it when nothing breaks."""
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.post(one.nodes["bee"].base_url + path, json=ASKED[path] | more)
    return objects(path, answer.content)


async def through(one, path: str, **more) -> list[dict]:
    async with one.client() as client:
        answer = await client.post(path, json=ASKED[path] | more)
    assert answer.status_code == 200
    return objects(path, answer.content)


def first_on_ant(one) -> None:
    """Let ant answer first: it alone has been used."""
    one.operate("bee", weight=0.01)


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("fault", BREAKS)
async def test_the_client_sees_one_stream(path, fault):
    """Every token comes once and in its place, whatever broke the first attempt."""
    async with address(sim("ant"), sim("bee"), continuing=True) as one:
        first_on_ant(one)
        expected = await whole(one, path)
        one.nodes["ant"].faults.set(**BREAKS[fault])
        told = await through(one, path)
        assert tokens(told) == tokens(expected)
        assert len(told) == len(expected)
        assert (one.last.outcome, one.last.attempts, one.last.resumed) == ("served", 2, 1)
        assert one.gateway.dispatcher.nodes[1].failures == 1
        assert one.gateway.view().data["totals"]["resumed"] == 1


@pytest.mark.parametrize("path", ASKED)
async def test_a_node_that_is_killed_loses_no_stream(path):
    """All streams that run on a node that dies go on at another."""
    async with address(sim("ant", speed=1), sim("bee"), continuing=True) as one:
        expected = await whole(one, path)
        one.operate("bee", enabled=False)
        running = [asyncio.ensure_future(through(one, path)) for _ in range(4)]
        await one.until(lambda: one.gateway.dispatcher.in_flight() == 4)
        await one.until(lambda: min(j.seen.objects for j in one.gateway.inference.live.values()) > 3)
        one.operate("bee", enabled=True)
        one.nodes["ant"].kill()
        for told in await asyncio.gather(*running):
            assert tokens(told) == tokens(expected)
        assert {record.resumed for record in one.recorder.requests} == {1}


@pytest.mark.parametrize("path", ASKED)
async def test_counts_add_up(path):
    """Tokens are those of both parts, and the prompt's are not counted twice."""
    async with address(sim("ant"), sim("bee"), continuing=True) as one:
        first_on_ant(one)
        prompt, output = usage(await whole(one, path))
        one.nodes["ant"].faults.cut_after_chunks = 9
        told = usage(await through(one, path))
        assert told[1] == output
        # The simulator counts a token for each four bytes of a prompt, and the nine that were sent are words.
        assert abs(told[0] - prompt) <= 9
        assert (one.last.prompt_tokens, one.last.output_tokens) == told


async def test_durations_add_up():
    """The total is the time since the first attempt, the others are those of both."""
    async with address(sim("ant", speed=5), sim("bee"), continuing=True) as one:
        first_on_ant(one)
        one.nodes["ant"].faults.cut_after_chunks = 20
        *_, final = await through(one, "/api/chat")
        parts = [final[name] for name in ("load_duration", "prompt_eval_duration", "eval_duration")]
        assert min(parts) > 0
        assert final["total_duration"] >= parts[1] + parts[2]


async def test_the_final_object_tells_that_it_was_resumed():
    """The routing member, the request's own page, and the node that ended it."""
    async with address(sim("ant"), sim("bee"), continuing=True) as one, one.client() as client:
        first_on_ant(one)
        one.nodes["ant"].faults.cut_after_chunks = 3
        answer = await client.post("/api/chat", json=ASKED["/api/chat"])
        routing = json.loads(answer.content.splitlines()[-1])["_sollol_routing"]
        assert (routing["resumed"], routing["attempts"], routing["host"]) == (True, 2, "bee")
        told = (await client.get(f"/api/requests/{answer.headers['x-sollol-request-id']}")).json()
        assert (told["resumed"], told["attempts"], told["node"], told["outcome"]) == (1, 2, "bee", "served")


async def test_a_v1_stream_keeps_its_name():
    """One id, one time, one model, one fingerprint and one role from beginning to end."""
    async with address(sim("ant"), sim("bee"), continuing=True) as one:
        first_on_ant(one)
        one.nodes["bee"]._ids = 500
        one.nodes["ant"].faults.cut_after_chunks = 5
        told = await through(one, "/v1/chat/completions")
        assert one.last.resumed == 1
        names = ("id", "object", "created", "model", "system_fingerprint")
        assert len({tuple(event[name] for name in names) for event in told}) == 1
        assert [("role" in choice["delta"]) for event in told for choice in event["choices"]].count(True) == 1
        assert [choice["finish_reason"] for event in told for choice in event["choices"]][-1] == "stop"


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("breaks", [5, 12, 15])
async def test_the_clients_limit_holds_over_all_attempts(path, breaks):
    """What was sent counts; where it was all, the stream ends properly though its node has broken off."""
    limit = {"max_tokens": 15} if path.startswith("/v1/") else {"options": {"num_predict": 15}}
    async with address(sim("ant"), sim("bee"), continuing=True) as one:
        first_on_ant(one)
        expected = await whole(one, path, **limit)
        one.nodes["ant"].faults.cut_after_chunks = breaks
        told = await through(one, path, **limit)
        assert tokens(told) == tokens(expected)
        assert len(tokens(told)) == 15
        assert usage(told)[1] == 15
        assert (one.last.outcome, one.last.resumed, one.last.error) == ("served", int(breaks < 15), "")
        if path.startswith("/v1/"):
            assert told[-2]["choices"][0]["finish_reason"] == "length"
        else:
            assert (told[-1]["done"], told[-1]["done_reason"]) == (True, "length")
            assert told[-1]["_sollol_routing"]["host"] == ("bee" if breaks < 15 else "ant")


async def test_a_v1_stream_that_broke_behind_its_last_word_is_ended():
    """The finish had been told: usage and the end are all that is missing."""
    async with address(sim("ant"), sim("bee"), continuing=True) as one:
        first_on_ant(one)
        expected = await whole(one, "/v1/chat/completions")
        one.nodes["ant"].faults.cut_after_chunks = len(expected) - 1
        told = await through(one, "/v1/chat/completions")
        assert tokens(told) == tokens(expected)
        assert usage(told)[1] == usage(expected)[1]
        assert (one.asked("bee", "/v1/chat/completions"), one.last.outcome, one.last.resumed) == (1, "served", 0)


async def test_a_stream_that_broke_behind_its_end_is_whole():
    """Nothing was lost, and nothing is repaired."""
    async with address(sim("ant"), sim("bee"), continuing=True) as one:
        first_on_ant(one)
        expected = await whole(one, "/api/chat")
        one.nodes["ant"].faults.cut_after_chunks = len(expected)
        told = await through(one, "/api/chat")
        assert (len(told), told[-1]["done"], one.last.attempts) == (len(expected), True, 1)


async def test_a_stream_may_break_twice():
    """Three nodes give a part each; a fourth attempt is not made."""
    async with address(sim("ant"), sim("bee"), sim("cat"), continuing=True) as one:
        expected = await whole(one, "/api/chat")
        one.nodes["ant"].faults.cut_after_chunks = 4
        one.nodes["bee"].faults.cut_after_chunks = 6
        one.operate("cat", weight=0.01)
        told = await through(one, "/api/chat")
        assert tokens(told) == tokens(expected)
        assert (one.last.attempts, one.last.resumed) == (3, 2)
        assert usage(told)[1] == usage(expected)[1]


@pytest.mark.parametrize("path", ASKED)
async def test_where_every_node_breaks_the_client_is_told(path):
    """After the attempts that are allowed the stream ends as one that can't be continued."""
    async with address(sim("ant"), sim("bee"), sim("cat"), continuing=True) as one, one.client() as client:
        for node in one.nodes.values():
            node.faults.cut_after_chunks = 3
        if path.startswith("/v1/"):
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post(path, json=ASKED[path])
        else:
            lines = (await client.post(path, json=ASKED[path])).content.splitlines()
            assert "error" in json.loads(lines[-1])
            assert len(lines) == 10
        assert (one.last.outcome, one.last.attempts) == ("failed", 3)


@pytest.mark.parametrize("fault", [{"busy": True}, {"fail_load": "exit status 2"}, {"refuse": True}])
@pytest.mark.parametrize("path", ASKED)
async def test_where_nobody_can_go_on_the_client_is_told(path, fault):
    """A refusal of the second node is no part of a stream."""
    async with address(sim("ant"), sim("bee"), continuing=True) as one, one.client() as client:
        first_on_ant(one)
        one.nodes["ant"].faults.set(cut_after_chunks=3)
        one.nodes["bee"].faults.set(**fault)
        if path.startswith("/v1/"):
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post(path, json=ASKED[path])
        else:
            answer = await client.post(path, json=ASKED[path])
            assert [("error" in json.loads(line)) for line in answer.content.splitlines()][-1]
        assert one.last.outcome == "failed"


async def test_a_lone_node_goes_on_itself():
    """Where there is no other, the node that broke off is asked again."""
    async with address(sim("bee"), continuing=True) as one:
        expected = await whole(one, "/api/chat")
        one.nodes["bee"].faults.set(reset_after_chunks=5, times=1)
        assert tokens(await through(one, "/api/chat")) == tokens(expected)
        assert one.last.resumed == 1


@pytest.mark.parametrize("path", ASKED)
async def test_a_hung_node_is_left(path):
    """A stream that stands still on a node that does not answer goes on elsewhere."""
    async with address(sim("ant", speed=5), sim("bee"), continuing=True) as one:
        expected = await whole(one, path)
        one.operate("bee", enabled=False)
        one.nodes["ant"].faults.stall_after_chunks = 6
        running = asyncio.ensure_future(through(one, path))
        await one.until(lambda: any(j.seen.objects == 6 for j in one.gateway.inference.live.values()))
        one.operate("bee", enabled=True)
        for _ in range(4):
            one.gateway.looks._tell(one.gateway.dispatcher.nodes[1], "silence")
        assert tokens(await running) == tokens(expected)
        one.nodes["ant"].faults.clear()


async def test_a_stream_that_breaks_within_its_first_object_begins_anew():
    """Nothing of it was sent: the whole answer comes from another node, whatever the model does with prefill."""
    async with address(sim("ant"), sim("bee")) as one:
        first_on_ant(one)
        expected = await whole(one, "/v1/chat/completions")
        one.nodes["ant"].faults.cut_after_chunks = 0
        assert tokens(await through(one, "/v1/chat/completions")) == tokens(expected)
        assert (one.last.outcome, one.last.resumed) == ("served", 0)


#: Requests whose streams must not be continued: what they are asked, and with which model.
NOT_CONTINUED = {
    "structured": ("/api/chat", {"format": "json"}),
    "schema": ("/v1/chat/completions", {"response_format": {"type": "json_object"}}),
    "log probabilities": ("/api/chat", {"logprobs": True}),
    "several": ("/v1/chat/completions", {"n": 2}),
    "template": ("/api/generate", {"raw": False}),
    "thinking": ("/api/chat", {"model": "qwen3:8b"}),
    "thinking on v1": ("/v1/chat/completions", {"model": "qwen3:8b"}),
    "image": ("/api/chat", {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}], "model": "gemma3:4b"}),
    "responses": ("/v1/responses", {"model": CHAT, "input": "Hi", "stream": True}),
    "messages": ("/v1/messages", {"model": CHAT, "messages": MESSAGES, "stream": True, "max_tokens": 90}),
}


@pytest.mark.parametrize("case", NOT_CONTINUED)
async def test_what_cannot_be_continued_ends_in_the_apis_own_error(case):
    """Never as a clean end, and never by asking another node."""
    path, more = NOT_CONTINUED[case]
    models = [CHAT, "qwen3:8b", "gemma3:4b"]
    async with address(sim("ant", models=models), continuing=True) as one, one.client() as client:
        one.nodes["ant"].faults.set(cut_after_chunks=2, times=1)
        asked = client.post(path, json=ASKED.get(path, {}) | more)
        if path.startswith("/v1/"):
            with pytest.raises(httpx.RemoteProtocolError):
                await asked
        else:
            assert "error" in json.loads((await asked).content.splitlines()[-1])
        assert (one.last.outcome, one.last.attempts, one.last.resumed) == ("failed", 1, 0)


async def test_content_of_a_thinking_model_goes_on_without_thoughts():
    """With thinking off there is nothing to think about in the part that is left."""
    async with address(sim("ant", models=["qwen3:8b"]), sim("bee", models=["qwen3:8b"]), continuing=True) as one:
        first_on_ant(one)
        for path, off in (("/api/chat", {"think": False}), ("/v1/chat/completions", {"reasoning_effort": "none"})):
            expected = await whole(one, path, model="qwen3:8b", **off)
            one.nodes["ant"].faults.set(cut_after_chunks=6, times=1)
            told = await through(one, path, model="qwen3:8b", **off)
            assert (tokens(told), one.last.resumed) == (tokens(expected), 1)


async def test_a_compressed_request_goes_on():
    """The next node gets the longer conversation as plain JSON."""
    async with address(sim("ant"), sim("bee"), continuing=True) as one, one.client() as client:
        first_on_ant(one)
        path = "/v1/chat/completions"
        expected = await whole(one, path)
        one.nodes["ant"].faults.cut_after_chunks = 6
        body = zstd.compress(json.dumps(ASKED[path]).encode())
        headers = {"content-encoding": "zstd", "content-type": "application/json"}
        answer = await client.post(path, content=body, headers=headers)
        assert (tokens(objects(path, answer.content)), one.last.resumed) == (tokens(expected), 1)


async def test_tools_that_are_not_called_change_nothing():
    """A text goes on beside tools; a call that was sent ends in an error."""
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    async with address(sim("ant"), sim("bee"), continuing=True) as one:
        first_on_ant(one)
        one.nodes["ant"].faults.cut_after_chunks = 6
        expected = await whole(one, "/api/chat", tools=[tool])
        assert tokens(await through(one, "/api/chat", tools=[tool])) == tokens(expected)
        one.nodes["ant"].faults.cut_after_chunks = 1
        calling = {"tools": [tool], "messages": [{"role": "user", "content": "Ask weather"}]}
        told = await one_post(one, "/api/chat", **calling)
        assert ("tool_calls" in told[0]["message"], "error" in told[-1]) == (True, True)
        assert "tool_calls had been sent" in one.last.error


async def test_an_unknown_models_stream_is_not_continued():
    """Before a probe has shown that prefill works it is not relied on; a raw prompt needs no probe."""
    async with address(sim("ant"), sim("bee")) as one:
        first_on_ant(one)
        one.nodes["ant"].faults.set(cut_after_chunks=6)
        assert "error" in (await one_post(one, "/api/chat"))[-1]
        expected = await whole(one, "/api/generate")
        assert tokens(await through(one, "/api/generate")) == tokens(expected)


async def one_post(one, path: str, headers=None, **more) -> list[dict]:
    async with one.client(headers=headers) as client:
        return [json.loads(line) for line in (await client.post(path, json=ASKED[path] | more)).content.splitlines()]


@pytest.mark.parametrize(
    ("policy", "header", "ends"),
    [
        (OnBreak.CONTINUE, None, "done"),
        (OnBreak.CONTINUE, "error", "error"),
        (OnBreak.ERROR, None, "error"),
        (OnBreak.ERROR, "continue", "done"),
    ],
)
async def test_the_policy_is_the_teams_and_the_requests(policy, header, ends):
    """Whoever wants an error gets one; the header counts before the team's policy."""
    teams = {7: TeamPolicy(7, "Bees", on_break=policy)}
    headers = bearer() | ({} if header is None else {"X-Sollol-On-Break": header})
    async with address(sim("ant"), sim("bee"), teams=teams, keys=keys(), continuing=True) as one:
        first_on_ant(one)
        one.nodes["ant"].faults.cut_after_chunks = 3
        assert ends in (await one_post(one, "/api/chat", headers))[-1]


async def test_a_policy_that_is_none_is_refused():
    """The answer names those that there are."""
    async with address(sim("ant")) as one, one.client(headers={"X-Sollol-On-Break": "perhaps"}) as client:
        answer = await client.post("/api/chat", json=ASKED["/api/chat"])
        told = {"error": "X-Sollol-On-Break must be continue or error"}
        assert (answer.status_code, answer.json()) == (400, told)


async def test_a_lost_attempt_is_not_billed():
    """The team is charged the tokens of one prompt and one answer, and the time of the attempt that ended it."""
    quotas = (Quota(1, Measure.TOKENS, Window.DAY, 1e6), Quota(2, Measure.GPU_SECONDS, Window.DAY, 1e6))
    teams = {7: TeamPolicy(7, "Bees", quotas=quotas)}
    async with address(sim("ant", speed=5), sim("bee"), teams=teams, keys=keys(), continuing=True) as one:
        first_on_ant(one)
        one.nodes["ant"].faults.cut_after_chunks = 20
        final = (await one_post(one, "/api/chat", bearer()))[-1]
        (day,) = one.gateway.taken_usage().days
        told = (final["prompt_eval_count"], final["eval_count"])
        assert (day.use.requests, day.use.tokens_in, day.use.tokens_out) == (1, *told)
        assert 0 < day.use.gpu_seconds < one.last.total_ms / 1000 - 20 * 0.002


async def test_a_stream_that_is_too_long_to_be_kept_is_not_continued(monkeypatch):
    """What is kept of a stream is bounded; beyond that it ends in an error like any other."""
    monkeypatch.setattr(relay, "LARGEST_KEPT", 500)
    async with address(sim("ant"), sim("bee"), continuing=True) as one:
        first_on_ant(one)
        one.nodes["ant"].faults.cut_after_chunks = 12
        assert "error" in (await one_post(one, "/api/chat"))[-1]
        assert one.last.resumed == 0


async def test_other_weights_do_not_go_on():
    """A node that has another model under the name is no place to go on; the client is told."""
    other = CATALOGUE[CHAT].with_revision("other")
    async with address(sim("ant"), sim("bee", models=[other]), continuing=True) as one:
        one.operate("bee", enabled=False)
        one.nodes["ant"].faults.set(stall_after_chunks=3)
        running = asyncio.ensure_future(one_post(one, "/api/chat"))
        await one.until(lambda: any(j.seen.objects == 3 for j in one.gateway.inference.live.values()))
        one.operate("bee", enabled=True)
        one.nodes["ant"].kill()
        assert "error" in (await running)[-1]
        assert one.asked("bee") == 0


async def test_a_conversation_that_ends_with_the_assistant_is_made_longer():
    """What the client has begun itself and what was sent are one message."""
    begun = [*MESSAGES, {"role": "assistant", "content": "The sky"}]
    async with address(sim("ant"), sim("bee"), continuing=True) as one:
        first_on_ant(one)
        expected = await whole(one, "/api/chat", messages=begun)
        one.nodes["ant"].faults.cut_after_chunks = 5
        assert tokens(await through(one, "/api/chat", messages=begun)) == tokens(expected)
        assert one.last.resumed == 1


async def test_who_leaves_during_the_switch_leaves_nothing_behind():
    """The wait for another node ends with the client, and no slot stays taken."""
    async with address(sim("ant"), sim("bee", parallel=1, speed=1), continuing=True) as one, one.client() as client:
        one.operate("ant", enabled=False)
        one.nodes["bee"].faults.slow_first_byte = 100_000.0
        blocking = asyncio.ensure_future(client.post("/api/chat", json=ASKED["/api/chat"]))
        await one.until(lambda: one.asked("bee") == 1)
        one.operate("ant", enabled=True)
        one.nodes["ant"].faults.cut_after_chunks = 3
        leaving = asyncio.ensure_future(client.post("/api/chat", json=ASKED["/api/chat"]))
        await one.until(lambda: one.gateway.dispatcher.waiting == 1 and one.gateway.dispatcher.nodes[1].failures == 1)
        leaving.cancel()
        await one.until(lambda: bool(one.recorder.requests))
        assert (one.last.outcome, one.gateway.dispatcher.waiting) == ("cancelled", 0)
        blocking.cancel()


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_signs_of_life_during_the_switch_break_nothing(path):
    """While another node is waited for, comments or empty objects come between whole objects."""
    settings = GatewaySettings(poll=0.2, keepalive=0.02, native_keepalive=0.02)
    async with address(sim("ant"), sim("bee"), settings=settings, continuing=True) as one, one.client() as client:
        first_on_ant(one)
        expected = await whole(one, path)
        one.nodes["ant"].faults.cut_after_chunks = 5
        one.nodes["bee"].faults.slow_first_byte = 10.0
        data = (await client.post(path, json=ASKED[path])).content
        if path.startswith("/v1/"):
            assert b": waiting\n\n" in data
            data = data.replace(b": waiting\n\n", b"")
        told = objects(path, data)
        assert tokens(told) == tokens(expected)
        assert path.startswith("/v1/") or len(told) > len(expected)


async def test_the_sdks_notice_nothing():
    """OpenAI's and Ollama's own clients get the whole text."""
    async with address(sim("ant"), sim("bee"), continuing=True) as one:
        first_on_ant(one)
        expected = "".join(tokens(await whole(one, "/v1/chat/completions")))
        one.nodes["ant"].faults.reset_after_chunks = 5
        async with openai.AsyncOpenAI(base_url=f"{one.url}/v1", api_key="any", max_retries=0) as sdk:
            events = await sdk.chat.completions.create(model=CHAT, messages=MESSAGES, stream=True)
            said = [event.choices[0].delta.content or "" async for event in events if event.choices]
        assert "".join(said) == expected
        stream = await ollama.AsyncClient(host=one.url).chat(model=CHAT, messages=MESSAGES, stream=True)
        parts = [part async for part in stream]
        assert "".join(part.message.content for part in parts) == "".join(tokens(await whole(one, "/api/chat")))
        assert (parts[-1].done, one.last.resumed) == (True, 1)
