"""Lines of the files that `/v1/batches` works off: each a request, checked before anything is sent."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from fleet.models import Endpoint
from fleet.services.batch.intake import LONGEST, NAME_LENGTH, Lines
from fleet.services.batch.jobs import Input

#: Faults of a file that are told.
TOLD = 100
#: What a body has beside its model, by endpoint.
NEEDED = {Endpoint.V1_EMBEDDINGS: "input", Endpoint.V1_CHAT: "messages"}
PARSED = "This line is not parseable as valid JSON."
DUPLICATE = (
    "The custom_id for this request is a duplicate of another request. The custom_id parameter must be unique for "
    "each request in a batch."
)
EMPTY = "The input file is empty. Please ensure that the batch contains at least one request."


class Fault(NamedTuple):
    """What is wrong with a line, or with the whole file; members and codes are OpenAI's."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class Unreadable(ValueError):  # noqa: N818 (as `Unfit`)
    """A line that is no request; the fault says why."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param


@dataclass(slots=True)
class Reading:
    """The requests of a file for one endpoint; `faults` and `models` are what has come up so far."""

    endpoint: str
    source: Lines
    faults: list[Fault] = field(default_factory=list)
    models: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)

    def __iter__(self) -> Iterator[Input]:
        """Requests that are fit, until there are too many faults to be told."""
        number = 0
        while len(self.faults) < TOLD and (line := self.source.readline(LONGEST + 1)):
            number += 1
            if len(line) > LONGEST:
                self.faults.append(
                    Fault("line_too_long", f"This line is longer than {LONGEST >> 20} MiB.", None, number)
                )
                return
            if not line.strip():
                continue
            try:
                yield self.request(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
            except Unreadable as error:
                self.faults.append(Fault(error.code, str(error), error.param, number))
        if not self.names and not self.faults:
            self.faults.append(Fault("empty_file", EMPTY))

    def request(self, line: bytes) -> Input:
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            raise Unreadable("invalid_json_line", PARSED) from None
        if not isinstance(value, dict):
            raise Unreadable("invalid_json_line", "This line is no JSON object.")
        name, body = self.name_of(value), self.body_of(value)
        self.names.add(name)
        self.models.add(body["model"])
        return Input(orjson.dumps(body).decode(), name)

    def name_of(self, value: dict[str, Any]) -> str:
        name = needed(value, "custom_id")
        if not isinstance(name, str) or not name or "\0" in name or len(name) > NAME_LENGTH:
            raise Unreadable("invalid_custom_id", f"A custom_id has 1 to {NAME_LENGTH} characters.", "custom_id")
        if name in self.names:
            raise Unreadable("duplicate_custom_id", DUPLICATE, "custom_id")
        return name

    def body_of(self, value: dict[str, Any]) -> dict[str, Any]:
        if needed(value, "method") != "POST":
            raise Unreadable("invalid_method", "The method of a request in a batch is POST.", "method")
        if needed(value, "url") != self.endpoint:
            told = f"The URL provided for this request does not match the batch's endpoint {self.endpoint}."
            raise Unreadable("invalid_url", told, "url")
        body = needed(value, "body")
        if not isinstance(body, dict):
            raise Unreadable("invalid_type", "A request's body is an object.", "body")
        for member in ("model", NEEDED[Endpoint(self.endpoint)]):
            needed(body, member, "body.")
        model = body["model"]
        if not isinstance(model, str) or not model or "\0" in model:
            raise Unreadable("invalid_type", "A model's name is a text.", "body.model")
        if body.get("stream"):
            raise Unreadable("invalid_value", "Answers in a batch cannot be streamed.", "body.stream")
        return body


def needed(value: dict[str, Any], member: str, place: str = "") -> Any:
    if value.get(member) is None:
        name = place + member
        raise Unreadable("missing_required_parameter", f"Missing required parameter: '{name}'.", name)
    return value[member]
