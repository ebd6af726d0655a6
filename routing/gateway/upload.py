"""A request body that is too large to hold and must be sent again: small in memory, else on disk."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from typing import IO

from routing.gateway.disk import PIECE, aside
from routing.gateway.spool import refusing


class Upload:
    """Bytes written once and read any number of times; `size` in bytes.

    Up to 1 MiB stays in memory; what is more goes to a file without a name in `folder` (None: the system's for
    temporary files), of which nothing is left when the process ends. Raises `SpoolFull` or `SpoolFailed` where the disk
    does not take it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.size = 0
        self._folder = folder
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._file: IO[bytes] | None = None
        self._lock = Lock()

    async def write(self, data: bytes) -> None:
        """Add to the end."""
        self._pieces.append(data)
        self._waiting += len(data)
        self.size += len(data)
        if self._waiting > PIECE:
            with refusing(self._folder):
                await aside(self._flush)

    def _flush(self) -> None:
        data = memoryview(b"".join(self._pieces))
        self._pieces, self._waiting = [], 0
        if self._file is None:
            if self._folder is not None:
                self._folder.mkdir(0o700, parents=True, exist_ok=True)
            self._file = TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115 (lives as long as the upload)
        with self._lock:
            self._file.seek(0, 2)
            while data:
                data = data[self._file.write(data) :]

    async def pieces(self) -> AsyncIterator[bytes]:
        """All that was written, from the start, at most about 1 MiB at a time."""
        place = 0
        while self._file is not None and (data := await aside(partial(self._read, place))):
            yield data
            place += len(data)
        if rest := b"".join(self._pieces):
            yield rest

    def _read(self, place: int) -> bytes:
        assert self._file is not None  # noqa: S101 (only called with one)
        with self._lock:
            self._file.seek(place)
            return self._file.read(PIECE)

    async def aclose(self) -> None:
        """Let the bytes go; who still reads them from disk gets a `ValueError`."""
        self._pieces = []
        if self._file is not None:
            await aside(self._close)

    def _close(self) -> None:
        if self._file is not None:
            with self._lock:
                self._file.close()
