"""OpenAI's SDK makes batches of a running stack: gateway, worker and simulated nodes, each a process of its own."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.fakes.address import CHAT
from tests.tooling.stack import Stack, wait_until

pytestmark = pytest.mark.timeout(240)
EMBED = "nomic-embed-text"


@pytest.fixture(scope="module")
def stack(running_stack: Stack) -> Stack:
    return running_stack


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="unused", max_retries=0) as made:
        yield made


def line(name: str, url: str, **body: Any) -> dict[str, Any]:
    return {"custom_id": name, "method": "POST", "url": url, "body": body}


def uploaded(client: openai.OpenAI, *lines: Any, name: str = "requests.jsonl") -> str:
    text = "".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines)
    return client.files.create(file=(name, text.encode()), purpose="batch").id


def begun(client: openai.OpenAI, file: str, endpoint: Any) -> str:
    return client.batches.create(input_file_id=file, endpoint=endpoint, completion_window="24h").id


def ended(client: openai.OpenAI, batch: str) -> Any:
    """The batch when nothing more comes of it."""
    ends = ("completed", "failed", "expired", "cancelled")
    wait_until(lambda: client.batches.retrieve(batch).status in ends, "the end of the batch", 60)
    return client.batches.retrieve(batch)


def lines_of(client: openai.OpenAI, file: str) -> list[dict[str, Any]]:
    return [json.loads(one) for one in client.files.content(file).text.splitlines()]


def test_embeddings_come_back_under_their_names(client: openai.OpenAI, stack: Stack) -> None:
    """Each line's answer is what the route itself gives, under the custom_id, in the order of the input."""
    texts = [f"text {number}" for number in range(30)]
    lines = [line(f"t{n}", "/v1/embeddings", model=EMBED, input=text) for n, text in enumerate(texts)]
    batch = ended(client, begun(client, uploaded(client, *lines), "/v1/embeddings"))
    assert (batch.status, batch.errors, batch.error_file_id) == ("completed", None, None)
    assert (batch.request_counts.total, batch.request_counts.completed) == (30, 30)
    told = lines_of(client, batch.output_file_id)
    assert [one["custom_id"] for one in told] == [f"t{n}" for n in range(30)]
    for number in (0, 29):
        direct = client.embeddings.create(model=EMBED, input=texts[number], encoding_format="float")
        assert told[number]["response"]["status_code"] == 200
        assert told[number]["response"]["body"]["data"][0]["embedding"] == direct.data[0].embedding
    kept = client.files.retrieve(batch.output_file_id)
    assert kept.purpose == "batch_output"
    assert kept.bytes == len(client.files.content(kept.id).content)
    with pytest.raises(openai.ConflictError, match="completed"):
        client.batches.cancel(batch.id)


def test_what_failed_is_in_the_file_of_errors(client: openai.OpenAI) -> None:
    """One bad request among good ones is told with the node's own answer, and the batch says that it failed."""
    said = [{"role": "user", "content": "Hi"}]
    good = [line(f"g{n}", "/v1/chat/completions", model=CHAT, messages=said, max_tokens=3) for n in range(3)]
    bad = line("bad", "/v1/chat/completions", model="nobody-has-this", messages=said)
    batch = ended(client, begun(client, uploaded(client, *good[:2], bad, good[2]), "/v1/chat/completions"))
    assert batch.status == "completed"
    assert (batch.request_counts.completed, batch.request_counts.failed) == (3, 1)
    told = lines_of(client, batch.output_file_id)
    assert [one["custom_id"] for one in told] == ["g0", "g1", "g2"]
    assert all(one["response"]["body"]["object"] == "chat.completion" for one in told)
    [wrong] = lines_of(client, batch.error_file_id)
    assert (wrong["custom_id"], wrong["response"]["status_code"], wrong["error"]) == ("bad", 404, None)
    assert "nobody-has-this" in wrong["response"]["body"]["error"]["message"]


