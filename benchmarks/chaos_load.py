"""A steady load of requests whose answers are known, and a verdict on each answer that comes."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any

import aiohttp

CHAT, EMBEDDER = "llama3.2:3b", "nomic-embed-text:latest"
#: Different questions; prompts repeat, as they do.
QUESTIONS = 60
#: A request that was sent at most so many seconds before a fault began counts as met by it, if it still runs.
LATELY = 3.0
OK = 200


class End(StrEnum):
    """How a request ended for its client.

    `error`: told in the API's own form (a status, an error line; a /v1 stream has no other than a broken connection).
    `cut`: the connection broke where there is such a form. `lost`: no answer, or a proper end without the whole text.
    `wrong`: tokens twice, missing, or others than were to be said.
    """

    SERVED = "served"
    CONTINUED = "continued"
    ERROR = "error"
    CUT = "cut"
    LOST = "lost"
    WRONG = "wrong"


GOOD = frozenset({End.SERVED, End.CONTINUED})


@dataclass(frozen=True)
class Kind:
    """A kind of request; `body` makes it of a question."""

    name: str
    path: str
    body: Callable[[str], dict[str, Any]]
    stream: bool = False

    @property
    def v1(self) -> bool:
        return self.path.startswith("/v1/")

    @property
    def embeds(self) -> bool:
        return self.path == "/api/embed"


def chat(*, stream: bool) -> Callable[[str], dict[str, Any]]:
    return lambda question: {
        "model": CHAT,
        "messages": [{"role": "user", "content": question}],
        "stream": stream,
    }


KINDS = (
    Kind("native stream", "/api/chat", chat(stream=True), stream=True),
    Kind("native", "/api/chat", chat(stream=False)),
    Kind("/v1 stream", "/v1/chat/completions", chat(stream=True), stream=True),
    Kind("/v1", "/v1/chat/completions", chat(stream=False)),
    Kind("embedding", "/api/embed", lambda question: {"model": EMBEDDER, "input": question}),
)


@dataclass
class Said:
    """What came of an answer: `clean` if its transport ended properly, `ended` if it said that it is complete."""

    status: int = 0
    text: str = ""
    clean: bool = False
    ended: bool = False
    error: bool = False
    resumed: bool = False
    request_id: str = ""
    attempts: int = 1

    def read(self, kind: Kind, data: bytes) -> None:
        """Take the body, of which the last object may be missing a part."""
        if not kind.stream:
            self.take(kind, decoded(data))
            return
        for line in data.split(b"\n"):
            if kind.v1 and line == b"data: [DONE]":
                self.ended = True
            elif line and not line.startswith(b":"):
                self.take(kind, decoded(line.removeprefix(b"data:")))

    def take(self, kind: Kind, value: Mapping[str, Any] | None) -> None:
        if value is None:
            return
        self.error = self.error or "error" in value
        self.resumed = self.resumed or bool(value.get("_sollol_routing", {}).get("resumed"))
        if kind.embeds:
            self.text, self.ended = json.dumps(value.get("embeddings")), "embeddings" in value
        elif kind.v1:
            for choice in value.get("choices", ()):
                self.text += (choice.get("delta") or choice.get("message") or {}).get("content") or ""
            self.ended = self.ended or (not kind.stream and "choices" in value)
        else:
            self.text += (value.get("message") or {}).get("content") or ""
            self.ended = self.ended or value.get("done") is True

    def verdict(self, kind: Kind, expected: str) -> End:  # noqa: PLR0911 (a table of endings)
        if not self.status:
            return End.LOST
        if self.status != OK:
            return End.ERROR
        if self.ended and not self.error:
            right = self.text == expected
            return (End.CONTINUED if self.resumed else End.SERVED) if right else End.WRONG
        if kind.embeds or not kind.stream:
            return End.ERROR if self.error else End.LOST if self.clean else End.CUT
        if not expected.startswith(self.text):
            return End.WRONG
        if self.error or (kind.v1 and not self.clean):
            return End.ERROR
        return End.LOST if self.clean else End.CUT


def decoded(data: bytes) -> Mapping[str, Any] | None:
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


class Truth:
    """What an undisturbed node answers; each question is asked once."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session, self.url = session, url
        self.known: dict[tuple[str, str], str] = {}

    async def of(self, kind: Kind, question: str) -> str:
        """The text that is to be said, or the vectors as text."""
        one = KINDS[-1] if kind.embeds else KINDS[1]
        key = one.path, question
        if key not in self.known:
            self.known[key] = (await asked(self.session, self.url, one, question)).text
        return self.known[key]


async def asked(session: aiohttp.ClientSession, url: str, kind: Kind, question: str) -> Said:
    """Ask, and read all that comes until the transport ends in whatever way."""
    said, data = Said(), bytearray()
    try:
        async with session.post(url + kind.path, json=kind.body(question)) as answer:
            said.status = answer.status
            said.request_id = answer.headers.get("X-Sollol-Request-Id", "")
            said.attempts = int(answer.headers.get("X-Sollol-Attempts", "1"))
            async for piece in answer.content.iter_any():
                data += piece
            said.clean = True
    except (aiohttp.ClientError, OSError):
        pass  # whether an answer had begun tells the status
    except TimeoutError:
        said.status = 0
    said.read(kind, bytes(data))
    return said


@dataclass
class Request:
    """One request of the load; `met` is the number of the strike that it met, if any; `seconds` it took in all."""

    kind: Kind
    sent_at: float
    met: int | None
    end: End | None = None
    seconds: float = 0.0
    attempts: int = 1
    told: str = ""


@dataclass
class Load:
    """Requests of random kinds at a steady rate towards one address, whether or not earlier ones were answered."""

    session: aiohttp.ClientSession
    url: str
    truth: Truth
    random: Random
    rate: float
    ours: bool = False
    requests: list[Request] = field(default_factory=list)
    running: set[asyncio.Task[None]] = field(default_factory=set)
    strike: int | None = None

    async def run(self) -> None:
        """Send until cancelled."""
        due = time.monotonic()
        while True:
            due += 1.0 / self.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            kind, question = self.random.choice(KINDS), f"Question {self.random.randrange(QUESTIONS)}: why?"
            request = Request(kind, time.monotonic(), self.strike)
            self.requests.append(request)
            task = asyncio.create_task(self.ask(request, question))
            self.running.add(task)
            task.add_done_callback(self.running.discard)

    async def ask(self, request: Request, question: str) -> None:
        expected = await self.truth.of(request.kind, question)
        said = await asked(self.session, self.url, request.kind, question)
        request.seconds = time.monotonic() - request.sent_at
        if self.ours and request.kind.v1 and request.kind.stream and said.request_id:
            said.resumed = await self.resumed(said.request_id)
        request.attempts = said.attempts + said.resumed
        request.end = said.verdict(request.kind, expected)
        if request.end not in GOOD:
            request.told = f"{request.kind.name}, status {said.status}, {len(said.text)} of {len(expected)} characters"

    async def resumed(self, request_id: str) -> bool:
        """Whether a /v1 stream went on at another node, which its body does not tell."""
        async with self.session.get(f"{self.url}/api/requests/{request_id}") as answer:
            return bool((await answer.json()).get("resumed"))

    def begin(self, strike: int) -> None:
        """A fault begins: it meets what comes from now on, and what was sent lately and still runs."""
        self.strike, now = strike, time.monotonic()
        for request in reversed(self.requests):
            if now - request.sent_at > LATELY:
                break
            if request.end is None:
                request.met = strike

    async def done(self) -> None:
        """Wait for the answers that are still to come."""
        if self.running:
            await asyncio.wait(self.running)
