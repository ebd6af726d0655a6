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

    def as_dict(self) -> dict[str, Any]: ...


_view: LiveView | None = None


def publish(view: LiveView | None) -> None:
    """Replace the picture; None when the gateway stops."""
    global _view  # noqa: PLW0603 (one gateway per process)
    _view = view


def view() -> LiveView | None:
    """The newest picture, or None where this process runs no gateway."""
    return _view
