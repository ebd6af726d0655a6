"""Uploaded model files on disk, kept under the hash of their content and only if it is right."""

import errno
import fcntl
import os
import re
import shutil
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from routing.core.errors import Refusal
from routing.gateway.disk import PIECE, aside

DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})\Z")
UNFINISHED = ".upload-"
#: A file used less than so many seconds ago is part of something that goes on: a create follows its uploads.
RECENT_S = 3600.0
#: An unfinished file is not looked at before this age in seconds, in which its writer marks it as its own.
MARKED_S = 60.0
FULL = {errno.ENOSPC, errno.EDQUOT}


class DigestMismatch(Refusal):
    """The content's hash is not the one in its name."""

    status = 400

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f'digest mismatch, expected "{expected}", got "{got}"')


class BlobTooLarge(Refusal):
    """The file is above the configured limit."""

    status = 413

    def __init__(self, largest: int) -> None:
        super().__init__(f"the file is larger than {largest / (1 << 30):g} GiB (SOLLOL_MAX_BLOB_GB)")


class SpoolFull(Refusal):
    """The disk or the quota has no room for the upload."""

    status = 507

    def __init__(self, folder: Path | None) -> None:
        where = folder or "temporary files"
        super().__init__(
            f"the gateway's disk has no room for this upload ({where}): free some, or keep less (SOLLOL_SPOOL_GB)"
        )


class SpoolFailed(Refusal):
    """The disk does not take the upload for another reason, such as missing rights."""

    status = 500

    def __init__(self, folder: Path | None, error: OSError) -> None:
        super().__init__(f"the gateway cannot keep uploads in {folder or 'temporary files'}: {error.strerror or error}")


def digest_of(text: str) -> str | None:
    """`sha256:` and 64 lower-case hex digits, from either spelling; None where the text is no digest."""
    match = DIGEST.match(text)
    return f"sha256:{match.group(1).lower()}" if match else None


@contextmanager
def refusing(folder: Path | None) -> Iterator[None]:
    """What the disk refuses, in our words."""
    try:
        yield
    except OSError as error:
        raise SpoolFull(folder) if error.errno in FULL else SpoolFailed(folder, error) from error


