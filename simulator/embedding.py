"""Embeddings: a pure function of model and text in which texts with words in common are near each other."""

import math
import re
import struct
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256, shake_256

CACHED_VECTORS = 512
_WORD = re.compile(r"\w+")
# Each word moves so many coordinates; the rest of the vector is a faint trace of the whole text.
_COORDINATES_PER_WORD = 16
_TRACE = 0.2


@lru_cache(maxsize=CACHED_VECTORS)
def raw_vector(digest: str, text: str, width: int) -> tuple[float, ...]:
    """The engine's output, `width` numbers that are not normalised."""
    trace = shake_256(f"{digest}\n{text}".encode("utf-8", "surrogatepass")).digest(width)
    vector = [_TRACE * (byte - 127.5) / 127.5 for byte in trace]
    for word in _WORD.findall(text.lower()):
        for coordinate, weight in _word_vector(digest, word, width):
            vector[coordinate] += weight
    return tuple(vector)


@lru_cache(maxsize=8192)
def _word_vector(digest: str, word: str, width: int) -> tuple[tuple[int, float], ...]:
    raw = sha256(f"{digest}\n{word}".encode("utf-8", "surrogatepass")).digest() * 2
    numbers = struct.unpack(f"<{_COORDINATES_PER_WORD}I", raw[: 4 * _COORDINATES_PER_WORD])
    return tuple((number % width, 1.0 if number >> 31 else -1.0) for number in numbers)


def normalised(vector: Sequence[float]) -> tuple[float, ...]:
    """The vector at length 1, each number a 32-bit float."""
    length = math.sqrt(math.fsum(value * value for value in vector)) or 1.0
    packed = struct.pack(f"<{len(vector)}f", *(value / length for value in vector))
    return struct.unpack(f"<{len(vector)}f", packed)


def embed(digest: str, text: str, width: int, dimensions: int = 0) -> tuple[float, ...]:
    """The L2-normalised embedding; with `dimensions` it is cut to so many numbers and normalised again."""
    vector = normalised(raw_vector(digest, text, width))
    return normalised(vector[:dimensions]) if 0 < dimensions < width else vector
