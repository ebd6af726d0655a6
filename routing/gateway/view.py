"""An immutable picture of the gateway for the rest of the process."""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from routing.core.dispatcher import Dispatcher
from routing.core.names import display
from routing.core.records import Outcome, RequestRecord
from routing.core.state import NodeState, Reach
from routing.gateway.tally import Tally


@dataclass(frozen=True, slots=True)
class Distribution:
    """How values in seconds are distributed: counts per bucket of `tally.BUCKETS` and one beyond, and their sum."""

    counts: tuple[int, ...]
    total: float


@dataclass(frozen=True, slots=True)
class View:
    """What was seen at one moment; whoever holds it may read it from any thread.

    `data` is JSON-ready; `requests` counts by (route, model, team, node, outcome), `distributions` are those of time to
    first byte, total and queue, `waits` those of the queue by (priority, team).
    """

    data: dict[str, Any]
    requests: dict[tuple[str, str, str, str, str], int]
    distributions: dict[str, Distribution]
    waits: dict[tuple[int, str], Distribution]

    def as_dict(self) -> dict[str, Any]:
        return self.data


def view_of(dispatcher: Dispatcher, tally: Tally, now: float) -> View:
    """Nodes, queue and totals at this moment; `now` is the gateway's clock."""
    waiting = list(dispatcher.queued())
    return View(
        {
            "at": time.time(),
            "nodes": [node_view(node) for node in dispatcher.nodes.values()],
            "queue": {
                "depth": len(waiting),
                "oldest_s": round(max((now - ticket.arrived_at for ticket in waiting), default=0.0), 1),
                "by_priority": dict(Counter(str(ticket.request.priority) for ticket in waiting)),
            },
            "in_flight": dispatcher.in_flight(),
            "totals": {
                "requests": sum(tally.outcomes.values()),
                **{outcome.value: tally.outcomes[outcome] for outcome in Outcome},
                "prompt_tokens": tally.prompt_tokens,
                "output_tokens": tally.output_tokens,
                "retries": tally.retries,
                "resumed": tally.resumed,
            },
            "recent": [request_view(*entry) for entry in tally.recent],
        },
        {
            (route, display(model), team, node, outcome.value): count
            for (route, model, team, node, outcome), count in tally.requests.items()
        },
        {
            name: Distribution(tuple(histogram.counts), histogram.total)
            for name, histogram in (("first_byte", tally.first_byte), ("total", tally.total), ("queue", tally.queue))
        },
        {labels: Distribution(tuple(wait.counts), wait.total) for labels, wait in tally.waits.items()},
    )


def request_view(record: RequestRecord, team: str, node: str) -> dict[str, Any]:
    return {
        "id": record.request_id,
        "at": record.started_at,
        "model": record.model,
        "task": record.task_type,
        "priority": record.priority,
        "team": team,
        "node": node,
        "outcome": record.outcome.value,
        "status": record.status,
        "queue_ms": round(record.queue_ms, 1),
        "total_ms": round(record.total_ms, 1),
        "attempts": record.attempts,
        "resumed": record.resumed,
    }


def slots_of(node: NodeState) -> int:
    """Requests that the node can serve at once: each loaded model has slots of its own."""
    keys = {weights: resident.key for weights, resident in node.resident.items()}
    keys |= {lease.weights: lease.ticket.request.key for lease in node.leases}
    return sum(node.slots_of(key) for key in keys.values()) or node.spec.slots


def node_view(node: NodeState) -> dict[str, Any]:
    spec = node.spec
    state = "draining" if spec.draining else node.reach.value
    return {
        "id": spec.id,
        "name": spec.name,
        "url": spec.url,
        "state": state if spec.enabled else "disabled",
        "in_flight": node.in_flight,
        "slots": slots_of(node),
        "resident": sorted(resident.name for resident in node.resident.values())
        if node.reach is not Reach.DOWN
        else [],
        "vram_used": sum(resident.size_vram for resident in node.resident.values()),
        "vram_total": spec.vram_bytes,
        "models": len(node.models),
        "version": node.version,
        "breaker": node.breaker.state.value,
        "broken_models": [display(model) for model in node.broken_models()],
        "error": node.error,
        "requests": node.requests,
        "failures": node.failures,
    }
