"""What an embedding request asks for, and what is known of its answer so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from routing.core.analysis import is_zero, text
from routing.core.learner import Metrics
from routing.core.requests import Route
from routing.gateway import bodies

#: The member that holds the texts.
INPUTS = {Route.EMBED: "input", Route.V1_EMBEDDINGS: "input", Route.EMBEDDINGS: "prompt"}
#: Members that change nothing about a vector.
ASIDE = frozenset({"model", "name", "keep_alive", "priority", "user", "encoding_format"})


@dataclass(slots=True, eq=False)
class Wanted:
    """Vectors for `texts`, in their order; `rest` are the other members of the request's body.

    `vectors` are the answer's own bytes for each, None where they are not known yet, and `tokens` what each text is
    counted with. `digest` names the weights whose vectors are in the cache ("" where none may be used), `keys` those of
    the texts there, `weights` are those that the known vectors are of ("" where there are none). `cached` counts the
    vectors that came from the cache, `joined` the requests that shared a call with this one, itself included, and
    `parts` the texts that each node embedded where several did. `taught` is what the attempt told of its node where the
    answer tells of more than that, `whole`: the answer is put together already.
    """

    route: Route
    texts: Sequence[str]
    rest: Mapping[str, Any]
    vectors: list[bytes | None] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    digest: str = ""
    keys: list[bytes] = field(default_factory=list)
    weights: str = ""
    cached: int = 0
    joined: int = 0
    parts: dict[str, int] = field(default_factory=dict)
    taught: Metrics | None = None
    whole: bool = False

    def __post_init__(self) -> None:
        self.vectors, self.tokens = [None] * len(self.texts), [0] * len(self.texts)

    def missing(self) -> list[int]:
        """Which texts have no vector yet."""
        return [i for i, vector in enumerate(self.vectors) if vector is None]

    def take(self, indexes: Sequence[int], vectors: Sequence[bytes], tokens: Sequence[int]) -> None:
        for i, vector, count in zip(indexes, vectors, tokens, strict=True):
            self.vectors[i], self.tokens[i] = vector, count

    def forget(self) -> None:
        """Begin anew."""
        self.vectors, self.tokens = [None] * len(self.texts), [0] * len(self.texts)
        self.weights, self.cached, self.parts = "", 0, {}

    def pin(self, num_ctx: int) -> None:
        """Give the request this context size."""
        options = self.rest.get("options")
        self.rest = {**self.rest, "options": {**(options if isinstance(options, dict) else {}), "num_ctx": num_ctx}}

    @property
    def model(self) -> str:
        """The client's spelling, which the answer repeats."""
        return text(self.rest.get("model"))

    def body(self, texts: Sequence[str]) -> bytes:
        """The same request for other texts."""
        name = INPUTS[self.route]
        return bodies.encoded({**self.rest, name: texts[0] if name == "prompt" else texts})

    @property
    def told(self) -> str:
        """What was made of the request, for a header; empty if it went its way like any other."""
        words = [f"cached={self.cached}"] if self.cached else []
        words += [f"joined={self.joined}"] if self.joined > 1 else []
        words += [f"{node}={count}" for node, count in self.parts.items()] if len(self.parts) > 1 else []
        return ", ".join(words)

    @property
    def options(self) -> bytes | None:
        """All that a vector depends on beside the weights and the text; None where that cannot be written down."""
        form = self.rest.get("encoding_format") if self.route is Route.V1_EMBEDDINGS else None
        form = "raw" if self.route is Route.EMBEDDINGS else (form or "float")
        own = {name: value for name, value in self.rest.items() if name not in ASIDE and value not in (None, {})}
        if own.get("truncate") is True:
            del own["truncate"]  # as it is without it
        return sorted_json({"form": form, **own})

    @property
    def cacheable(self) -> bool:
        """Whether an answer that no node gave will do: not for one that is to unload the model."""
        return not is_zero(self.rest.get("keep_alive"))


def wanted(route: Route, body: Mapping[str, Any]) -> Wanted | None:
    """What a decoded body asks for; None where it has no texts or is for a node to refuse."""
    name = INPUTS[route]
    told = body.get(name)
    texts = [told] if isinstance(told, str) and told else told
    if not isinstance(texts, list) or not texts or not all(isinstance(one, str) for one in texts):
        return None
    if name == "prompt" and not isinstance(told, str):
        return None
    return Wanted(route, texts, {key: value for key, value in body.items() if key != name})


def sorted_json(value: Mapping[str, Any]) -> bytes | None:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return None
