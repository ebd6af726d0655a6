"""Where the gateway of this process publishes what is going on, and the rest of the process reads it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Distribution(Protocol):
    """How values in seconds are distributed: counts per bucket and one beyond the last bound, and their sum."""

    @property
    def counts(self) -> Sequence[int]: ...

    @property
    def total(self) -> float: ...


class LiveView(Protocol):
    """An immutable picture of the gateway: `as_dict` is JSON-ready, the others are what metrics are made of."""

    @property
    def requests(self) -> Mapping[tuple[str, str, str, str, str], int]: ...

    @property
    def distributions(self) -> Mapping[str, Distribution]: ...

    @property
    def waits(self) -> Mapping[tuple[int, str], Distribution]: ...

    def as_dict(self) -> dict[str, Any]: ...


class Gauges(Protocol):
    """What metrics tell beside the view; `routing.gateway.gauges` says what is what."""

    @property
    def speeds(self) -> Sequence[Any]: ...

    @property
    def breakers(self) -> Mapping[tuple[str, str], str]: ...

    @property
    def quotas(self) -> Sequence[Any]: ...

    @property
    def first_bytes(self) -> Mapping[str, Distribution]: ...

    @property
    def rates(self) -> Mapping[str, Distribution]: ...

    @property
    def lag(self) -> Distribution: ...

    @property
    def pending(self) -> int: ...


class Gateway(Protocol):
    """What WebSockets need of the gateway: it serves HTTP requests as an ASGI application, and tells of them by id."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    def drain(self) -> None:
        """Say that no new requests should come."""
        ...

    def end_all(self) -> None:
        """End what still runs, in the form of each API."""
        ...

    def admits(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a page that sends these headers may connect."""
        ...

    def knows_key(self, key: str) -> bool:
        """Whether this is a key that is in force."""
        ...

    def told(self, request_id: str) -> dict[str, Any] | None:
        """A request that has not ended, as `GET /api/requests/{id}` tells it; None for any other."""
        ...


_view: LiveView | None = None


def publish(view: LiveView | None) -> None:
    """Replace the picture; None when the gateway stops."""
    global _view  # noqa: PLW0603 (one gateway per process)
    _view = view


def view() -> LiveView | None:
    """The newest picture, or None where this process runs no gateway."""
    return _view


_gauges: Gauges | None = None


def publish_gauges(gauges: Gauges | None) -> None:
    """Replace what metrics tell beside the view; None when the gateway stops."""
    global _gauges  # noqa: PLW0603 (one gateway per process)
    _gauges = gauges


def gauges() -> Gauges | None:
    """The newest gauges, some seconds old at most, or None where this process runs no gateway."""
    return _gauges


_gateway: Gateway | None = None


def serve(gateway: Gateway | None) -> None:
    """Make the gateway known to the rest of the process; None when it stops."""
    global _gateway  # noqa: PLW0603 (one gateway per process)
    _gateway = gateway


def gateway() -> Gateway | None:
    """The gateway of this process, for those who run in its event loop; None where there is none."""
    return _gateway
