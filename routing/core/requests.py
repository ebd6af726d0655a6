"""What the router knows of a request before it is placed."""

from dataclasses import dataclass
from enum import StrEnum


class Task(StrEnum):
    __hash__ = str.__hash__  # the enumeration's own is a Python call, here on the way of every request

    GENERATION = "generation"
    CHAT = "chat"
    EMBEDDING = "embedding"
    CLASSIFICATION = "classification"
    EXTRACTION = "extraction"
    SUMMARIZATION = "summarization"
    ANALYSIS = "analysis"
    TRANSCRIPTION = "transcription"


class Complexity(StrEnum):
    SIMPLE = "simple"
    MEDIUM = "medium"
    COMPLEX = "complex"


class Api(StrEnum):
    """Whose envelope and stream format an answer has."""

    OLLAMA = "ollama"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class Route(StrEnum):
    """The inference routes; the value is the path on the wire."""

    __hash__ = str.__hash__

    GENERATE = "/api/generate"
    CHAT = "/api/chat"
    EMBED = "/api/embed"
    EMBEDDINGS = "/api/embeddings"
    V1_CHAT = "/v1/chat/completions"
    V1_COMPLETIONS = "/v1/completions"
    V1_EMBEDDINGS = "/v1/embeddings"
    V1_RESPONSES = "/v1/responses"
    V1_MESSAGES = "/v1/messages"
    V1_TRANSCRIPTIONS = "/v1/audio/transcriptions"

    @property
    def api(self) -> Api:
        return api_of(self.value)


def api_of(path: str) -> Api:
    """The API that a path belongs to."""
    if path == Route.V1_MESSAGES.value:
        return Api.ANTHROPIC
    return Api.OPENAI if path.startswith("/v1/") else Api.OLLAMA


CHAT_ROUTES = frozenset({Route.CHAT, Route.V1_CHAT, Route.V1_RESPONSES, Route.V1_MESSAGES})
NATIVE_TEXT_ROUTES = frozenset({Route.GENERATE, Route.CHAT})
#: Routes whose bodies may carry options.
NATIVE_ROUTES = frozenset({Route.GENERATE, Route.CHAT, Route.EMBED, Route.EMBEDDINGS})
EMBEDDING_ROUTES = frozenset({Route.EMBED, Route.EMBEDDINGS, Route.V1_EMBEDDINGS})


@dataclass(slots=True)
class Profile:
    """One analysed request.

    `model` is the client's spelling, `key` its canonical form. Tokens are estimates: `prompt_tokens` from the length of
    the text, `max_tokens` what the client allows (None: no limit). `num_ctx` is set only where the client asked for it.
    `loads_only` and `unloads` mark requests without a prompt, which load or unload a model. `remote`: the name asks for
    a model that runs at ollama.com. Priorities: 1 batch to 10 critical; `bulk` is a part of a batch job, which nobody
    waits for, and keeps out of the way of all others. `deadline`, in seconds of the gateway's clock, is when the answer
    is worth nothing any more; `strategy` is the routing strategy that holds for the request, `labels` are those that a
    node must have for it. `prefixes` are the leading messages that a model's cache may hold:
    (hash of all up to here, characters up to here), growing. `resumable`: its stream, should it break off, can be
    continued at another node, as far as the body tells (`core.resuming`); `tools`: it offers some to the model.
    """

    route: Route
    model: str
    key: str
    stream: bool
    task: Task
    complexity: Complexity
    needs_gpu: bool
    prompt_tokens: int
    max_tokens: int | None = None
    num_ctx: int | None = None
    messages: int = 0
    loads_only: bool = False
    unloads: bool = False
    remote: bool = False
    priority: int = 5
    team_id: int | None = None
    deadline: float | None = None
    strategy: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    prefixes: tuple[tuple[int, int], ...] = ()
    resumable: bool = False
    tools: bool = False
    bulk: bool = False

    @property
    def batch(self) -> bool:
        """Whether the request belongs to the batch class, which yields to every interactive one."""
        return self.priority <= 1 or self.bulk
