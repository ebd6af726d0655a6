"""Batch jobs in tests: a gateway that answers as told, and jobs whose steps run here and now."""

import json
from collections import Counter
from dataclasses import dataclass, field

import httpx

from fleet.models import BatchJob, BatchLane
from fleet.services.batch import jobs, steps
from fleet.services.batch.jobs import Input, Owner

MODEL = "nomic-embed-text"


@dataclass
class FakeGateway(httpx.BaseTransport):
    """Answers calls of steps: texts in `bad` spoil theirs with `error`; `refusal`, where there is one, answers all.

    `before` is called with each request. A vector tells its text's length.
    """

    bad: frozenset[str] = frozenset()
    error: tuple[int, str] = (400, "the input length exceeds the context length")
    refusal: tuple[int, dict, dict] | None = None
    before: object = None
    calls: list[list[str]] = field(default_factory=list)
    headers: list[httpx.Headers] = field(default_factory=list)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.before is not None:
            self.before(request)
        body = json.loads(request.read())
        self.headers.append(request.headers)
        if self.refusal is not None:
            status, told, headers = self.refusal
            return httpx.Response(status, json=told, headers=headers)
        if request.url.path != "/api/embed":
            return httpx.Response(200, json={"echo": body}, headers={"x-sollol-request-id": "r1"})
        texts = body["input"]
        self.calls.append(texts)
        if self.bad.intersection(texts):
            return httpx.Response(self.error[0], json={"error": self.error[1]}, headers={"x-sollol-attempts": "1"})
        vectors = ",".join(f"[{len(text)},0.12345679,-1e-9]" for text in texts)
        content = (
            f'{{"model":"m","embeddings":[{vectors}],"total_duration":9,"load_duration":1,"prompt_eval_count":'
            f"{2 * len(texts)}}}"
        )
        told = {"x-sollol-node": "ant", "x-sollol-queue-ms": "0.1", "x-sollol-request-id": "r1"}
        return httpx.Response(200, content=content.encode(), headers=told)

    @property
    def sizes(self) -> Counter:
        return Counter(len(texts) for texts in self.calls)


def texts(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


def make(count: int | list[str] = 3, owner: Owner | None = None, **order) -> BatchJob:
    """A job at work, of so many texts or of these."""
    given = texts(count) if isinstance(count, int) else count
    inputs = [Input(text, f"c{number}") for number, text in enumerate(given)]
    return jobs.create(owner or Owner(), inputs, **{"model": MODEL} | order)


def turn(job: BatchJob, gateway: FakeGateway, lane: int = 0, number: int | None = None) -> str:
    """Run the next step of a lane; whatever it hands over stays undone."""
    if number is None:
        number = BatchLane.objects.get(job=job, number=lane).turn
    told = steps.work(job.pk, lane, number, gateway)
    job.refresh_from_db()
    return told
