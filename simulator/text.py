"""What simulated models say: every token is a pure function of the model and of the whole text before it.

So a text that is cut anywhere between two tokens and given back as the end of a prompt goes on exactly where it
was cut, for raw prompts and for assistant messages alike, and nothing has to be remembered.
"""

import re
from functools import lru_cache
from hashlib import sha256

DETERMINERS = ["the", "a", "this", "that", "each", "every", "one", "another", "some", "any", "our", "its"]
ADJECTIVES = [
    "small",
    "quiet",
    "warm",
    "distant",
    "steady",
    "careful",
    "bright",
    "hidden",
    "early",
    "simple",
    "patient",
    "narrow",
    "open",
    "gentle",
    "useful",
    "clear",
    "slow",
    "rapid",
    "common",
    "broken",
    "golden",
    "silver",
    "northern",
    "curious",
    "honest",
    "modern",
    "ancient",
    "shallow",
    "heavy",
    "empty",
    "spare",
    "idle",
]
NOUNS = [
    "river",
    "garden",
    "worker",
    "signal",
    "morning",
    "bridge",
    "harbour",
    "engine",
    "letter",
    "market",
    "window",
    "forest",
    "answer",
    "question",
    "queue",
    "cluster",
    "server",
    "memory",
    "packet",
    "teacher",
    "village",
    "lantern",
    "compass",
    "mountain",
    "orchard",
    "library",
    "shadow",
    "stone",
    "island",
    "path",
    "story",
    "message",
    "summer",
    "winter",
    "valley",
    "reader",
    "writer",
    "colony",
    "hive",
    "colour",
    "number",
    "pattern",
    "reason",
    "promise",
    "road",
]
VERBS = [
    "keeps",
    "finds",
    "carries",
    "follows",
    "builds",
    "opens",
    "holds",
    "reaches",
    "remembers",
    "explains",
    "measures",
    "gathers",
    "crosses",
    "watches",
    "repairs",
    "changes",
    "balances",
    "guards",
    "meets",
    "returns",
    "shares",
    "supports",
    "joins",
    "answers",
    "describes",
    "moves",
    "turns",
    "needs",
]
PREPOSITIONS = [
    "near",
    "under",
    "over",
    "beyond",
    "behind",
    "without",
    "inside",
    "beside",
    "across",
    "toward",
    "after",
    "before",
    "during",
    "against",
]
CONJUNCTIONS = ["and", "while", "because", "although", "until", "so"]

_CLASSES = (DETERMINERS, ADJECTIVES, NOUNS, VERBS, PREPOSITIONS, CONJUNCTIONS)
_DET, _ADJ, _NOUN, _VERB, _PREP, _CONJ = range(6)
_CLASS_OF = {word: number for number, words in enumerate(_CLASSES) for word in words}
# After a word of this class comes one of these, each as likely as it is listed.
_FOLLOWS = {
    _DET: (_ADJ, _NOUN, _NOUN, _ADJ, _NOUN),
    _ADJ: (_NOUN,),
    _NOUN: (_VERB, _VERB, _PREP, _CONJ),
    _VERB: (_DET, _DET, _PREP),
    _PREP: (_DET,),
    _CONJ: (_DET,),
}
_LONGEST_TOKEN = 3 + max(len(word) for words in _CLASSES for word in words)
_PIECES = re.compile(r" ?[^\s]+|\s")

TEXT_CACHE = 256
CACHED_PROMPT_CHARACTERS = 16_384


