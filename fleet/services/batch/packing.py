"""How results are stored: exactly as the node printed them, in about half the bytes.

A vector's text has sixteen different characters at most, so two go into one byte; it takes microseconds and, unlike
rounding to binary numbers, gives back what was there, whatever a node prints. Other answers are deflated.
"""

import zlib
from array import array

import orjson

VECTOR, TEXT = b"v", b"z"
#: The characters of numbers and what stands between them, and the hexadecimal digits that stand for them.
CHARACTERS, DIGITS = b"0123456789,.-e+ ", b"0123456789abcdef"
PACK, UNPACK = bytes.maketrans(CHARACTERS, DIGITS), bytes.maketrans(DIGITS, CHARACTERS)
LEVEL = 1


def pack_vector(numbers: bytes) -> bytes:
    """A vector from the text between its brackets, such as `0.1,-2e-5`."""
    if numbers.translate(None, CHARACTERS):
        return TEXT + zlib.compress(b"[%b]" % numbers, LEVEL)
    return VECTOR + bytes.fromhex((numbers + b" " * (len(numbers) % 2)).translate(PACK).decode())


def pack_text(body: bytes) -> bytes:
    """Any other answer."""
    return TEXT + zlib.compress(body, LEVEL)


def unpack(packed: bytes) -> bytes:
    """The JSON text that was packed; a vector with its brackets."""
    if packed[:1] == VECTOR:
        return b"[%b]" % packed[1:].hex().encode().translate(UNPACK).rstrip(b" ")
    return zlib.decompress(packed[1:])


def numbers(packed: bytes) -> "array[float]":
    """A vector as 32-bit floats."""
    return array("f", orjson.loads(unpack(packed)))


def vectors(answer: bytes, count: int) -> list[bytes]:
    """The vectors of an answer of `/api/embed`, each as the text between its brackets.

    They are cut apart, not decoded, unless the node writes JSON in a form of its own. Raises ValueError where there are
    not so many.
    """
    begin, finish = answer.find(b'"embeddings":[['), answer.find(b"]]")
    cut = answer[begin + 15 : finish].split(b"],[") if 0 <= begin < finish else []
    if len(cut) == count and not any(b"[" in one or b'"' in one for one in cut):
        return cut
    value = orjson.loads(answer)
    found = value.get("embeddings") if isinstance(value, dict) else None
    if not isinstance(found, list) or not all(isinstance(one, list) for one in found):
        raise ValueError("the answer has no embeddings")
    if len(found) != count:
        raise ValueError(f"the answer has {len(found)} embeddings for {count} texts")
    return [orjson.dumps(one)[1:-1] for one in found]
