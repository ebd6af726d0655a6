"""Whether this gateway lives and may be sent requests: `GET /healthz` and `GET /readyz`."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from routing.core.dispatcher import Dispatcher
from routing.core.state import Reach
from routing.gateway.exchange import Exchange

OK, UNAVAILABLE = 200, 503
#: What is said of something that the gateway depends on and that is not there.
LACKING = frozenset({"away", "missing", "unwritable"})


def nothing() -> Mapping[str, Any]:
    return {}


class Condition:
    """What load balancers and supervisors ask for; no key is needed, and nothing confidential is told.

    `around` tells of what the gateway depends on: `database` is `ok`, `away` or `unwritable` (a full disk); what else
    it says is passed on. A gateway whose database is away serves from what it last read, and is ready; one that never
    read any is not. It is ready without a background worker or a channel layer, too.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.draining = self.started = False
        self.around: Callable[[], Mapping[str, Any]] = nothing

    @property
    def status(self) -> str:
        if self.draining:
            return "draining"
        if not self.started:
            return "starting"
        up, used = self.nodes()
        lacking = any(value in LACKING for value in self.around().values() if isinstance(value, str))
        return "ready" if up == used > 0 and not lacking else "degraded"

    def nodes(self) -> tuple[int, int]:
        """How many nodes answer, of those that are in use."""
        used = [node for node in self.dispatcher.nodes.values() if node.used]
        return sum(node.reach in {Reach.UP, Reach.SUSPECT} for node in used), len(used)

    async def alive(self, exchange: Exchange) -> None:
        """The event loop turns: all that a restart could mend."""
        await self._answer(exchange, OK, {"status": "ok"})

    async def ready(self, exchange: Exchange) -> None:
        """Whether requests should be sent here; not while it starts or stops."""
        up, used = self.nodes()
        status = self.status
        told = {
            "status": status,
            "nodes": {"up": up, "in_use": used},
            "waiting": self.dispatcher.waiting,
            "in_flight": self.dispatcher.in_flight(),
            **self.around(),
        }
        await self._answer(exchange, UNAVAILABLE if status in {"draining", "starting"} else OK, told)

    async def _answer(self, exchange: Exchange, status: int, told: Mapping[str, Any]) -> None:
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        await exchange.respond(status, headers, orjson.dumps(told))
