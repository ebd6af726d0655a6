"""The vector cache's second storey: a file of SQLite, read and written in a thread of its own."""

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from routing.ports import Kept

log = logging.getLogger("sollol.embeddings")

#: Keys looked up in one query, entries dropped at a time, and batches that may wait to be written.
QUERY, DROPPED, MOST_PENDING = 500, 500, 200
#: What an entry takes in the file beside its vector.
ROW = 100
SCHEMA = """
CREATE TABLE IF NOT EXISTS vectors (
    key BLOB PRIMARY KEY, tokens INTEGER NOT NULL, used REAL NOT NULL, vector BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS vectors_used ON vectors (used);
"""
#: Drops those used longest ago, and tells how large they were.
OLDEST = "DELETE FROM vectors WHERE key IN (SELECT key FROM vectors ORDER BY used LIMIT ?) RETURNING length(vector)"


class DiskVectors:
    """A `VectorStore` of at most `most` bytes of entries; the least recently used go first.

    A file that cannot be used is a cache without entries: told in the log once, never an error of a request.
    """

    def __init__(self, path: Path, most: int) -> None:
        self.path, self.most = path, most
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vectors")
        self._database: sqlite3.Connection | None = None
        self._size = 0
        self._pending = 0
        self._broken = False

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, Kept]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(self._get, keys))

    def put(self, entries: Mapping[bytes, Kept]) -> None:
        """Write in the background; what comes faster than the disk takes it is not kept."""
        if self._pending < MOST_PENDING:
            self._pending += 1
            self._thread.submit(self._put, dict(entries))

    async def close(self) -> None:
        """Write what is pending, and close the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    # In the thread

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=5, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=OFF")  # a cache: what a crash loses is worked out again
            self._database.executescript(SCHEMA)
            self._size = self._sum()
        return self._database

    def _sum(self) -> int:
        assert self._database is not None  # noqa: S101 (just opened)
        return int(self._database.execute(f"SELECT total(length(vector) + {ROW}) FROM vectors").fetchone()[0])  # noqa: S608

    def _get(self, keys: Sequence[bytes]) -> dict[bytes, Kept]:
        found: dict[bytes, Kept] = {}
        with self._told(), (database := self._open()):
            for start in range(0, len(keys), QUERY):
                some = keys[start : start + QUERY]
                marks = ",".join("?" * len(some))
                rows = database.execute(f"SELECT key, tokens, vector FROM vectors WHERE key IN ({marks})", some)  # noqa: S608
                found |= {key: Kept(tokens, vector) for key, tokens, vector in rows}
            if found:
                used = [(time.time(), key) for key in found]
                database.executemany("UPDATE vectors SET used = ? WHERE key = ?", used)
        return found

    def _put(self, entries: Mapping[bytes, Kept]) -> None:
        self._pending -= 1
        with self._told(), (database := self._open()):
            rows = [(key, entry.tokens, time.time(), entry.vector) for key, entry in entries.items()]
            database.executemany("INSERT OR REPLACE INTO vectors (key, tokens, used, vector) VALUES (?, ?, ?, ?)", rows)
            self._size += sum(len(entry.vector) + ROW for entry in entries.values())
            if self._size > self.most:
                self._drop(database)

    def _drop(self, database: sqlite3.Connection) -> None:
        """Make room. Entries that were replaced, or written by another process, are counted anew."""
        self._size = self._sum()
        while self._size > self.most:
            oldest = database.execute(OLDEST, (DROPPED,)).fetchall()
            if not oldest:
                return
            self._size -= sum(length + ROW for (length,) in oldest)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
            self._broken = False
        except (sqlite3.Error, OSError) as error:
            if not self._broken:
                log.warning("the vector cache %s cannot be used: %s", self.path, error)
            self._broken = True

    def _close(self) -> None:
        if self._database is not None:
            with self._told():
                self._database.close()
            self._database = None
