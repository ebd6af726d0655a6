"""What the outside must provide to the router."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

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


class Kept(NamedTuple):
    """A vector as the cache keeps it: the tokens that its text was counted with, and its bytes in an answer."""

    tokens: int
    vector: bytes


class VectorStore(Protocol):
    """Keeps vectors by key beyond the memory of one gateway.

    Neither call blocks or raises: a store that is away knows nothing.
    """

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, Kept]: ...

    def put(self, entries: Mapping[bytes, Kept]) -> None: ...

    async def close(self) -> None: ...
