"""Before the first byte a failing node is replaced; after it the failure is told in the API's own form."""

import asyncio
import json

import httpx
import openai
import pytest

from routing.core.dispatcher import Limits
from routing.gateway.settings import GatewaySettings
from tests.fakes.address import CHAT, MESSAGES, address, sim

BODY = {"model": CHAT, "messages": MESSAGES, "stream": False}
STREAM = {"model": CHAT, "messages": MESSAGES}

#: Every way in which a node can fail before its first byte.
FAULTS = {
    "refuse": {"refuse": True},
    "reset": {"reset_after_chunks": 0},
    "cut": {"cut_after_chunks": 0},
    "busy": {"busy": True},
    "error": {"error_after_chunks": 0},
    "load": {"fail_load": "llama-server process has terminated: exit status 2"},
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
async def test_another_node_answers_before_the_first_byte(fault, stream):
    """No client notices a node that fails before it has said anything."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        one.nodes["ant"].faults.set(**FAULTS[fault])
        for _ in range(4):
            answer = await client.post("/api/chat", json={**BODY, "stream": stream})
            assert answer.status_code == 200
            final = json.loads(answer.text.splitlines()[-1])
            assert (final["done"], final["_sollol_routing"]["host"]) == (True, "bee")
        assert max(record.attempts for record in one.recorder.requests) == 2


async def test_a_failing_node_is_left_alone():
    """After a few failures in a row the breaker keeps requests away."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        one.nodes["ant"].faults.busy = True
        for _ in range(20):
            assert (await client.post("/api/chat", json=BODY)).status_code == 200
        assert one.asked("ant") <= 5


async def test_a_killed_node_costs_no_client_anything_before_its_first_byte():
    """Requests that wait for a node that dies are answered by another one."""
    async with address(sim("ant", speed=1), sim("bee")) as one, one.client() as client:
        one.operate("bee", enabled=False)
        waiting = asyncio.ensure_future(client.post("/api/chat", json=BODY))
        await one.until(lambda: one.asked("ant") == 1)
        one.operate("bee", enabled=True)
        one.nodes["ant"].kill()
        answer = await waiting
        assert answer.json()["_sollol_routing"] == answer.json()["_sollol_routing"] | {"host": "bee", "attempts": 2}


async def test_a_hung_node_is_found_and_its_requests_go_elsewhere():
    """A node that accepts and never answers is found by looking at it; who waits for it is served by another."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        one.operate("bee", enabled=False)
        one.nodes["ant"].faults.hang = True
        waiting = asyncio.ensure_future(client.post("/api/chat", json=BODY))
        await one.until(lambda: one.gateway.dispatcher.in_flight() == 1)
        one.operate("bee", enabled=True)
        for _ in range(2):
            one.gateway.looks._tell(one.gateway.dispatcher.nodes[1], "silence")
        answer = await waiting
        assert answer.json()["_sollol_routing"]["host"] == "bee"
        one.nodes["ant"].faults.hang = False


async def test_a_stale_list_is_found_out():
    """A node that lost a model says 404: the request goes to one that has it, and the list is corrected."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        gone = await client.request("DELETE", f"{one.nodes['ant'].base_url}/api/delete", json={"model": CHAT})
        assert gone.status_code == 200
        hosts = {(await client.post("/api/chat", json=BODY)).json()["_sollol_routing"]["host"] for _ in range(4)}
        assert hosts == {"bee"}
        assert one.asked("ant") <= 1


async def test_a_model_pulled_behind_the_gateways_back_is_found():
    """An unknown model makes the gateway look again before it says that nobody has it."""
    async with address(sim("ant", models=["nomic-embed-text:latest"])) as one, one.client() as client:
        assert (await client.post("/api/chat", json=BODY)).status_code == 404
        copied = await client.post(
            f"{one.nodes['ant'].base_url}/api/copy", json={"source": "nomic-embed-text", "destination": "another"}
        )
        assert copied.status_code == 200
        one.gateway.looks.listed[1].tags_at -= 5
        answer = await client.post("/api/embed", json={"model": "another", "input": "x"})
        assert answer.status_code == 200


async def test_the_last_nodes_word_is_relayed():
    """When every node refuses, the client gets a node's own answer, unchanged."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        for node in one.nodes.values():
            node.faults.busy = True
        answer = await client.post("/api/chat", json=BODY)
        assert answer.status_code == 503
        assert answer.json() == {"error": "server busy, please try again.  maximum pending requests exceeded"}


async def test_a_lone_node_that_restarts_is_waited_for():
    """With a single node a short restart is bridged: the request waits in the gateway and is then answered."""
    async with address(sim("ant")) as one, one.client() as client:
        one.nodes["ant"].kill()
        waiting = asyncio.ensure_future(client.post("/api/chat", json=BODY))
        await one.until(lambda: one.gateway.dispatcher.nodes[1].reach == "down")
        await one.nodes["ant"].restart()
        assert (await waiting).status_code == 200


async def test_nodes_that_stay_away_are_said_to_be_away():
    """When no node comes back within the wait, the answer is a 503 that says so, with Retry-After."""
    settings = GatewaySettings(poll=0.2, limits=Limits(node_wait=0.3))
    async with address(sim("ant"), settings=settings) as one, one.client() as client:
        one.nodes["ant"].kill()
        answer = await client.post("/api/chat", json=BODY)
        assert (answer.status_code, answer.json()) == (503, {"error": "no node that has the model is up"})
        assert answer.headers["retry-after"] == "2"
        assert one.last.outcome == "failed"


@pytest.mark.parametrize("fault", ["reset_after_chunks", "cut_after_chunks"])
async def test_a_native_stream_that_breaks_ends_with_an_error_line(fault):
    """After the first byte the failure is Ollama's own error line, never a clean end without done."""
    async with address(sim("ant", speed=5)) as one, one.client() as client:
        one.nodes["ant"].faults.set(**{fault: 3})
        answer = await client.post("/api/chat", json=STREAM)
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert "error" in lines[-1]
        assert [line["done"] for line in lines[:-1]] == [False] * len(lines[:-1])
        assert (one.last.outcome, one.gateway.dispatcher.nodes[1].failures) == ("failed", 1)


@pytest.mark.parametrize("fault", ["reset_after_chunks", "cut_after_chunks"])
async def test_a_v1_stream_that_breaks_is_cut_abnormally(fault):
    """A /v1 client's connection ends without the last chunk, which SDKs notice."""
    async with address(sim("ant", speed=5)) as one, one.client() as client:
        one.nodes["ant"].faults.set(**{fault: 3})
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/v1/chat/completions", json={**STREAM, "stream": True})
        sdk = openai.AsyncOpenAI(base_url=f"{one.url}/v1", api_key="any", max_retries=0)
        with pytest.raises((openai.APIError, httpx.RemoteProtocolError)):
            async for _ in await sdk.chat.completions.create(model=CHAT, messages=MESSAGES, stream=True):
                pass
        await sdk.close()


async def test_a_legal_end_without_done_is_relayed_as_it_is():
    """Ollama may end a stream without done: nothing is invented and nothing repaired."""
    async with address(sim("ant")) as one, one.client() as client:
        one.nodes["ant"].faults.eof_after_chunks = 3
        answer = await client.post("/api/chat", json=STREAM)
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert [line["done"] for line in lines] == [False] * 3
        assert (one.last.outcome, one.gateway.dispatcher.nodes[1].failures) == ("served", 0)


DOUBTFUL = [
    *(("/api/chat", fault, stream) for fault in ({"eof_after_chunks": 3}, {"mute": True}) for stream in (False, True)),
    # A whole /v1 answer does not tell that it has no end.
    ("/v1/chat/completions", {"eof_after_chunks": 3}, True),
    ("/v1/chat/completions", {"mute": True}, False),
    ("/v1/chat/completions", {"mute": True}, True),
]


@pytest.mark.parametrize(("path", "fault", "stream"), DOUBTFUL)
async def test_three_doubtful_ends_in_a_row_count_as_failures(path, fault, stream):
    """Each is relayed as it is; after three the model is asked for elsewhere, and the node keeps its other models."""
    async with address(sim("ant"), sim("bee"), settings=GatewaySettings(poll=60.0)) as one, one.client() as client:
        one.nodes["ant"].faults.set(**fault)
        one.operate("bee", weight=0.01)
        for _ in range(5):
            answer = await client.post(path, json={**BODY, "stream": stream})
            assert answer.status_code == 200
        health = one.gateway.dispatcher.nodes[1].health
        assert one.asked("ant", path) == 3
        assert {record.outcome for record in one.recorder.requests} == {"served"}
        assert health.node.state == "closed"
        await client.post("/api/embed", json={"model": "nomic-embed-text", "input": "bees"})
        assert one.asked("ant", "/api/embed") == 1


async def test_what_is_to_be_empty_may_be_empty():
    """Loading a model, and answers that were to have no word, tell nothing against the node."""
    async with address(sim("ant")) as one, one.client() as client:
        for asked in ({"prompt": ""}, {"prompt": "Why?", "options": {"num_predict": 0}}):
            for _ in range(4):
                assert (await client.post("/api/generate", json={"model": CHAT, **asked})).status_code == 200
        assert not one.gateway.dispatcher.nodes[1].health.doubts


async def test_the_engines_error_line_is_relayed():
    """An error line in the middle is the engine's word; one that says the runner died counts against the node."""
    async with address(sim("ant")) as one, one.client() as client:
        one.nodes["ant"].faults.error_after_chunks = 3
        answer = await client.post("/api/chat", json=STREAM)
        assert "unexpectedly stopped" in json.loads(answer.text.splitlines()[-1])["error"]
        assert (one.last.outcome, one.gateway.dispatcher.nodes[1].failures) == ("failed", 1)


async def test_a_recovered_node_is_used_again():
    """A node that comes back gets requests again within seconds."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        one.nodes["ant"].kill()
        await client.post("/api/chat", json=BODY)
        await one.until(lambda: one.gateway.dispatcher.nodes[1].reach == "down")
        await one.nodes["ant"].restart()
        await one.until(lambda: one.gateway.dispatcher.nodes[1].reach == "up")
        one.nodes["bee"].faults.busy = True
        answer = await client.post("/api/chat", json=BODY)
        assert answer.json()["_sollol_routing"]["host"] == "ant"


@pytest.mark.parametrize("options", [{"num_ctx": "x"}, {"temperature": "hot"}])
async def test_a_request_that_is_at_fault_itself_harms_no_node(options):
    """Ollama answers a bad option with 500: it is relayed at once, and no breaker hears of it."""
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        for _ in range(5):
            answer = await client.post("/api/chat", json={**BODY, "options": options})
            assert (answer.status_code, "must be of type" in answer.text) == (500, True)
        assert [node.failures for node in one.gateway.dispatcher.nodes.values()] == [0, 0]
        assert {record.attempts for record in one.recorder.requests} == {1}


async def test_what_two_nodes_say_in_the_same_words_is_relayed():
    """A third node is not asked for the same refusal."""
    async with address(sim("ant"), sim("bee"), sim("cat")) as one, one.client() as client:
        for node in one.nodes.values():
            node.faults.fail_load = "unsupported model architecture"
        answer = await client.post("/api/chat", json=BODY)
        assert (answer.status_code, answer.json()) == (500, {"error": "unsupported model architecture"})
        assert one.last.attempts == 2


async def test_a_request_whose_next_node_goes_is_tried_where_it_failed():
    """After a failure the other node is waited for; when that goes too, the first one is asked again."""
    async with address(sim("ant"), sim("bee", parallel=1)) as one, one.client() as client:
        one.operate("ant", enabled=False)
        one.nodes["bee"].faults.slow_first_byte = 100_000.0
        blocking = asyncio.ensure_future(client.post("/api/chat", json=BODY))
        await one.until(lambda: one.asked("bee") == 1)
        one.operate("ant", enabled=True)
        one.nodes["ant"].faults.set(busy=True, times=1)
        waiting = asyncio.ensure_future(client.post("/api/chat", json=BODY))
        await one.until(lambda: one.gateway.dispatcher.nodes[1].failures == 1)
        one.nodes["bee"].kill()
        answers = await asyncio.gather(blocking, waiting)
        assert [answer.json()["_sollol_routing"]["host"] for answer in answers] == ["ant", "ant"]


async def test_a_cloud_model_streams_through_a_node():
    """What is no node's own model is handed to a node, and the answer relayed as it comes."""
    async with address(sim("ant")) as one, one.client() as client:
        direct = await client.post(
            f"{one.nodes['ant'].base_url}/api/chat", json={**STREAM, "model": "gpt-oss:120b-cloud"}
        )
        through = await client.post("/api/chat", json={**STREAM, "model": "gpt-oss:120b-cloud"})
        assert (through.status_code, through.content) == (direct.status_code, direct.content)


async def test_a_request_that_needs_too_much_memory_harms_no_node():
    """It is tried where there may be more, and no breaker counts it."""
    body = {**STREAM, "stream": False, "options": {"num_batch": 10_000_000}}
    async with address(sim("ant"), sim("bee")) as one, one.client() as client:
        for _ in range(5):
            answer = await client.post("/api/chat", json=body)
            assert (answer.status_code, "system memory" in answer.text) == (500, True)
        assert {node.breaker.state for node in one.gateway.dispatcher.nodes.values()} == {"closed"}
        assert one.asked("ant") == one.asked("bee") == 5


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "asked"), [("/api/chat", BODY), ("/v1/chat/completions", BODY), ("/api/embed", None)])
async def test_an_empty_answer_is_no_answer(path, asked, stream):
    """Status 200 with nothing in it: another node answers, and the first is not asked for long."""
    asked = asked or {"model": "nomic-embed-text", "input": "bees"}
    async with address(sim("ant"), sim("bee"), settings=GatewaySettings(poll=60.0)) as one, one.client() as client:
        one.nodes["ant"].faults.blank = True
        one.operate("bee", weight=0.01)
        for _ in range(8):
            answer = await client.post(path, json={**asked, "stream": stream})
            assert (answer.status_code, answer.headers["x-sollol-node"]) == (200, "bee")
            assert answer.content
        assert 1 <= one.asked("ant", path) <= 4


async def test_only_empty_answers_are_told():
    """Where no node says anything, the client is told so instead of being given nothing."""
    async with address(sim("ant")) as one, one.client() as client:
        one.nodes["ant"].faults.blank = True
        answer = await client.post("/api/chat", json=BODY)
        assert (answer.status_code, "an empty answer" in answer.json()["error"]) == (503, True)


async def test_streams_that_break_off_one_by_one_open_the_breaker():
    """Each begins well; that they do not end well counts."""
    settings = GatewaySettings(poll=60.0)
    async with address(sim("ant"), sim("bee"), settings=settings, continuing=True) as one, one.client() as client:
        one.nodes["ant"].faults.cut_after_chunks = 3
        for _ in range(3):
            one.operate("bee", enabled=False)
            asking = asyncio.ensure_future(client.post("/api/chat", json=STREAM))
            await one.until(one.gateway.dispatcher.in_flight)
            one.operate("bee", enabled=True)
            assert json.loads((await asking).text.splitlines()[-1])["done"]
        assert one.asked("ant") == 3
        assert not one.gateway.dispatcher.nodes[1].health.allows("", one.gateway.clock())
