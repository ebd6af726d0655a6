"""curl against the running address: no JSON content type, offers of HTTP/2, expectations."""

import json
import subprocess
from collections.abc import Callable
from hashlib import sha256

import pytest

from tests.conformance.clients.cast import CHAT, MESSAGES, NODES

pytestmark = pytest.mark.timeout(240)
ASKED = {"model": CHAT, "messages": MESSAGES}


@pytest.fixture
def curl(running_stack) -> Callable:
    """Run curl on a path; returns what it printed."""

    def run(path: str, *options: str, body: object = None) -> bytes:
        data = [] if body is None else ["-d", body if isinstance(body, str) else json.dumps(body)]
        command = ["curl", "-sS", "--noproxy", "*", "--max-time", "100", *options, f"{running_stack.url}{path}", *data]
        return subprocess.run(command, capture_output=True, check=True).stdout

    return run


def head_and_body(answer: bytes) -> tuple[str, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.decode().lower(), body


def test_stream(curl):
    """A body by curl -d has a form's content type and gets a stream of objects."""
    lines = [json.loads(line) for line in curl("/api/chat", "--no-buffer", body=ASKED).splitlines()]
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1]["_sollol_routing"]["host"] in NODES


def test_server_sent_events(curl):
    """The OpenAI route ends its events with [DONE]."""
    events = curl("/v1/chat/completions", "--no-buffer", body={**ASKED, "stream": True}).strip().split(b"\n\n")
    assert all(event.startswith(b"data: {") for event in events[:-1])
    assert events[-1] == b"data: [DONE]"


def test_head(curl):
    """The CLI's heartbeat has a length and no body."""
    head, body = head_and_body(curl("/", "-I"))
    assert head.startswith("http/1.1 200")
    assert "content-length: 17" in head
    assert body == b""
    assert curl("/") == b"Ollama is running"


@pytest.mark.parametrize("path", ["/api/version", "/api/tags"])
def test_head_of_lists(curl, path):
    """HEAD where Ollama has it."""
    assert head_and_body(curl(path, "-I"))[0].startswith("http/1.1 200")


def test_an_offer_of_http2_does_not_cost_the_body(curl):
    """Java's client and `curl --http2` offer h2c with every request; it is declined, and the body counts."""
    assert json.loads(curl("/api/chat", "--http2", body={**ASKED, "stream": False}))["done"] is True


def test_delete_with_a_body(curl, new_name):
    """DELETE names the model in its body, and its answer is empty."""
    curl("/api/copy", "--fail", body={"source": CHAT, "destination": new_name})
    head, body = head_and_body(curl("/api/delete", "-i", "-X", "DELETE", body={"model": new_name}))
    assert head.startswith("http/1.1 200")
    assert body == b""
    again = head_and_body(curl("/api/delete", "-i", "-X", "DELETE", body={"model": new_name}))
    assert (again[0].split()[1], json.loads(again[1])) == ("404", {"error": f"model '{new_name}' not found"})


def test_a_large_body_is_asked_for(curl, tmp_path):
    """Above 1 MiB curl waits to be told to go on, and is."""
    body = tmp_path / "body.json"
    long = {"role": "user", "content": "word " * 300_000}
    body.write_text(json.dumps({"model": CHAT, "messages": [long, *MESSAGES], "stream": False}))
    answer = curl("/api/chat", "-i", "-H", "Expect: 100-continue", body=f"@{body}")
    head, rest = head_and_body(answer)
    assert head.startswith("http/1.1 100")
    assert json.loads(head_and_body(rest)[1])["done"] is True


def test_a_large_upload(curl, tmp_path):
    """A blob is stored when its digest is right, known afterwards, and refused when it is not."""
    file = tmp_path / "blob"
    file.write_bytes(str(tmp_path).encode() * 100_000)
    digest = f"sha256:{sha256(file.read_bytes()).hexdigest()}"
    code = ["-o", str(tmp_path / "out"), "-w", "%{http_code}"]
    upload = [*code, "-X", "POST", "-T", str(file)]
    assert curl(f"/api/blobs/{digest}", *code, "-I") == b"404"
    assert curl(f"/api/blobs/{digest}", *upload) == b"201"
    assert curl(f"/api/blobs/{digest}", *upload) == b"200"
    assert curl(f"/api/blobs/{digest}", *code, "-I") == b"200"
    assert curl(f"/api/blobs/sha256:{'0' * 64}", *upload) == b"400"


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/embed", "/v1/chat/completions"])
@pytest.mark.parametrize("body", ["{", "", '{"model": 3}'])
def test_bad_json(curl, path, body):
    """What is no request is refused with an error in JSON."""
    head, rest = head_and_body(curl(path, "-i", body=body))
    assert head.startswith("http/1.1 400")
    assert json.loads(rest)["error"]


def test_a_wrong_method(curl):
    """The methods that would be right are told."""
    head, _ = head_and_body(curl("/api/chat", "-i"))
    assert head.startswith("http/1.1 405")
    assert "allow: post" in head


def test_leaving_a_stream(curl, stalled):
    """When curl gives up after a second, the node is freed."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        curl("/api/chat", "--max-time", "1", body=ASKED)
    assert caught.value.returncode == 28
    stalled.noticed()


def test_connections_are_kept(curl, running_stack):
    """Two requests of one curl go over one connection."""
    told = curl("/api/version", "-w", "%{num_connects}", f"{running_stack.url}/api/version")
    assert told.count(b"}1") == 1
    assert told.count(b"}0") == 1


def test_an_http_1_0_client_gets_a_stream_without_chunks(curl):
    """As nginx asks by default: the lines, and then the end of the connection."""
    head, body = head_and_body(curl("/api/chat", "-i", "--http1.0", body=ASKED))
    assert "transfer-encoding" not in head
    assert json.loads(body.splitlines()[-1])["done"] is True
    assert json.loads(curl("/api/version", "--http1.0"))["version"]
