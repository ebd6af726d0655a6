"""One call of a job to the gateway, made in a thread that touches no database, and what its answer means."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any, NamedTuple

import httpx
import orjson

from fleet.models import BatchJob
from fleet.services.batch import packing
from fleet.services.batch.claims import Claimed
from fleet.services.batch.pace import work

CONNECT_S = 5.0
#: Seconds between the moment at which an answer must be complete and that at which it is given up.
SPARE_S = 5.0
#: Characters of an error's text that are kept.
REASON = 500
#: Seconds until the gateway is asked again that had no room or was away, where it does not say.
PAUSE_S = 2.0
#: Bytes at the end of an answer in which its counts are.
TAIL = 400
DURATIONS = re.compile(rb'"(total_duration|load_duration|prompt_eval_count)":(\d+)')
BUSY = (
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)


class Kind(StrEnum):
    """What a call's end means.

    `busy`: nothing was tried, the items are as they were; `late`: nothing came in time; `broken`: a node could not,
    perhaps because of an item; `refused`: an item cannot be done; `unknown`: the model cannot; `barred`: we may not.
    """

    DONE = "done"
    BUSY = "busy"
    LATE = "late"
    BROKEN = "broken"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    BARRED = "barred"


class Order(NamedTuple):
    """What all calls of a job have in common."""

    path: str
    model: str
    parameters: dict[str, Any]
    groups: bool

    @classmethod
    def of(cls, job: BatchJob) -> "Order":
        return cls(job.endpoint, job.model, dict(job.parameters), job.groups)


@dataclass(slots=True)
class Outcome:
    """What came of a call: `packed` results in the order of its items; `seconds` without waiting and loading."""

    items: Sequence[Claimed]
    kind: Kind
    status: int | None = None
    reason: str = ""
    packed: list[bytes] = field(default_factory=list)
    width: int = 0
    tokens: int = 0
    node: str = ""
    request_id: str = ""
    seconds: float = 0.0
    pause: float = PAUSE_S

    @property
    def cost(self) -> int:
        return work(item.body for item in self.items)


def send(client: httpx.Client, order: Order, items: Sequence[Claimed], until: float) -> Outcome:
    """Send items in one call that must come back by `until` (monotonic seconds)."""
    left = until - time.monotonic()
    if left <= 0:
        return Outcome(items, Kind.LATE, reason="there was no time left to send it")
    started = time.monotonic()
    try:
        content = body_of(order, items)
    except ValueError as error:
        return Outcome(items, Kind.REFUSED, reason=f"this is no request: {error}")
    try:
        # The gateway refuses what waits for too long; so what does not come back in time was under way.
        deadline = {"x-sollol-deadline": f"{max(left - SPARE_S, left / 2):.1f}"}
        timeout = httpx.Timeout(left, connect=CONNECT_S)
        answer = client.post(order.path, content=content, headers=deadline, timeout=timeout)
    except (httpx.ReadTimeout, httpx.WriteTimeout):
        return Outcome(items, Kind.LATE, reason=f"no answer within {time.monotonic() - started:.0f} s")
    except httpx.HTTPError as error:
        return Outcome(items, Kind.BUSY, reason=f"the gateway cannot be reached: {error or type(error).__name__}")
    return read(order, items, answer, time.monotonic() - started)


def body_of(order: Order, items: Sequence[Claimed]) -> bytes:
    """The call's body. Raises ValueError for an item that is no JSON object where it should be one."""
    if order.groups:
        return orjson.dumps({**order.parameters, "model": order.model, "input": [item.body for item in items]})
    value = orjson.loads(items[0].body)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 (what came in, not a fault of types)
    whole = {**order.parameters, **value, "stream": False}
    if order.model:
        whole.setdefault("model", order.model)
    return orjson.dumps(whole)


def read(order: Order, items: Sequence[Claimed], answer: httpx.Response, seconds: float) -> Outcome:
    told, data = answer.headers, answer.content
    outcome = Outcome(
        items,
        Kind.DONE,
        answer.status_code,
        node=told.get("x-sollol-node", ""),
        request_id=told.get("x-sollol-request-id", "")[:64],
        seconds=max(0.0, seconds - number(told.get("x-sollol-queue-ms")) / 1000),
    )
    if answer.status_code != HTTPStatus.OK:
        outcome.reason = reason_of(data) or f"status {answer.status_code}"
        outcome.kind = kind_of(order, answer)
        outcome.pause = max(PAUSE_S, min(60.0, number(told.get("retry-after"))))
        outcome.packed = [packing.pack_text(data)] if not order.groups else []
        return outcome
    try:
        take(order, outcome, data)
    except ValueError as error:
        outcome.kind, outcome.reason = Kind.BROKEN, f"the answer cannot be read: {error}"
    return outcome


def take(order: Order, outcome: Outcome, data: bytes) -> None:
    """Read a good answer. Raises ValueError where it is none."""
    if not order.groups:
        orjson.loads(data)
        outcome.packed = [packing.pack_text(data)]
        return
    found = packing.vectors(data, len(outcome.items))
    outcome.packed = [packing.pack_vector(one) for one in found]
    outcome.width = found[0].count(b",") + 1 if found[0] else 0
    counts = {name: int(value) for name, value in DURATIONS.findall(data, max(0, len(data) - TAIL))}
    outcome.tokens = counts.get(b"prompt_eval_count", 0)
    total = counts.get(b"total_duration", 0)
    if total:
        # What loading took is told in the node's own time: a simulated node's may run faster than ours.
        outcome.seconds *= 1.0 - min(0.95, counts.get(b"load_duration", 0) / total)


def kind_of(order: Order, answer: httpx.Response) -> Kind:
    status = answer.status_code
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Kind.BARRED
    if status == HTTPStatus.NOT_IMPLEMENTED or (status == HTTPStatus.NOT_FOUND and order.model):
        return Kind.UNKNOWN
    if status in BUSY and not number(answer.headers.get("x-sollol-attempts")):
        return Kind.BUSY
    return Kind.BROKEN if status >= HTTPStatus.INTERNAL_SERVER_ERROR else Kind.REFUSED


def reason_of(data: bytes) -> str:
    """The text of an error, as Ollama or OpenAI tells it."""
    try:
        value = orjson.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace").strip()[:REASON]
    told = value.get("error") if isinstance(value, dict) else None
    if isinstance(told, str) and told.startswith('{"error":'):
        return reason_of(told.encode())  # the engine's own words, which Ollama passes on as they are
    if isinstance(told, dict):
        told = told.get("message")
    return str(told or "").replace("\0", "")[:REASON]


def number(value: str | None) -> float:
    try:
        return float(value or 0)
    except ValueError:
        return 0.0
