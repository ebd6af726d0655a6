"""A request's stay on the node: noted when it arrives, counted while it is here, and missed when it leaves early."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from simulator.names import parse_name
from simulator.record import Arrival, Departure

if TYPE_CHECKING:
    from simulator.node import SimulatedNode

INFERENCE = frozenset(
    {
        "/api/generate",
        "/api/chat",
        "/api/embed",
        "/api/embeddings",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/v1/audio/transcriptions",
    }
)


@asynccontextmanager
async def stay(node: "SimulatedNode", path: str, model: str) -> AsyncIterator[None]:
    """Note the arrival of a request that is understood, and wait here while the node hangs."""
    node.record.arrivals.append(Arrival(path, model, node.clock.now()))
    counted = path in INFERENCE
    name = parse_name(model)
    shown = name.shortest if name else model
    if counted:
        node.record.enter(shown)
    try:
        await node.faults.until_thawed()
        yield
    except (asyncio.CancelledError, ConnectionError):
        if node.alive:
            node.record.aborted.append(Departure(path, model, node.clock.now()))
        raise
    finally:
        if counted:
            node.record.leave(shown)
