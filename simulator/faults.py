"""Failure switches of a node, to be flipped while it runs."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

RUNNER_DIED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)
LOAD_FAILED = "llama-server process has terminated: exit status 2"


@dataclass
class Faults:
    """What is wrong with the node; every field may be set at any time and acts at once, running streams included.

    The `*_after_chunks` switches count the objects of one answer that were sent before the fault strikes; 0
    strikes before the first byte. Delays are in simulated seconds.
    """

    refuse: bool = False
    """New connections are refused and idle ones closed; running answers go on."""
    hang: bool = False
    """Connections are accepted and nothing is answered; running streams stand still until it is cleared."""
    busy: bool = False
    """Inference is refused with 503 and the busy text."""
    blank: bool = False
    """Inference is answered at once, with status 200 and nothing in it; running answers go on."""
    mute: bool = False
    """Answers in words are complete at once, without a word and without a token counted."""
    reset_after_chunks: int | None = None
    """The connection is reset."""
    cut_after_chunks: int | None = None
    """The connection is closed in order, but without the chunk that ends a body."""
    eof_after_chunks: int | None = None
    """The answer ends properly, without a done object."""
    error_after_chunks: int | None = None
    """An error line ends the stream; before the first object it is a status 500."""
    stall_after_chunks: int | None = None
    """Nothing more comes, and the connection stays open until the client leaves or the switch is cleared."""
    error_text: str = RUNNER_DIED
    """The text of the error line; one that says `out of memory` makes the node give up all its runners."""
    error_kills_runner: bool = False
    """The runner is lost with the error."""
    stall_load: bool = False
    """Loads do not end until it is cleared."""
    fail_load: str | None = None
    """Loading a model fails with 500 and this text."""
    fail_pull: str | None = None
    """Pulling a model fails with this text, after the first line."""
    cut_pull_after: float | None = None
    """The connection of a pull is closed, without the chunk that ends a body, at this part (0 to 1) of the weights."""
    fail_create: str | None = None
    """Creating a model fails with 500 and this text."""
    fail_delete: str | None = None
    """Deleting a model fails with 500 and this text, and the model stays."""
    slow_pull: float = 1.0
    """Downloads take this many times as long."""
    load_memory_errors: int = 0
    """So many load attempts run out of memory, each answered with one retry that needs less."""
    slow_tags: float = 0.0
    """/api/tags answers this much later."""
    slow_version: float = 0.0
    """/api/version answers this much later."""
    slow_first_byte: float = 0.0
    """Inference waits this long before its first byte, holding its slot."""
    slowdown: float = 1.0
    """Loads, prompts and tokens take this many times as long (a brown-out)."""
    version: str | None = None
    """/api/version says this."""
    times: int | None = None
    """How many more requests the switches for chunks, loads, busy, blank, mute and cut pulls hit; None is all."""

    def __post_init__(self) -> None:
        self._watchers: list[Callable[[str], None]] = []
        self._awake = asyncio.Event()
        self._next_break: tuple[int, str] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        """The node's loop, once it runs; switches may then be set from other threads too."""
        self._changed("")

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name not in _SWITCHES or "loop" not in self.__dict__:
            return
        if self.loop is None or self.loop is _running_loop():
            self._changed(name)
        else:
            self.loop.call_soon_threadsafe(self._changed, name)

    def _changed(self, name: str) -> None:
        self._next_break = self._first_break()
        for watcher in self._watchers:
            watcher(name)
        # Whoever waits looks at its switch again.
        self._awake.set()
        self._awake = asyncio.Event()

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Call back with the name of each switch that is set."""
        self._watchers.append(watcher)

    def set(self, **switches: Any) -> None:
        """Set several switches; an unknown name is a KeyError and then none is set."""
        if unknown := set(switches) - _SWITCHES:
            raise KeyError(", ".join(sorted(unknown)))
        for name, value in switches.items():
            setattr(self, name, value)

    def clear(self) -> None:
        """All switches back to normal."""
        for field in fields(self):
            if getattr(self, field.name) != field.default:
                setattr(self, field.name, field.default)

    def as_dict(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    async def until_thawed(self) -> None:
        """Return when the node does not hang."""
        while self.hang:
            await self._awake.wait()

    async def until_unstalled(self) -> None:
        """Return when the stall is cleared."""
        while self.stall_after_chunks is not None:
            await self._awake.wait()

    async def until_loads_go_on(self) -> None:
        """Return when loads may end."""
        while self.stall_load:
            await self._awake.wait()

    def strikes(self) -> bool:
        """Whether a switch that `times` limits hits once more; counts the hit."""
        if self.times is None:
            return True
        if self.times <= 0:
            return False
        self.times -= 1
        return True

    def pull_ends_at(self) -> float | None:
        """The part of the weights where a pull is to be cut; None when it goes through."""
        return None if self.times is not None and self.times <= 0 else self.cut_pull_after

    def next_break(self) -> tuple[int, str] | None:
        """After how many chunks an answer breaks first, and how; None when no such switch is set."""
        return self._next_break

    def _first_break(self) -> tuple[int, str] | None:
        if self.times is not None and self.times <= 0:
            return None
        breaks = [
            (chunks, kind)
            for chunks, kind in (
                (self.reset_after_chunks, "reset"),
                (self.cut_after_chunks, "cut"),
                (self.error_after_chunks, "error"),
                (self.eof_after_chunks, "eof"),
                (self.stall_after_chunks, "stall"),
            )
            if chunks is not None
        ]
        return min(breaks) if breaks else None


_SWITCHES = frozenset(field.name for field in fields(Faults))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
