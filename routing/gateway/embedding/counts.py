"""Tokens that a node counted in several texts together, as the share of each."""

from collections.abc import Sequence
from math import floor

#: Bytes of a common token, and what any text has beside those.
BYTES, BESIDE = 4.0, 0.5


def weight(text: str) -> float:
    """Tokens that a text has by its length, about."""
    return BESIDE + (len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))) / BYTES


def shared(total: int, texts: Sequence[str]) -> list[int]:
    """Shares that sum to `total` exactly, by the lengths of the texts.

    A node tells one sum for all texts of a call. It is exact for one text, and for any texts in sum; how it is divided
    among several is an estimate. What is left by rounding goes to the largest remainders, as seats in a parliament.
    """
    if len(texts) == 1:
        return [total]
    weights = [weight(text) for text in texts]
    scale = total / sum(weights)
    parts = [one * scale for one in weights]
    counts = [floor(part) for part in parts]
    order = sorted(range(len(texts)), key=lambda i: counts[i] - parts[i])
    for i in order[: total - sum(counts)]:
        counts[i] += 1
    return counts
