"""ollama-python manages the models behind the running address."""

import ollama
import pytest

from tests.conformance.clients.cast import CHAT, EMBED, MESSAGES
from tests.tooling.stack import Stack

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def client(running_stack: Stack) -> ollama.Client:
    return ollama.Client(host=running_stack.url)


def names(client):
    return [model.model for model in client.list().models]


def test_pull(client):
    """The progress of a pull ends in success; what is there already is not fetched again."""
    steps = list(client.pull(EMBED, stream=True))
    assert steps[0].status == "pulling manifest"
    assert steps[-1].status == "success"
    assert any(step.digest and step.completed == step.total for step in steps)
    assert client.pull(EMBED).status == "success"


@pytest.mark.parametrize("stream", [True, False])
def test_pull_of_what_does_not_exist(client, stream):
    """The error of a registry that does not have it, in the stream or as the answer."""
    with pytest.raises(ollama.ResponseError, match="pull model manifest: file does not exist"):
        list(client.pull("nobody", stream=stream))


def test_create_from_a_model(client, new_name):
    """A model made from another is listed, shown and used, and answers in its own way."""
    steps = list(client.create(new_name, from_=CHAT, system="You are Bo.", stream=True))
    assert steps[-1].status == "success"
    assert new_name in names(client)
    assert client.show(new_name).details.parent_model == CHAT
    assert client.chat(new_name, MESSAGES).message.content != client.chat(CHAT, MESSAGES).message.content


def test_create_from_an_upload(client, new_name, tmp_path):
    """A file is uploaded once, and becomes a model."""
    weights = tmp_path / "ant.gguf"
    weights.write_bytes(b"GGUF" + new_name.encode() * 100_000)
    digest = client.create_blob(weights)
    assert client.create_blob(weights) == digest
    assert client.create(new_name, files={"ant.gguf": digest}).status == "success"
    assert client.chat(new_name, MESSAGES, options={"num_predict": 3}).eval_count == 3


def test_create_from_nothing(client, new_name):
    """A refusal before any progress has a status."""
    with pytest.raises(ollama.ResponseError, match="neither 'from' or 'files' was specified") as caught:
        client.create(new_name)
    assert caught.value.status_code == 400


def test_copy_and_delete(client, new_name):
    """A copy answers like its original until it is deleted."""
    assert client.copy(CHAT, new_name).status == "success"
    assert client.chat(new_name, MESSAGES).message.content == client.chat(CHAT, MESSAGES).message.content
    assert client.delete(new_name).status == "success"
    assert new_name not in names(client)
    with pytest.raises(ollama.ResponseError, match="not found"):
        client.chat(new_name, MESSAGES)


def test_what_is_not_there_is_neither_copied_nor_deleted(client, new_name):
    """Each has the words that a node has."""
    with pytest.raises(ollama.ResponseError, match='model "nobody" not found') as copied:
        client.copy("nobody", new_name)
    with pytest.raises(ollama.ResponseError, match="model 'nobody' not found") as deleted:
        client.delete("nobody")
    assert (copied.value.status_code, deleted.value.status_code) == (404, 404)


def test_push(client, new_name, tmp_path):
    """A small model is pushed; one that is not there ends in an error."""
    weights = tmp_path / "ant.gguf"
    weights.write_bytes(b"GGUF" + new_name.encode())
    client.create(new_name, files={"ant.gguf": client.create_blob(weights)})
    assert [step.status for step in client.push(new_name, stream=True)][-1] == "success"
    with pytest.raises(ollama.ResponseError):
        client.push("nobody")


def test_leaving_a_push(client, stalled):
    """Who leaves the progress of a long push frees the node."""
    steps = client.push(CHAT, stream=True)
    assert next(steps).status == "retrieving manifest"
    steps.close()
    stalled.noticed()
