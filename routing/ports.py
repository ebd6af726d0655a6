"""What the outside must provide to the router."""

from collections.abc import Callable
from typing import Protocol

from routing.core.records import NodeEvent, RequestRecord

#: Seconds that only move forward; injected, so that tests and models drive the router in their own time.
Clock = Callable[[], float]


class Recorder(Protocol):
    """Takes what has ended; both calls return at once, never block and never raise."""

    def request(self, record: RequestRecord) -> None: ...

    def event(self, event: NodeEvent) -> None: ...


class SlotStore(Protocol):
    """Says whether a slot that the dispatcher wants to use may be used.

    One gateway alone needs no other books than its own.
    """

    def acquire(self, node_id: int, runner: str, slots: int) -> bool: ...

    def release(self, node_id: int, runner: str) -> None: ...
