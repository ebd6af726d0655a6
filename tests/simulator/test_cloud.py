"""Models of ollama.com, and the account that they need."""

import json

import pytest

from simulator.cloud import CLOUD_HOST
from tests.simulator.conftest import small

HELLO = [{"role": "user", "content": "hello"}]
STUB = small("owl:cloudy", remote_host=CLOUD_HOST, remote_model="owl:120b")
REMOTE = ["model", "remote_model", "remote_host", "created_at"]
ASKED = [
    ("/api/chat", {"messages": HELLO}),
    ("/api/generate", {"prompt": "hello"}),
    ("/api/embed", {"input": "hello"}),
    ("/api/embeddings", {"prompt": "hello"}),
    ("/v1/chat/completions", {"messages": HELLO}),
    ("/v1/completions", {"prompt": "hello"}),
    ("/v1/embeddings", {"input": "hello"}),
    ("/v1/responses", {"input": "hello"}),
    ("/v1/messages", {"messages": HELLO, "max_tokens": 9}),
]


@pytest.fixture
async def signed_out(start):
    return (await start(models=[STUB, small("ant:1b")]))[1]


@pytest.fixture
async def ada(start):
    return (await start(models=[STUB, small("ant:1b")], account="Ada"))[1]


@pytest.mark.parametrize(("path", "body"), ASKED)
@pytest.mark.parametrize("name", ["owl:cloud", "owl:20b-Cloud", "owl:20b:CLOUD"])
async def test_without_an_account(signed_out, path, body, name):
    """401 in the native shape on every route, with the address to sign in at."""
    status, headers, raw = await signed_out.send("POST", path, {"model": name, **body})
    answer = json.loads(raw)
    assert (status, headers["Content-Type"]) == (401, "application/json; charset=utf-8")
    assert list(answer) == ["error", "signin_url"]
    assert answer["error"] == "unauthorized"


@pytest.mark.parametrize(("path", "body"), ASKED)
async def test_with_an_account_it_is_answered_and_takes_nothing(ada, path, body):
    """No load, no runner, no slot, even on a node that is busy."""
    ada.node.faults.busy = True
    assert (await ada.send("POST", path, {"model": "owl:20b-cloud", **body}))[0] == 200
    assert await ada.get("/api/ps") == {"models": []}
    assert ada.node.record.loads == []
    assert not ada.node.record.peak_running


@pytest.mark.parametrize(("path", "body"), ASKED[:2])
@pytest.mark.parametrize(
    ("name", "remote"), [("Owl:20b-cloud", "Owl:20b"), ("owl:cloud", "owl"), ("owl:cloudy", "owl:120b")]
)
async def test_streams_say_where_the_model_runs(ada, path, body, name, remote):
    """remote_model and remote_host come after the model, which is echoed, in every object."""
    lines = await ada.lines(path, model=name, **body)
    assert all(list(line)[:4] == REMOTE for line in lines)
    assert {(line["model"], line["remote_model"], line["remote_host"]) for line in lines} == {
        (name, remote, CLOUD_HOST)
    }
    assert lines[-1]["done"]


@pytest.mark.parametrize(("path", "field"), [("/api/chat", "message"), ("/api/generate", "response")])
async def test_loading_and_whole_answers_say_it_too(ada, path, field):
    """There is nothing to load, and the object is the same."""
    for body in ({}, {"keep_alive": 0}):
        answer = await ada.post(path, model="owl:cloud", **body)
        assert list(answer) == [*REMOTE, field, "done", "done_reason"]
    assert list(await ada.post(path, model="owl:cloud", messages=HELLO, prompt="x"))[:4] == REMOTE


async def test_the_answers_are_the_same_on_every_node(start):
    """It is one model that answers, whoever passes it on."""
    nodes = [await start("gpu-8gb", account="Ada"), await start("cpu-32", account="Bo")]
    first, second = [(await client.chat("owl:20b-cloud"))["message"] for _, client in nodes]
    assert first == second