def test_lines_that_are_none_are_named_by_number(client: openai.OpenAI) -> None:
    """The batch fails before anything is sent, and says which lines are wrong, and how."""
    fine = line("a", "/v1/embeddings", model=EMBED, input="a")
    lines = (fine, "{no json", fine, line("b", "/v1/chat/completions", model=EMBED, input="b"), {"custom_id": "c"})
    batch = ended(client, begun(client, uploaded(client, *lines), "/v1/embeddings"))
    assert batch.status == "failed"
    assert batch.request_counts.total == 0
    assert [(one.line, one.code, one.param) for one in batch.errors.data] == [
        (2, "invalid_json_line", None),
        (3, "duplicate_custom_id", "custom_id"),
        (4, "invalid_url", "url"),
        (5, "missing_required_parameter", "method"),
    ]
    assert all(one.message for one in batch.errors.data)


def test_a_model_that_nobody_has_fails_the_batch_at_once(client: openai.OpenAI) -> None:
    """Where all lines name the same unknown model, the batch says so instead of failing line by line."""
    lines = [line(str(n), "/v1/embeddings", model="nobody-has-this", input="a") for n in range(50)]
    batch = ended(client, begun(client, uploaded(client, *lines), "/v1/embeddings"))
    assert batch.status == "failed"
    assert "nobody-has-this" in batch.errors.data[0].message


def test_a_cancelled_batch_keeps_what_was_done(client: openai.OpenAI) -> None:
    """Cancelling ends it; requests that were not sent are in the file of errors, each with the reason."""
    said = [{"role": "user", "content": "Tell a long story"}]
    lines = [line(str(n), "/v1/chat/completions", model=CHAT, messages=said) for n in range(300)]
    batch = begun(client, uploaded(client, *lines), "/v1/chat/completions")
    wait_until(lambda: client.batches.retrieve(batch).request_counts.completed > 0, "the first answer", 60)
    assert client.batches.cancel(batch).status in ("cancelling", "cancelled")
    done = ended(client, batch)
    assert done.status == "cancelled"
    answers, rest = lines_of(client, done.output_file_id), lines_of(client, done.error_file_id)
    assert len(answers) == done.request_counts.completed
    assert sorted(int(one["custom_id"]) for one in (*answers, *rest)) == list(range(300))
    assert {one["error"]["code"] for one in rest} == {"batch_cancelled"}
    assert client.batches.cancel(batch).status == "cancelled"


def test_lists_are_turned_over_page_by_page(client: openai.OpenAI) -> None:
    """The SDK's own paging finds every file and batch once, newest first; a deleted file is gone."""
    files = [uploaded(client, line("a", "/v1/embeddings", model=EMBED, input="a"), name=f"{n}.jsonl") for n in range(5)]
    listed = [one.id for one in client.files.list(limit=2, purpose="batch")]
    assert listed[:5] == files[::-1]
    assert len(set(listed)) == len(listed)
    batches = [begun(client, file, "/v1/embeddings") for file in files[:3]]
    assert [one.id for one in client.batches.list(limit=2)][:3] == batches[::-1]
    assert client.files.content(files[4]).content.startswith(b'{"custom_id"')
    assert client.files.delete(files[4]).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(files[4])


def test_bad_orders_are_refused_in_the_form_of_openai(client: openai.OpenAI, stack: Stack) -> None:
    """What is wrong is named by member; unknown addresses, methods and keys are told in the same form."""
    file = uploaded(client, line("a", "/v1/embeddings", model=EMBED, input="a"))
    for more, param in (
        ({"endpoint": "/v1/images"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"metadata": {"a": "b" * 513}}, "metadata"),
    ):
        order: Any = {"input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "24h"} | more
        with pytest.raises(openai.BadRequestError) as caught:
            client.batches.create(**order)
        assert caught.value.param == param
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sollol_wrong_key").batches.list()
    with httpx.Client(base_url=stack.url, headers={"content-type": "application/json"}, trust_env=False) as plain:
        assert plain.get("/v1/files/a/b/c").json()["error"]["type"] == "invalid_request_error"
        assert plain.put("/v1/batches").status_code == 405
        assert "JSON parse error" in plain.post("/v1/batches", content=b"[").json()["error"]["message"]
        large = plain.post("/v1/batches", content=b" " * (2 << 20))
        assert (large.status_code, large.json()["error"]["message"]) == (413, "The body is larger than 1 MiB.")
        assert plain.get("/v1/files", headers={"origin": "https://evil.example"}).status_code == 403
