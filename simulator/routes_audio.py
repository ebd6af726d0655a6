"""/v1/audio/transcriptions: what a model with ears makes of a file, without listening."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from simulator.answer import Question, ToolCall
from simulator.arrivals import stay
from simulator.asked import find_model
from simulator.forms import Result
from simulator.http_answer import NO_HEADERS, body_answer, text_answer
from simulator.inference import Call, infer
from simulator.library import InstalledModel
from simulator.multipart import Form as Upload
from simulator.multipart import read_form
from simulator.options import read_options
from simulator.prompt import Prompt
from simulator.wire import JSON_PLAIN, BadBody, Refusal, go_json

if TYPE_CHECKING:
    from simulator.node import SimulatedNode

Body = Mapping[str, Any]
# About one token for so many bytes of sound, so that long files take longer.
BYTES_PER_AUDIO_TOKEN = 4096


class TranscriptionForm:
    """The text alone, in JSON or plain; it is never streamed."""

    content_type = JSON_PLAIN
    headers = NO_HEADERS

    def __init__(self, *, plain: bool) -> None:
        self._plain = plain

    def piece(self, stamp: bytes, text: str, *, thinking: bool, logprobs: list[dict[str, Any]] | None) -> bytes:
        return b""

    def calls(self, stamp: bytes, calls: Sequence[ToolCall]) -> bytes:
        return b""

    def closing(self, stamp: bytes, result: Result) -> list[bytes]:
        return []

    def whole(self, stamp: bytes, result: Result) -> web.Response:
        text = result.content.strip()
        return text_answer(text) if self._plain else body_answer(go_json({"text": text}) + b"\n", JSON_PLAIN)

    def failure(self, text: str) -> list[bytes]:
        return []


async def transcriptions(node: "SimulatedNode", request: web.BaseRequest, body: Body) -> web.StreamResponse:
    started = node.clock.now()
    upload = await read_form(request)
    node.record.body_bytes[request.path] = upload.body_bytes
    name = upload.fields.get("model", "")
    async with stay(node, request.path, name):
        _check(upload, name)
        model = find_model(node, name)
        if "audio" not in model.spec.capabilities:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"{model.name.full} does not support audio")
        form = TranscriptionForm(plain=upload.fields.get("response_format") == "text")
        return await infer(node, request, _call(model, upload, started), form)


def _check(upload: Upload, name: str) -> None:
    if not name:
        raise BadBody("model is required")
    if not upload.file_sha256:
        raise BadBody("file is required: http: no such file")
    if not upload.file_bytes:
        raise BadBody("audio file is empty")


def _call(model: InstalledModel, upload: Upload, started: float) -> Call:
    """The text depends on the sound alone; what the prompt says of it costs tokens."""
    heard = upload.file_bytes // BYTES_PER_AUDIO_TOKEN + len(upload.fields.get("prompt", "")) // 4
    prompt = Prompt(f"<|audio|>\n{upload.file_sha256}\n<|assistant|>\n", extra_tokens=heard)
    options = read_options({}, model.options)
    return Call(model, prompt, Question(), options, keep_alive=None, stream=False, started=started)
