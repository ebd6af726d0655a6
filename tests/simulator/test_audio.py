"""/v1/audio/transcriptions."""

import io
import json
from hashlib import sha256

import aiohttp
import openai
import pytest

from tests.simulator.conftest import small

PATH = "/v1/audio/transcriptions"
UNFINISHED = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nea'


@pytest.fixture
async def client(start):
    hears = small("ear:1b", capabilities=("completion", "audio"))
    return (await start(models=[hears, small("ant:1b"), "whisper-sim:latest"]))[1]


def form(*, sound=b"RIFF" + b"x" * 1000, **fields):
    """The file first, so that its model comes after it."""
    data = aiohttp.FormData(default_to_multipart=True)
    if sound is not None:
        data.add_field("file", sound, filename="a.wav", content_type="audio/wav")
    for name, value in fields.items():
        data.add_field(name, value)
    return data


async def test_a_transcription(client):
    """JSON with a newline at its end, the model read from behind the file."""
    status, headers, body = await client.send("POST", PATH, form(model="ear:1b", language="en"))
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert list(json.loads(body)) == ["text"]
    assert body.endswith(b"}\n")


async def test_the_text_alone(client):
    """It is the same text without JSON and newline."""
    text = json.loads((await client.send("POST", PATH, form(model="ear:1b")))[2])["text"]
    _, headers, body = await client.send("POST", PATH, form(model="ear:1b", response_format="text"))
    assert (headers["Content-Type"], body.decode()) == ("text/plain", text)


async def test_the_text_depends_on_model_and_file(client):
    """The same file gives the same text, and another file or model another one."""
    same = [await client.send("POST", PATH, form(model="ear:1b")) for _ in range(2)]
    other_file = await client.send("POST", PATH, form(model="ear:1b", sound=b"other"))
    other_model = await client.send("POST", PATH, form(model="whisper-sim"))
    assert same[0][2] == same[1][2]
    assert len({same[0][2], other_file[2], other_model[2]}) == 3


@pytest.mark.parametrize(
    ("data", "status", "kind", "text"),
    [
        (form(), 400, "invalid_request_error", "model is required"),
        (form(sound=None, model="ear:1b"), 400, "invalid_request_error", "file is required: http: no such file"),
        (form(sound=b"", model="ear:1b"), 400, "invalid_request_error", "audio file is empty"),
        (form(model="owl"), 404, "not_found_error", "model 'owl' not found"),
        (
            form(model="ant:1b"),
            400,
            "invalid_request_error",
            "registry.ollama.ai/library/ant:1b does not support audio",
        ),
        (form(model="owl:cloud"), 401, "api_error", "unauthorized"),
    ],
)
async def test_refusals(client, data, status, kind, text):
    """They come in OpenAI's envelope."""
    got, _, body = await client.send("POST", PATH, data)
    assert (got, json.loads(body)["error"]) == (status, {"message": text, "type": kind, "param": None, "code": None})


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("application/json", b"{}", "request Content-Type isn't multipart/form-data"),
        ("multipart/form-data", b"x", "no multipart boundary param in Content-Type"),
        ("multipart/form-data; boundary=b", b"no part at all", "multipart: NextPart: EOF"),
        ("multipart/form-data; boundary=b", UNFINISHED, "multipart: NextPart: EOF"),
    ],
)
async def test_bodies_that_are_no_form(client, content_type, body, text):
    """The parser says what it misses."""
    status, _, raw = await client.send("POST", PATH, body, headers={"Content-Type": content_type})
    assert (status, json.loads(raw)["error"]["message"]) == (400, f"failed to parse multipart form: {text}")


async def test_a_file_of_sixty_megabytes(client):
    """It is counted and hashed as it comes."""
    sound = b"\0" * 60_000_000
    data = form(model="ear:1b", sound=io.BytesIO(sound))
    assert (await client.send("POST", PATH, data))[0] == 200
    assert client.node.record.body_bytes[PATH] == len(sound) + len("ear:1b")


async def test_it_takes_a_runner_and_is_counted(client):
    """As any inference: the model is loaded, and the record names path and model."""
    await client.send("POST", PATH, form(model="ear:1b"))
    assert [load.model for load in client.node.record.loads] == ["ear:1b"]
    assert client.node.record.models_for(PATH) == ["ear:1b"]
    client.node.faults.busy = True
    assert (await client.send("POST", PATH, form(model="ear:1b")))[0] == 503


async def test_the_sdk_reads_it(client):
    """OpenAI's client sends such a form and understands the answer."""
    async with openai.AsyncOpenAI(base_url=client.node.base_url + "/v1", api_key="x") as sdk:
        heard = await sdk.audio.transcriptions.create(model="ear:1b", file=("a.wav", sha256(b"a").digest()))
    assert heard.text


async def test_no_profile_has_the_audio_model_by_default(start):
    """It can be asked for or pulled."""
    node, client = await start("instant")
    names = {model["name"] for model in (await client.get("/api/tags"))["models"]}
    assert "whisper-sim:latest" not in names
    assert (await client.lines("/api/pull", model="whisper-sim"))[-1] == {"status": "success"}
    assert node.library.find("whisper-sim") is not None
