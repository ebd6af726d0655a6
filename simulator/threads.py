"""A node on an event loop in a thread of its own, for callers that are not asynchronous."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from simulator.node import SimulatedNode
from simulator.profiles import Profile


@contextmanager
def node_in_thread(profile: str | Profile = "gpu-24gb", **arguments: Any) -> Iterator[SimulatedNode]:
    """A started node; arguments are those of SimulatedNode.

    Faults may be set and counters read from any thread. What else acts on the node belongs on its loop:
    `node.loop.call_soon_threadsafe(node.kill)`, `asyncio.run_coroutine_threadsafe(node.restart(), node.loop)`.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="simulated-node", daemon=True)
    thread.start()

    async def started() -> SimulatedNode:
        return await SimulatedNode(profile, **arguments).start()

    node: SimulatedNode | None = None
    try:
        node = asyncio.run_coroutine_threadsafe(started(), loop).result()
        yield node
    finally:
        if node is not None:
            asyncio.run_coroutine_threadsafe(node.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
