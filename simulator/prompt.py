"""From messages or a prompt to the one text that the engine continues."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from http import HTTPStatus
from typing import Any

from simulator.text import BYTES_PER_TOKEN, count_tokens
from simulator.wire import BadBody, Refusal, decode_image, fold, json_kind, typed

IMAGE_TOKENS = 256
TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust the "
    "context length in settings, or use a model with a longer context length"
)


class PromptTooLong(Refusal):
    def __init__(self) -> None:
        super().__init__(HTTPStatus.BAD_REQUEST, TOO_LONG)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat; images are 16 hex digits of their hash."""

    role: str
    content: str = ""
    thinking: str = ""
    images: tuple[str, ...] = ()
    tool_calls: tuple[Any, ...] = ()
    tool_name: str = ""

    def render(self) -> str:
        text = f"<|{self.role}|>\n"
        if self.tool_name:
            text += f"[{self.tool_name}] "
        text += "".join(f"[img-{image}]" for image in self.images) + self.content
        if self.tool_calls:
            text += json.dumps(self.tool_calls, separators=(",", ":"))
        return text + "\n"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the engine is given: `base` ends where an answer begins, `partial` is what has been said of it already."""

    base: str
    partial: str = ""
    partial_thinking: str = ""
    images: int = 0
    extra_tokens: int = 0

    @property
    def text(self) -> str:
        """The text that is evaluated and held in the slot."""
        return self.base + self.partial_thinking + self.partial

    @property
    def tokens(self) -> int:
        return count_tokens(self.text) + self.images * IMAGE_TOKENS + self.extra_tokens


def read_messages(value: Any) -> list[Message]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadBody(
            f"json: cannot unmarshal {json_kind(value)} into Go struct field ChatRequest.messages of type []api.Message"
        )
    return [_read_message(item) for item in value]


def _read_message(item: Any) -> Message:
    if not isinstance(item, dict):
        raise BadBody(
            f"json: cannot unmarshal {json_kind(item)} into Go struct field ChatRequest.messages of type api.Message"
        )
    message = fold(item)
    return Message(
        role=typed(message, "role", str, "", owner="Message").lower(),
        content=typed(message, "content", str, "", owner="Message"),
        thinking=typed(message, "thinking", str, "", owner="Message"),
        images=read_images(message.get("images")),
        tool_calls=tuple(typed(message, "tool_calls", list, [], owner="Message")),
        tool_name=typed(message, "tool_name", str, "", owner="Message"),
    )


def read_images(value: Any) -> tuple[str, ...]:
    """Hashes of the images of a message."""
    images = listed(value, "Message.images", "[]api.ImageData")
    return tuple(sha256(decode_image(image)).hexdigest()[:16] for image in images)


def listed(value: Any, name: str, kind: str) -> list[Any]:
    """A member that must be a list where it is given."""
    if value is None or isinstance(value, list):
        return value or []
    raise BadBody(f"json: cannot unmarshal {json_kind(value)} into Go struct field {name} of type {kind}")


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


def read_tools(value: Any) -> list[Tool]:
    tools = []
    for item in listed(value, "ChatRequest.tools", "api.Tools"):
        function = item.get("function") if isinstance(item, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            parameters = function.get("parameters")
            tools.append(Tool(function["name"], parameters if isinstance(parameters, dict) else {}))
    return tools


def chat_prompt(
    messages: Sequence[Message],
    tools: Sequence[Tool],
    *,
    system: str,
    prefill: str,
    num_ctx: int,
    truncate: bool,
) -> Prompt:
    """A conversation as one text; when the last message is the assistant's, its text is left open to be continued."""
    said = messages[-1] if messages and messages[-1].role == "assistant" and not messages[-1].tool_calls else None
    before = list(messages[:-1] if said else messages)
    if system and not any(message.role == "system" for message in before):
        before.insert(0, Message("system", system))
    head = "<|tools|>\n" + " ".join(tool.name for tool in tools) + "\n" if tools else ""
    before = _fit(before, said, head, num_ctx, truncate=truncate)
    base = head + "".join(message.render() for message in before) + "<|assistant|>\n"
    images = sum(len(message.images) for message in before)
    if said is None:
        return Prompt(base, images=images)
    if prefill == "restart":
        return Prompt(base, images=images, extra_tokens=count_tokens(said.content))
    return Prompt(base, said.content, "" if said.content else said.thinking, images=images)


def _fit(messages: list[Message], said: Message | None, head: str, num_ctx: int, *, truncate: bool) -> list[Message]:
    """Drop the oldest messages until the rest fits; system messages and the last one stay."""
    size = {id(message): count_tokens(message.render()) + len(message.images) * IMAGE_TOKENS for message in messages}
    total = sum(size.values()) + count_tokens(head) + (count_tokens(said.content) if said else 0)
    if total <= num_ctx:
        return messages
    if not truncate:
        raise PromptTooLong
    kept = list(messages)
    for message in messages[:-1]:
        if total <= num_ctx:
            break
        if message.role != "system":
            kept.remove(message)
            total -= size[id(message)]
    return kept


def generate_prompt(
    prompt: str, *, system: str, suffix: str, raw: bool, before: str, images: tuple[str, ...]
) -> Prompt:
    """One prompt as one text; `before` is the text of an earlier answer's `context`."""
    if raw:
        return Prompt(before + prompt, images=len(images))
    if suffix:
        return Prompt(f"{before}<|prefix|>\n{prompt}\n<|suffix|>\n{suffix}\n<|middle|>\n", images=len(images))
    messages = [Message("user", prompt, images=images)]
    if system and not before:
        messages.insert(0, Message("system", system))
    base = before + ("\n" if before else "") + "".join(message.render() for message in messages)
    return Prompt(base + "<|assistant|>\n", images=len(images))


def cut_middle(prompt: Prompt, num_ctx: int, num_keep: int, *, truncate: bool) -> Prompt:
    """A prompt that fits the context: its first `num_keep` tokens and its end stay."""
    if prompt.tokens <= num_ctx:
        return prompt
    if not truncate:
        raise PromptTooLong
    keep = min(num_keep, num_ctx // 2) * BYTES_PER_TOKEN
    rest = max(1, num_ctx * BYTES_PER_TOKEN - keep - prompt.images * IMAGE_TOKENS * BYTES_PER_TOKEN)
    base = prompt.base[:keep] + prompt.base[-rest:]
    while count_tokens(base) > num_ctx:
        base = base[:keep] + base[keep + max(1, len(base) // 16) :]
    return Prompt(base, images=prompt.images)
