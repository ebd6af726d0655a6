"""What a model answers to a prompt, decided before its tokens are paced."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from simulator.library import InstalledModel
from simulator.prompt import Prompt, Tool
from simulator.schema import SchemaValues, json_text
from simulator.text import continuation, count_tokens

THINKING_TOKENS = (10, 40)
EXACT_DEFAULT = 64
JSON_PIECE_CHARACTERS = 4
_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True)
class ToolCall:
    id: str
    name: str
    arguments: Mapping[str, Any]

    def native(self, index: int) -> dict[str, Any]:
        return {"id": self.id, "function": {"index": index, "name": self.name, "arguments": self.arguments}}

    def openai(self, index: int) -> dict[str, Any]:
        arguments = json.dumps(self.arguments, separators=(",", ":"), ensure_ascii=False)
        return {
            "id": self.id,
            "index": index,
            "type": "function",
            "function": {"name": self.name, "arguments": arguments},
        }


@dataclass(frozen=True)
class Answer:
    """Tokens in the order in which they are made: thinking, content, then those of tool calls, which do not show."""

    thinking: tuple[str, ...] = ()
    content: tuple[str, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    hidden_tokens: int = 0
    done_reason: str = "stop"

    @property
    def tokens(self) -> int:
        return len(self.thinking) + len(self.content) + self.hidden_tokens


@dataclass(frozen=True)
class Question:
    """What decides an answer besides the prompt; `limit` is num_predict (None: unlimited)."""

    think: bool = False
    limit: int | None = None
    stop: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    tools: Sequence[Tool] = ()
    asked: str = ""
    """The last message when it is the user's: a tool that it names is called."""
    exact: bool = False
    """The answer ends at `limit` and nowhere else."""


def compose(model: InstalledModel, prompt: Prompt, question: Question) -> Answer:
    """The whole answer, a pure function of its arguments."""
    limit = question.limit
    if question.exact and limit is None:
        limit = EXACT_DEFAULT
    thinking: tuple[str, ...] = ()
    if question.think and not prompt.partial:
        base = f"{prompt.base}<think>\n{prompt.partial_thinking}"
        thinking, ended = continuation(model.digest, base, THINKING_TOKENS, limit)
        if not ended:
            return Answer(thinking, done_reason="length")
        limit = None if limit is None else limit - len(thinking)
    calls = _calls(model, prompt, question)
    if calls:
        hidden = sum(count_tokens(json.dumps(call.native(0))) for call in calls)
        return Answer(thinking, calls=calls, hidden_tokens=hidden)
    content, ended = _content(model, prompt, question, limit)
    content, stopped = _stopped(content, question.stop)
    if prompt.partial and model.spec.prefill == "trim" and content:
        content = (content[0].lstrip(), *content[1:])
    return Answer(thinking, content, done_reason="stop" if ended or stopped else "length")


def _content(
    model: InstalledModel, prompt: Prompt, question: Question, limit: int | None
) -> tuple[tuple[str, ...], bool]:
    if question.schema is None:
        bounds = None if question.exact else model.spec.answer_tokens
        return continuation(model.digest, prompt.base + prompt.partial, bounds, limit)
    whole = json_text(f"{model.digest}\n{prompt.base}", question.schema)
    rest = whole.removeprefix(prompt.partial)
    pieces = tuple(rest[i : i + JSON_PIECE_CHARACTERS] for i in range(0, len(rest), JSON_PIECE_CHARACTERS))
    ended = limit is None or len(pieces) <= limit
    return (pieces, True) if ended else (pieces[:limit], False)


def _stopped(content: tuple[str, ...], stops: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """The tokens before the first stop sequence."""
    text = "".join(content) if stops else ""
    ends = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    if not ends:
        return content, False
    kept: list[str] = []
    left = min(ends)
    for token in content:
        if left <= 0:
            break
        kept.append(token[:left])
        left -= len(token)
    return tuple(kept), True


def _calls(model: InstalledModel, prompt: Prompt, question: Question) -> tuple[ToolCall, ...]:
    """A call of each tool whose name is in the last message of the user."""
    calls = []
    for tool in question.tools:
        if re.search(rf"(?<!\w){re.escape(tool.name)}(?!\w)", question.asked):
            seed = f"{model.digest}\n{prompt.base}\n{tool.name}"
            arguments = SchemaValues(seed, tool.parameters).value() if tool.parameters.get("properties") else {}
            calls.append(ToolCall(_call_id(seed), tool.name, arguments))
    return tuple(calls)


def _call_id(seed: str) -> str:
    raw = sha256(seed.encode("utf-8", "surrogatepass")).digest()
    return "call_" + "".join(_ID_ALPHABET[byte % len(_ID_ALPHABET)] for byte in raw[:8])
