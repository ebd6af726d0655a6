"""Layers on their way to a node: one download for each digest, shared by all who want it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256

from simulator.clock import Clock
from simulator.faults import Faults
from simulator.library import Library
from simulator.models import ModelSpec
from simulator.profiles import Profile

STEP_SECONDS = 0.05
CONFIG_BYTES = 485


def layers_of(spec: ModelSpec) -> list[tuple[str, int]]:
    """Digest and bytes of the layers of a model, in the order in which they are pulled."""
    licence = sha256(spec.license.encode()).hexdigest()
    config = sha256(f"config\n{spec.digest}".encode()).hexdigest()
    if spec.remote_host:
        return [(f"sha256:{config}", CONFIG_BYTES)]
    return [
        (f"sha256:{spec.weights_digest}", spec.weights_bytes),
        (f"sha256:{licence}", len(spec.license)),
        (f"sha256:{config}", CONFIG_BYTES),
    ]


@dataclass(eq=False)
class Download:
    """One layer; `completed` is in bytes, and `weights` marks the layer that a fault may cut."""

    total: int
    weights: bool = False
    completed: float = 0.0
    watchers: int = 0
    task: asyncio.Task[None] | None = None

    @property
    def done(self) -> bool:
        return self.completed >= self.total

    def held_at(self, faults: Faults) -> float:
        """The part of the layer that may come for now."""
        end = faults.pull_ends_at() if self.weights else None
        return 1.0 if end is None else min(1.0, end)

    def cut(self, faults: Faults) -> bool:
        """Whether whoever watches is to lose the connection now; counts the hit."""
        end = faults.pull_ends_at() if self.weights else None
        return end is not None and self.completed >= self.total * end and faults.strikes()


class Downloads:
    """The layers that are being fetched, and how much of each is already there."""

    def __init__(self, clock: Clock, profile: Profile, library: Library, faults: Faults) -> None:
        self._clock = clock
        self._profile = profile
        self._library = library
        self._faults = faults
        self._downloads: dict[str, Download] = {}

    @asynccontextmanager
    async def watch(self, digest: str, total: int, *, weights: bool) -> AsyncIterator[Download]:
        """Take part in the download of a layer; it stops with the last watcher and goes on from there later."""
        download = self._downloads.setdefault(digest, Download(total, weights))
        download.watchers += 1
        if download.task is None:
            download.task = asyncio.get_running_loop().create_task(self._fetch(digest, download))
        try:
            yield download
        finally:
            download.watchers -= 1
            if not download.watchers and download.task is not None:
                download.task.cancel()
                with suppress(asyncio.CancelledError):
                    await download.task
                download.task = None

    def lose_all(self) -> None:
        """The process is gone; what was fetched stays on disk."""
        for download in self._downloads.values():
            if download.task is not None:
                download.task.cancel()
                download.task = None

    async def _fetch(self, digest: str, download: Download) -> None:
        last = self._clock.now()
        while not download.done:
            await self._clock.sleep(STEP_SECONDS)
            now = self._clock.now()
            active = sum(1 for other in self._downloads.values() if other.watchers)
            rate = self._profile.download_bytes_per_second / max(1, active) / self._faults.slow_pull
            most = max(download.completed, download.total * download.held_at(self._faults))
            download.completed = min(most, download.completed + rate * (now - last))
            last = now
        self._library.blobs[digest] = download.total
        self._downloads.pop(digest, None)
