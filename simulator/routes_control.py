"""/_sim/...: reading a node's state and flipping its faults from outside the process, from this machine only."""

import ipaddress
from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from simulator.http_answer import empty_answer, json_answer

if TYPE_CHECKING:
    from simulator.node import SimulatedNode

PREFIX = "/_sim/"
RECENT = 100
DEFAULT_DOWN_SECONDS = 5.0


async def control(node: "SimulatedNode", request: web.BaseRequest) -> web.StreamResponse:
    """GET state and faults; POST faults (switches as JSON), clear, kill ({"seconds": real seconds until restart})."""
    if not ipaddress.ip_address(request.remote or "0.0.0.0").is_loopback:  # noqa: S104 - no address to listen on
        return empty_answer(HTTPStatus.FORBIDDEN)
    body = await request.read()
    try:
        given = orjson.loads(body) if body else {}
        return _controlled(node, request.method, request.path.removeprefix(PREFIX), given)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        return json_answer({"error": f"{type(error).__name__}: {error}"}, HTTPStatus.BAD_REQUEST)


def _controlled(node: "SimulatedNode", method: str, action: str, given: Mapping[str, Any]) -> web.StreamResponse:
    match method, action:
        case "GET", "state":
            return json_answer(state(node))
        case "GET", "faults":
            return json_answer(node.faults.as_dict())
        case "POST", "faults":
            node.faults.set(**given)
            return json_answer(node.faults.as_dict())
        case "POST", "clear":
            node.faults.clear()
            return json_answer(node.faults.as_dict())
        case "POST", "kill":
            seconds = float(given.get("seconds", DEFAULT_DOWN_SECONDS))
            node.kill_for(seconds)
            return json_answer({"killed_for": seconds})
    return json_answer({"error": "no such control"}, HTTPStatus.NOT_FOUND)


def state(node: "SimulatedNode") -> dict[str, Any]:
    """What the node has seen and holds; times are simulated seconds since its start."""
    record = node.record
    return {
        "name": node.name,
        "profile": node.profile.name,
        "version": node.version,
        "account": node.account,
        "speed": node.clock.speed,
        "now": node.clock.now(),
        "alive": node.alive,
        "models": [model.name.shortest for model in node.library.newest_first()],
        "runners": [
            {
                "model": runner.model.name.shortest,
                "num_ctx": runner.num_ctx,
                "parallel": runner.parallel,
                "references": runner.references,
                "running": runner.active,
                "waiting": runner.slots.waiting,
                "memory": runner.memory,
                "vram": runner.vram,
            }
            for runner in node.scheduler.runners.values()
        ],
        "loading": node.scheduler.loading,
        "queued": node.scheduler.queued,
        "requests": dict(record.requests),
        "in_flight": dict(record.in_flight),
        "peak_running": dict(record.peak_running),
        "aborted": len(record.aborted),
        "busy_refusals": record.busy_refusals,
        "tokens": record.tokens,
        "loads": [asdict(load) for load in record.loads[-RECENT:]],
        "evictions": [asdict(eviction) for eviction in record.evictions[-RECENT:]],
        "faults": node.faults.as_dict(),
    }
