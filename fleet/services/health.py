"""The health sweep: looks at many nodes in parallel and stores what each says as soon as it has said it."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime

import httpx

from fleet.models import Node
from fleet.selectors.inventory import described_weights
from fleet.services.inventory import store
from fleet.services.probe import Sighting, look

log = logging.getLogger(__name__)

#: Seconds after which a sweep goes on without the nodes that have not answered; the next sweep asks them again.
SWEEP_S = 60.0
THREADS = 16


def sweep(
    nodes: Iterable[Node], transport: httpx.BaseTransport | None = None, seconds: float = SWEEP_S
) -> list[Sighting]:
    """Look at the nodes, store each sighting, and return them in the nodes' order.

    Threads speak HTTP only; the caller's thread alone writes. `transport` replaces the network, `seconds` bounds all.
    """
    chosen: Sequence[Node] = list(nodes)
    if not chosen:
        return []
    found: dict[int, Sighting] = {}
    for sighting in looks(chosen, transport, seconds):
        found[sighting.node_id] = sighting
        try:
            store(sighting)
        except Exception:  # one node's odd data must not end the sweep of the others
            log.exception("node %s: what it told could not be stored", sighting.url)
    return [found[node.pk] for node in chosen]


def looks(nodes: Sequence[Node], transport: httpx.BaseTransport | None, seconds: float) -> Iterator[Sighting]:
    known = described_weights(nodes)
    began, until = datetime.now(UTC), time.monotonic() + seconds
    pool = ThreadPoolExecutor(min(THREADS, len(nodes)), thread_name_prefix="sweep")
    client = httpx.Client(
        transport=transport,
        trust_env=False,
        follow_redirects=False,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=THREADS),
    )
    try:
        waiting: dict[Future[Sighting], Node] = {
            pool.submit(look, node, client, known.get(node.pk, ()), node.seen.version): node for node in nodes
        }
        while waiting and (left := until - time.monotonic()) > 0:
            for done in wait(waiting, timeout=left, return_when=FIRST_COMPLETED).done:
                yield outcome(waiting.pop(done), done.result, began)
        for node in waiting.values():
            yield Sighting(node.pk, node.url, began, reachable=False, error=f"no whole answer within {seconds:.0f} s")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        client.close()


def outcome(node: Node, result: Callable[[], Sighting], began: datetime) -> Sighting:
    try:
        return result()
    except (
        Exception
    ) as error:  # a fault of ours in reading an odd answer is this node's error text, not the sweep's end
        log.exception("node %s: looking at it failed", node.url)
        return Sighting(node.pk, node.url, began, reachable=False, error=f"unreadable answer: {error!r}")
