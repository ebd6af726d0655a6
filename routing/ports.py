"""What the outside must provide to the router."""

from collections.abc import Callable
from typing import Any, Protocol

from routing.core.records import NodeEvent, RequestRecord

#: Seconds that only move forward; injected, so that tests and models drive the router in their own time.
Clock = Callable[[], float]


class Recorder(Protocol):
    """Takes what has ended; both calls return at once, never block and never raise."""

    def request(self, record: RequestRecord) -> None: ...

    def event(self, event: NodeEvent) -> None: ...


class History(Protocol):
    """Looks up what has ended."""

    async def find(self, request_id: str) -> dict[str, Any] | None:
        """The request as `routing.gateway.inquiry.ended_view` tells it; None where it is not known. Never raises."""
        ...


class NoHistory:
    """The history of a gateway that keeps none."""

    async def find(self, request_id: str) -> dict[str, Any] | None:
        return None


class SlotStore(Protocol):
    """Says whether a slot that the dispatcher wants to use may be used.

    One gateway alone needs no other books than its own.
    """

    def acquire(self, node_id: int, runner: str, slots: int) -> bool: ...

    def release(self, node_id: int, runner: str) -> None: ...
