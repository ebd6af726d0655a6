"""Vectors that were answered before, bounded in bytes: in memory, and behind that in a store that outlives it."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from routing.gateway.embedding.asked import Wanted
from routing.ports import Kept, VectorStore

#: Bytes that an entry takes beside its vector, about: key, dictionary, objects.
ENTRY = 250
KEY_BYTES = 20
#: Texts whose keys are worked out off the event loop.
MANY = 500


@dataclass(slots=True)
class VectorCache:
    """The least recently used vectors go first. `most` in bytes, 0: nothing is kept.

    `hits` and `misses` count texts; `size` is what the entries take.
    """

    most: int = 0
    store: VectorStore | None = None
    entries: "OrderedDict[bytes, Kept]" = field(default_factory=OrderedDict)
    size: int = 0
    hits: int = 0
    misses: int = 0

    @property
    def on(self) -> bool:
        return self.most > 0 or self.store is not None

    async def fill(self, wanted: Wanted) -> None:
        """Take what is known into the answer."""
        options = wanted.options if wanted.digest else None
        if options is None:
            wanted.digest = ""
            return
        if len(wanted.texts) > MANY:
            wanted.keys = await asyncio.to_thread(keys_of, wanted, options)
        else:
            wanted.keys = keys_of(wanted, options)
        keys = wanted.keys
        found = {key: entry for key in keys if (entry := self._known(key)) is not None}
        if self.store is not None and (unknown := {key for key in keys if key not in found}):
            stored = await self.store.get(sorted(unknown))
            self._remember(stored.items())
            found |= stored
        for i, key in enumerate(keys):
            entry = found.get(key)
            if entry is not None:
                wanted.take([i], [entry.vector], [entry.tokens])
                wanted.cached += 1
        self.hits += wanted.cached
        self.misses += len(keys) - wanted.cached

    def keep(self, wanted: Wanted, indexes: Sequence[int]) -> None:
        """Remember what a node has answered of these; `fill` came before."""
        fresh = {
            wanted.keys[i]: Kept(wanted.tokens[i], vector) for i in indexes if (vector := wanted.vectors[i]) is not None
        }
        self._remember(fresh.items())
        if self.store is not None:
            self.store.put(fresh)

    def _known(self, key: bytes) -> Kept | None:
        entry = self.entries.get(key)
        if entry is not None:
            self.entries.move_to_end(key)
        return entry

    def _remember(self, fresh: Iterable[tuple[bytes, Kept]]) -> None:
        for key, entry in fresh:
            before = self.entries.pop(key, None)
            if before is not None:
                self.size -= len(before.vector) + ENTRY
            self.entries[key] = entry
            self.size += len(entry.vector) + ENTRY
        while self.size > self.most:
            _, gone = self.entries.popitem(last=False)
            self.size -= len(gone.vector) + ENTRY


def keys_of(wanted: Wanted, options: bytes) -> list[bytes]:
    """A key for each text: of the weights, what else a vector depends on, and the text."""
    start = blake2b(wanted.digest.encode() + b"\0" + options + b"\0", digest_size=KEY_BYTES)
    return [keyed(start.copy(), text) for text in wanted.texts]


def keyed(start: blake2b, text: str) -> bytes:
    start.update(text.encode("utf-8", "surrogatepass"))
    return start.digest()
