"""Models on nodes as operators want them: pulled, deleted, loaded, unloaded; asked of the nodes themselves."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx
from django.utils import timezone
from django_q.tasks import async_task

from fleet.models import Node, NodeEvent, NodeModel
from fleet.services.health import sweep
from fleet.services.probe import Unanswered, accepted, ask, asked, clean, read_whole
from routing.core.names import canonical

#: Seconds after which a pull gives the worker to other tasks and goes on later: nodes keep what they have.
STEP_S = 60.0
#: Seconds in which a node may load a model, and those in which it may be silent while it checks what it has pulled.
LOAD_S, SILENT_S = 100.0, 600.0
#: Seconds that a task may take in all; a deletion or unloading ends within a few.
TASK_S = 720
#: Seconds between two looks at the progress.
TELL_S = 1.0
#: Steps of a pull without a byte after which it is given up.
STALLS = 10
THREADS = 16


class Verb(NamedTuple):
    """The kinds of the one event that an action leaves on a node: while it runs, when it has worked, when not."""

    now: str
    done: str
    failed: str


VERBS = {
    "pull": Verb("pulling", "pulled", "not_pulled"),
    "delete": Verb("deleting", "deleted", "not_deleted"),
    "load": Verb("loading", "loaded", "not_loaded"),
    "unload": Verb("unloading", "unloaded", "not_unloaded"),
}
#: How long a model stays loaded, as Ollama's keep_alive; without one, as the node is set.
KEEP = {"": "as the node is set", "1h": "one hour", "24h": "one day", "-1": "until it is unloaded"}


@dataclass(slots=True)
class Job:
    """One node's part; `layers` are bytes completed and in all by digest."""

    event: NodeEvent
    node: Node
    until: float
    layers: dict[str, tuple[int, int]] = field(default_factory=dict)
    status: str = ""
    over: bool = False
    fault: str = ""

    @property
    def completed(self) -> int:
        return sum(done for done, _ in self.layers.values())

    def __str__(self) -> str:
        total = sum(size for _, size in self.layers.values())
        if not total:
            return self.status
        return f"{100 * self.completed // total}% of {total / 1e9:,.1f} GB, {self.status}"


def order(action: str, nodes: Sequence[Node], model: str, keep: str = "") -> list[NodeEvent]:
    """Have the background worker do it on the nodes; each gets an event, which tells how it goes."""
    verb = VERBS[action]
    events = [
        NodeEvent.objects.create(
            node=node,
            node_name=node.name,
            at=timezone.now(),
            kind=verb.now,
            detail=f"{model}: waits for the background worker",
        )
        for node in nodes
    ]
    hand_over(action, model, [event.pk for event in events], keep)
    return events


def hand_over(action: str, model: str, events: Sequence[int], keep: str, completed: int = 0, stalls: int = 0) -> None:
    async_task(
        "fleet.tasks.stock.carry_out",
        action,
        model,
        list(events),
        keep,
        completed,
        stalls,
        task_name=f"{action} {model}"[:100],
        timeout=TASK_S,
    )


def carry_out(
    action: str,
    model: str,
    events: Sequence[int],
    keep: str = "",
    completed: int = 0,
    stalls: int = 0,
    transport: httpx.BaseTransport | None = None,
    step_s: float = STEP_S,
) -> str:
    """Do it on the nodes of the events, all at a time; what has not ended after `step_s` is handed over again.

    `completed` bytes were there after the step before; `stalls` steps have brought none. Returns a line that tells.
    """
    until = time.monotonic() + step_s
    rows = NodeEvent.objects.filter(pk__in=events, kind=VERBS[action].now, node__isnull=False).select_related("node")
    jobs = [Job(event, event.node, until) for event in rows if event.node is not None]
    run(action, model, keep, jobs, transport)
    ended = [job for job in jobs if job.over]
    waiting = [job for job in jobs if not job.over]
    now = sum(job.completed for job in waiting)
    stalls = 0 if now > completed else stalls + 1
    if stalls >= STALLS:
        for job in waiting:
            end(action, model, job, f"no byte has come for {STALLS * step_s / 60:.0f} min")
    elif waiting:
        hand_over(action, model, [job.event.pk for job in waiting], keep, now, stalls)
    sweep([job.node for job in ended], transport)
    return "; ".join(f"{job.node.name}: {job.fault or (VERBS[action].done if job.over else job)}" for job in jobs)