class Unfinished:
    """A file on its way into a folder, written and hashed in threads; `size` in bytes, as received so far.

    Its lock tells `Spool.tidy`, of any process, that it is being written.
    """

    def __init__(self, folder: Path) -> None:
        self.path, self.size = folder / f"{UNFINISHED}{token_hex(8)}", 0
        self._file: BinaryIO | None = None
        self._hash = sha256()
        self._pieces: list[bytes] = []
        self._waiting = 0

    def begin(self, declared: int) -> None:
        """Make the file, and the folder; raises `SpoolFull` if there is less room than the declared bytes."""
        folder = self.path.parent
        folder.mkdir(0o700, parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < declared:
            raise SpoolFull(folder)
        self._file = os.fdopen(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb", buffering=0)
        locked(self._file, fcntl.LOCK_EX)

    async def write(self, data: bytes) -> None:
        self.size += len(data)
        self._waiting += len(data)
        self._pieces.append(data)
        if self._waiting >= PIECE:
            await aside(self._flush)

    def _flush(self) -> None:
        assert self._file is not None  # noqa: S101 (begun)
        data = memoryview(b"".join(self._pieces))
        self._pieces, self._waiting = [], 0
        self._hash.update(data)
        while data:
            data = data[self._file.write(data) :]

    def keep(self, path: Path, digest: str, now: float) -> None:
        """Move it to its place if its hash is right. Raises `DigestMismatch`."""
        self._flush()
        got = f"sha256:{self._hash.hexdigest()}"
        if got != digest:
            raise DigestMismatch(digest, got)
        assert self._file is not None  # noqa: S101 (begun)
        os.fsync(self._file.fileno())  # a name promises the content, also after a loss of power
        os.utime(self.path, (now, now))
        self.path.replace(path)

    def discard(self) -> None:
        """Close it, and remove it if it was not moved."""
        if self._file is not None:
            self._file.close()
            with suppress(FileNotFoundError):
                self.path.unlink()


class Spool:
    """A folder of files by digest, made on first use.

    `largest` is the most that one may have, `keep_bytes` what all together may after a `tidy`, which also removes what
    was not used for `keep_s` seconds. `wall` gives the seconds that file times are compared with.
    """

    def __init__(
        self, folder: Path, largest: int, keep_bytes: int, keep_s: float, wall: Callable[[], float] = time.time
    ) -> None:
        self.folder, self.largest = folder, largest
        self._keep_bytes, self._keep_s, self._wall = keep_bytes, keep_s, wall

    def has(self, digest: str) -> int | None:
        """Size in bytes of a complete file, which is thereby used; None if it is not here."""
        path, now = self._path(digest), self._wall()
        try:
            os.utime(path, (now, now))
            return path.stat().st_size
        except OSError:
            return None

    async def store(self, digest: str, pieces: AsyncIterable[bytes], declared: int | None = None) -> int:
        """Take a file in and return its size in bytes; `declared` is the size that was announced.

        Raises `DigestMismatch`, `BlobTooLarge`, `SpoolFull` or `SpoolFailed`, and keeps nothing then.
        """
        if (declared or 0) > self.largest:
            raise BlobTooLarge(self.largest)
        path = self._path(digest)
        upload = Unfinished(self.folder)
        try:
            with refusing(self.folder):
                await aside(lambda: upload.begin(declared or 0))
            await self._fill(upload, pieces)
            with refusing(self.folder):
                await aside(lambda: upload.keep(path, digest, self._wall()))
        finally:
            await aside(upload.discard)
        return upload.size

    async def _fill(self, upload: Unfinished, pieces: AsyncIterable[bytes]) -> None:
        async for data in pieces:
            if upload.size + len(data) > self.largest:
                raise BlobTooLarge(self.largest)
            with refusing(self.folder):
                await upload.write(data)

    async def pieces(self, digest: str) -> AsyncIterator[bytes]:
        """A file's content, 1 MiB at a time. Raises `FileNotFoundError`."""
        with ExitStack() as opened:
            file = await aside(lambda: opened.enter_context(self._open(digest)))
            while data := await aside(lambda: file.read(PIECE)):
                yield data

    def _open(self, digest: str) -> BinaryIO:
        file = self._path(digest).open("rb", buffering=0)
        locked(file, fcntl.LOCK_SH)
        self.has(digest)
        return file

    async def tidy(self) -> None:
        """Remove what is left of broken uploads, what is old, and the least recently used above `keep_bytes`.

        What is read or written now stays, and so does above `keep_bytes` what was used within the last hour.
        """
        await aside(self._tidy)

    def _tidy(self) -> None:
        now, kept = self._wall(), []
        for path, found in self._files():
            age, unfinished = now - found.st_mtime, path.name.startswith(UNFINISHED)
            if age > (MARKED_S if unfinished else self._keep_s):
                remove(path, found)
            elif not unfinished:
                kept.append((age, path, found))
        excess = sum(found.st_size for _, _, found in kept) - self._keep_bytes
        for age, path, found in sorted(kept, reverse=True, key=lambda file: file[0]):
            if excess > 0 and age > RECENT_S and remove(path, found):
                excess -= found.st_size

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Our files in the folder, finished or not; no others, should there be any."""
        with suppress(FileNotFoundError):
            for entry in os.scandir(self.folder):
                if DIGEST.match(entry.name) or entry.name.startswith(UNFINISHED):
                    with suppress(FileNotFoundError):
                        yield Path(entry.path), entry.stat(follow_symlinks=False)

    def _path(self, digest: str) -> Path:
        if digest_of(digest) != digest:
            raise ValueError(f"no digest in its proper form: {digest}")
        return self.folder / digest.replace(":", "-")


def locked(file: BinaryIO, kind: int) -> bool:
    """Lock a file for as long as it is open; whether that was possible."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def remove(path: Path, found: os.stat_result) -> bool:
    """Remove a file that nobody has open for reading or writing and nobody has used since it was found."""
    try:
        with path.open("r+b") as file:
            now = os.fstat(file.fileno())
            unused = (now.st_ino, now.st_mtime_ns) == (found.st_ino, found.st_mtime_ns)
            if unused and locked(file, fcntl.LOCK_EX):
                path.unlink()
                return True
    except OSError:
        return False
    return False
