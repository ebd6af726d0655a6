"""Where the gateway of this process publishes what is going on, and the rest of the process reads it."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

#: Seconds for which a view is handed out again, and for which a thread waits for a newer one.
FRESH_S, PATIENCE_S = 0.5, 2.0


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

    @property
    def mark(self) -> bytes:
        """What its requests carry, so that it knows those that come back to it."""
        ...

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


class Panorama(Protocol):
    """The gateway's state for those who look at it, drawn when asked for; to be asked on the gateway's event loop."""

    def sections(self) -> dict[str, Any]:
        """All that the dashboard shows, JSON-ready."""
        ...

    def request(self, request_id: str) -> dict[str, Any] | None:
        """A request that has not ended or has ended lately; None for any other."""
        ...

    def models(self) -> list[dict[str, Any]]:
        """The models that can be talked to, with the nodes that have them."""
        ...


_view: LiveView | None = None
_viewed_at = float("-inf")
Offer = tuple[Callable[[], LiveView], asyncio.AbstractEventLoop]
_offer: Offer | None = None


def publish(view: LiveView | None) -> None:
    """Replace the view; None when the gateway stops."""
    global _view, _viewed_at
    _view, _viewed_at = view, time.monotonic()


def offer(make: Callable[[], LiveView] | None) -> None:
    """Make views when somebody asks for one, on the event loop that calls this; None when the gateway stops."""
    global _offer  # noqa: PLW0603 (one gateway per process)
    _offer = None if make is None else (make, asyncio.get_running_loop())
    publish(None)


def view() -> LiveView | None:
    """The newest view, half a second old at most, or None where this process runs no gateway; for any thread."""
    offered = _offer
    if offered is not None and (_view is None or time.monotonic() - _viewed_at > FRESH_S):
        make, loop = offered
        if running_loop() is loop:
            publish(make())
        else:
            made: Future[None] = Future()
            # A loop that is gone or very busy leaves the view as it is.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(renew, made, offered)
            with contextlib.suppress(TimeoutError):
                made.result(PATIENCE_S if loop.is_running() else 0.0)
    return _view


_gauges: Gauges | None = None


def publish_gauges(gauges: Gauges | None) -> None:
    """Replace what metrics tell beside the view; None when the gateway stops."""
    global _gauges  # noqa: PLW0603 (one gateway per process)
    _gauges = gauges


def gauges() -> Gauges | None:
    """The newest gauges, some seconds old at most, or None where this process runs no gateway."""
    return _gauges


def renew(made: "Future[None]", offered: Offer) -> None:
    """Publish a newer view, unless the gateway has stopped meanwhile."""
    try:
        if _offer is offered:
            publish(offered[0]())
        made.set_result(None)
    except Exception as error:  # noqa: BLE001 (whoever asked is told)
        made.set_exception(error)


def running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_panorama: Panorama | None = None


def show(panorama: Panorama | None) -> None:
    """Let the gateway be looked at; None when it stops."""
    global _panorama  # noqa: PLW0603 (one gateway per process)
    _panorama = panorama


def panorama() -> Panorama | None:
    """The gateway's state, for those who run in its event loop; None where there is none."""
    return _panorama


_gateway: Gateway | None = None


def serve(gateway: Gateway | None) -> None:
    """Make the gateway known to the rest of the process; None when it stops."""
    global _gateway  # noqa: PLW0603 (one gateway per process)
    _gateway = gateway


def gateway() -> Gateway | None:
    """The gateway of this process, for those who run in its event loop; None where there is none."""
    return _gateway