def run(action: str, model: str, keep: str, jobs: Sequence[Job], transport: httpx.BaseTransport | None) -> None:
    """Threads speak HTTP only; this one writes what they have come to."""
    if not jobs:
        return
    pool = ThreadPoolExecutor(min(THREADS, len(jobs)), thread_name_prefix="stock")
    with httpx.Client(transport=transport, trust_env=False, follow_redirects=False, limits=httpx.Limits()) as client:
        work = ACTIONS[action]
        waiting: dict[Future[None], Job] = {pool.submit(work, job, client, model, keep): job for job in jobs}
        try:
            while waiting:
                for future in wait(waiting, timeout=TELL_S, return_when="FIRST_COMPLETED").done:
                    settle(action, model, waiting.pop(future), future)
                tell(model, waiting.values())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def settle(action: str, model: str, job: Job, future: Future[None]) -> None:
    """A node that has failed after it has brought bytes is asked again: the next step goes on from there."""
    try:
        future.result()
    except Unanswered as error:
        if action == "pull" and job.completed and not job.fault:
            job.status = str(error)
            tell(model, [job])
            return
        end(action, model, job, str(error))
        return
    if job.over:
        end(action, model, job)
    else:
        tell(model, [job])


def end(action: str, model: str, job: Job, fault: str = "") -> None:
    verb, event = VERBS[action], job.event
    job.over, job.fault = True, fault
    event.kind, event.at = verb.failed if fault else verb.done, timezone.now()
    event.detail = f"{model}: {fault}" if fault else model
    event.save(update_fields=("kind", "at", "detail"))


def tell(model: str, jobs: Iterable[Job]) -> None:
    """Write how far the nodes are, where that has changed."""
    changed = []
    for job in jobs:
        detail = f"{model}: {job}" if str(job) else job.event.detail
        if detail != job.event.detail:
            job.event.detail = detail
            changed.append(job.event)
    NodeEvent.objects.bulk_update(changed, ("detail",))


def pull(job: Job, client: httpx.Client, model: str, keep: str) -> None:
    """Follow a pull to its end or to the end of the step, but do not leave a node that checks what has come."""
    timeout = httpx.Timeout(SILENT_S, connect=5.0)
    with asked(job.node, client, "POST", "/api/pull", {"model": model}, timeout) as answer:
        if answer.status_code != httpx.codes.OK:
            accepted(answer, "/api/pull", read_whole(answer, "/api/pull", LOAD_S))
        for line in answer.iter_lines():
            read_progress(job, line)
            if job.over or (time.monotonic() > job.until and job.status.startswith("pulling")):
                return
    raise Unanswered("the pull ended without a word on whether it had worked")


def read_progress(job: Job, line: str) -> None:
    try:
        told = json.loads(line)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise Unanswered("/api/pull is not Ollama's: it tells no JSON objects")
    if "error" in told:
        job.fault = clean(told["error"], 300) or "the node tells no reason"
        raise Unanswered(job.fault)
    job.status = clean(told.get("status"), 100)
    total, digest = told.get("total"), clean(told.get("digest"), 100)
    if digest and isinstance(total, int):
        done = told.get("completed")
        job.layers[digest] = (done if isinstance(done, int) else 0, total)
    job.over = job.status == "success"


def delete(job: Job, client: httpx.Client, model: str, keep: str) -> None:
    """Delete it from the node's disk, and from its memory: Ollama alone would leave a loaded copy running."""
    unload(job, client, model, keep)
    job.over = False
    with asked(job.node, client, "DELETE", "/api/delete", {"model": model}) as answer:
        accepted(answer, "/api/delete", read_whole(answer, "/api/delete", LOAD_S))
    job.over = True


def load(job: Job, client: httpx.Client, model: str, keep: str) -> None:
    body: dict[str, Any] = {"model": model, "stream": False}
    if keep:
        body["keep_alive"] = -1 if keep == "-1" else keep
    if only_embeds(job, client, model):
        ask(job.node, client, "POST", "/api/embed", {**body, "input": ""}, LOAD_S)
    else:
        ask(job.node, client, "POST", "/api/generate", {**body, "prompt": ""}, LOAD_S)
    job.over = True


def only_embeds(job: Job, client: httpx.Client, model: str) -> bool:
    """Whether the node says that the model cannot complete; older servers tell nothing, and are asked to complete."""
    able = ask(job.node, client, "POST", "/api/show", {"model": model}).get("capabilities")
    return isinstance(able, list) and "embedding" in able and "completion" not in able


def unload(job: Job, client: httpx.Client, model: str, keep: str) -> None:
    ask(job.node, client, "POST", "/api/generate", {"model": model, "prompt": "", "keep_alive": 0, "stream": False})
    job.over = True


ACTIONS: dict[str, Callable[[Job, httpx.Client, str, str], None]] = {
    "pull": pull,
    "delete": delete,
    "load": load,
    "unload": unload,
}


def having(model: str, nodes: Iterable[Node]) -> list[NodeModel]:
    """The rows of a model on these nodes, by whatever spelling, each with its node."""
    rows = NodeModel.objects.filter(node__in=list(nodes), key=canonical(model))
    return list(rows.select_related("node").order_by("node__name"))