async def test_an_installed_stub_is_listed_and_shown(signed_out):
    """Its row says where the model runs, and it is tiny."""
    row = (await signed_out.get("/api/tags"))["models"][0]
    assert list(row)[:5] == ["name", "model", "remote_model", "remote_host", "modified_at"]
    assert row["size"] < 1000
    shown = await signed_out.post("/api/show", model="owl:cloudy")
    assert (shown["remote_model"], shown["remote_host"]) == ("owl:120b", CLOUD_HOST)
    assert list(shown).index("remote_host") + 1 == list(shown).index("model_info")


async def test_a_stub_needs_the_account_too(signed_out):
    """Native routes add the address to sign in at; the compatible ones have their envelope."""
    _, _, raw = await signed_out.send("POST", "/api/chat", {"model": "owl:cloudy", "messages": HELLO})
    assert list(json.loads(raw)) == ["error", "signin_url"]
    status, _, raw = await signed_out.send("POST", "/v1/completions", {"model": "owl:cloudy", "prompt": "x"})
    assert (status, json.loads(raw)["error"]["message"]) == (401, "unauthorized")


async def test_a_stub_of_another_host_is_not_run(start):
    """Only ollama.com is trusted."""
    _, client = await start(models=[small("owl", remote_host="https://evil.example", remote_model="x")], account="Ada")
    status, _, raw = await client.send("POST", "/api/chat", {"model": "owl", "messages": HELLO})
    assert (status, json.loads(raw)) == (400, {"error": "this server cannot run this remote model"})


async def test_a_cloud_model_is_shown_by_ollama_com(ada):
    """Without an account it is not; a stub that is not here cannot be deleted."""
    assert (await ada.post("/api/show", model="owl:20b-cloud"))["remote_model"] == "owl:20b"
    await ada.send("POST", "/api/signout")
    assert (await ada.send("POST", "/api/show", {"model": "owl:20b-cloud"}))[0] == 401
    assert (await ada.send("DELETE", "/api/delete", {"model": "owl:20b-cloud"}))[0] == 404


async def test_a_stub_is_pulled_under_the_older_name(ada):
    """`x:20b:cloud` is kept as `x:20b-cloud`."""
    ada.node.registry["registry.ollama.ai/library/bat:20b-cloud"] = small(
        "bat:20b-cloud", remote_host=CLOUD_HOST, remote_model="bat:20b"
    )
    assert (await ada.lines("/api/pull", model="bat:20b:cloud"))[-1] == {"status": "success"}
    assert "bat:20b-cloud" in [model["name"] for model in (await ada.get("/api/tags"))["models"]]


async def test_who_is_signed_in(ada):
    """/api/me needs no body; after signing out it says where to sign in."""
    status, _, raw = await ada.send("POST", "/api/me")
    assert (status, list(json.loads(raw))) == (200, ["id", "email", "name", "plan"])
    assert (await ada.send("DELETE", "/api/user/keys/abc"))[::2] == (200, b"null")
    status, _, raw = await ada.send("POST", "/api/me")
    assert (status, list(json.loads(raw))) == (401, ["error", "signin_url"])


@pytest.mark.parametrize(("path", "body"), [("web_search", {"query": "bees"}), ("web_fetch", {"url": "http://x"})])
async def test_the_web_through_ollama_com(ada, path, body):
    """The same question has the same answer, and needs the account."""
    path = f"/api/experimental/{path}"
    status, _, raw = await ada.send("POST", path, body)
    assert (status, raw) == (200, (await ada.send("POST", path, body))[2])
    ada.node.account = ""
    status, _, raw = await ada.send("POST", path, body)
    assert (status, list(json.loads(raw))) == (401, ["error", "signin_url"])


async def test_web_search_gives_as_many_results_as_asked_for(ada):
    """Each with title, url and content."""
    answer = await ada.post("/api/experimental/web_search", query="bees", max_results=2)
    assert [list(result) for result in answer["results"]] == [["title", "url", "content"]] * 2