class Chain:
    """The tokens that follow a text.

    The state is the SHA-256 of model and text so far, and two things read off the end of the text itself: the
    last word, and for how many tokens this model has already been speaking (each of the last tokens is what the
    chain says after the text before it). An answer ends after the first sentence that is at least `fewest`
    tokens long and whose state says so, and at `most` tokens at the latest, counted from where the model began
    to speak, also when that was in an earlier request.
    """

    def __init__(self, digest: str, text: str, bounds: tuple[int, int] | None) -> None:
        """Stand at the end of `text`; `bounds` None makes a chain that never ends."""
        self._bounds = bounds
        self._state = sha256(digest.encode() + b"\n")
        self._spoken = 0
        self._at_blank = True
        self._sentence_ended = True
        self._class = _CONJ
        start = len(text) if bounds is None else _scan_start(text, bounds[1])
        self._stand_after(text[:start])
        for piece in _PIECES.findall(text, start):
            self._hear(piece)

    def take(self, limit: int | None) -> tuple[list[str], bool]:
        """Up to `limit` tokens, and whether the text ends there by itself."""
        tokens: list[str] = []
        while not self._ends():
            if limit is not None and len(tokens) >= limit:
                return tokens, False
            token = self._next_token()
            self._append(token)
            self._spoken += 1
            tokens.append(token)
        return tokens, True

    def _ends(self) -> bool:
        if self._bounds is None or not self._spoken:
            return False
        fewest, most = self._bounds
        if self._spoken >= most:
            return True
        return self._spoken >= fewest and self._sentence_ended and self._state.digest()[9] % 3 == 0

    def _next_token(self) -> str:
        state = self._state.digest()
        follows = _FOLLOWS[self._class]
        kind = _DET if self._sentence_ended else follows[state[0] % len(follows)]
        words = _CLASSES[kind]
        word = words[(state[1] << 8 | state[2]) % len(words)]
        if self._sentence_ended:
            word = word.capitalize()
        last = self._bounds is not None and self._spoken + 1 >= self._bounds[1]
        if last or (kind == _NOUN and state[3] % 4 == 0):
            word += "."
        return word if self._at_blank else " " + word

    def _hear(self, piece: str) -> None:
        """Pass over a piece of the given text, noting whether it is what the chain itself says here."""
        said = self._next_token() == piece
        if not said and piece[0] == " " and len(piece) > 1:
            # The text before may have ended in a blank, so that the token began without one.
            self._hear(" ")
            self._hear(piece[1:])
            return
        self._append(piece)
        self._spoken = self._spoken + 1 if said else 0

    def _append(self, piece: str) -> None:
        self._state.update(piece.encode("utf-8", "surrogatepass"))
        self._at_blank = piece[-1].isspace()
        if self._at_blank:
            self._sentence_ended = self._sentence_ended or piece == "\n"
        else:
            self._sentence_ended = piece[-1] in ".!?:"
            self._class = _class_of(piece.lstrip())

    def _stand_after(self, text: str) -> None:
        self._state.update(text.encode("utf-8", "surrogatepass"))
        stripped = text.rstrip()
        self._at_blank = not text or text[-1].isspace()
        self._sentence_ended = not stripped or stripped[-1] in ".!?:" or "\n" in text[len(stripped) :]
        self._class = _class_of("".join(stripped[-_LONGEST_TOKEN:].split()[-1:]))


def _class_of(word: str) -> int:
    return _CLASS_OF.get(word.rstrip(".").lower(), _CONJ)


def _scan_start(text: str, most: int) -> int:
    """Where to begin looking for a run of at most `most` tokens: before it, and not inside a short word."""
    start = max(0, len(text) - (most + 2) * _LONGEST_TOKEN)
    for position in range(start, max(0, start - _LONGEST_TOKEN), -1):
        if text[position - 1].isspace():
            return position
    return max(0, start - _LONGEST_TOKEN)


def continuation(
    digest: str, text: str, bounds: tuple[int, int] | None, limit: int | None = None
) -> tuple[tuple[str, ...], bool]:
    """The tokens that follow `text`, at most `limit`, and whether the answer ends there by itself."""
    if len(text) <= CACHED_PROMPT_CHARACTERS:
        return _cached_continuation(digest, text, bounds, limit)
    tokens, ended = Chain(digest, text, bounds).take(limit)
    return tuple(tokens), ended


@lru_cache(maxsize=TEXT_CACHE)
def _cached_continuation(
    digest: str, text: str, bounds: tuple[int, int] | None, limit: int | None
) -> tuple[tuple[str, ...], bool]:
    tokens, ended = Chain(digest, text, bounds).take(limit)
    return tuple(tokens), ended


BYTES_PER_TOKEN = 4


def count_tokens(text: str) -> int:
    """Prompt tokens of a text: one for each four bytes, at least one."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return max(1, -(-size // BYTES_PER_TOKEN))


def token_ids(text: str) -> list[int]:
    """The text as numbers, for the `context` field; `text_of_ids` gives it back."""
    raw = text.encode("utf-8", "surrogatepass")
    return [int.from_bytes(raw[i : i + BYTES_PER_TOKEN], "little") for i in range(0, len(raw), BYTES_PER_TOKEN)]


def text_of_ids(ids: list[int]) -> str:
    raw = b"".join((number & 0xFFFFFFFF).to_bytes(BYTES_PER_TOKEN, "little") for number in ids)
    return raw.rstrip(b"\0").decode("utf-8", "replace")


def common_prefix(left: str, right: str) -> int:
    """Characters that two texts have in common at their beginning."""
    low, high = 0, min(len(left), len(right))
    if left[:high] == right[:high]:
        return high
    while low < high - 1:
        middle = (low + high) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle
    return low
