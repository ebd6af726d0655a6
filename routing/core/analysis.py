"""From a decoded request body to a profile; pure, and never an exception on odd content."""

import re
from collections.abc import Mapping
from typing import Any

from routing.core.names import canonical, is_cloud
from routing.core.requests import CHAT_ROUTES, EMBEDDING_ROUTES, NATIVE_TEXT_ROUTES, Complexity, Profile, Route, Task

Body = Mapping[str, Any]

CHARACTERS_PER_TOKEN = 4
TOKENS_PER_IMAGE = 600
#: Compressed speech has some 8 KB a second, of which an audio encoder makes some tens of tokens.
BYTES_PER_AUDIO_TOKEN = 200
#: Members beside the messages whose text the model reads too.
AROUND = ("system", "instructions", "suffix")
#: Types of the parts that a message may consist of, in the APIs that have parts.
TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
IMAGE_PARTS = frozenset({"image_url", "image", "input_image"})
MEDIUM_TOKENS, COMPLEX_TOKENS, COMPLEX_MESSAGES = 500, 2000, 6

#: The instruction of a prompt stands at its beginning or at its end; what lies between is the material.
HEAD, TAIL = 400, 200

#: Instructions, not topics: "summary of" as a request for one, "a brief history of" as nothing of the kind. A pattern
#: is looked for only where one of its stems stands, since most prompts hold none and plain search is quick.
WORDING: tuple[tuple[Task, tuple[str, ...], re.Pattern[str]], ...] = (
    (
        Task.SUMMARIZATION,
        ("summar", "sum up", "tl;dr", "tldr", "condense", "abstract", "digest"),
        re.compile(
            r"\b(summari[sz]e|sum up|tl;?dr|condense"
            r"|(write|give|make|provide|create)\b.{0,30}\b(summary|abstract|digest))\b"
        ),
    ),
    (
        Task.CLASSIFICATION,
        (
            "classif",
            "categor",
            "label",
            "sentiment",
            "class",
            "spam",
            "positive",
            "negative",
            "toxic",
            "e or ",
            "s or n",
        ),
        re.compile(
            r"\b(classify|categori[sz]e|label (this|the|each|these)|sentiment|which (category|class|label)"
            r"|(is|are) (this|the following|these)\b.{0,60}\b(spam|positive|negative|toxic)|true or false|yes or no)\b"
        ),
    ),
    (
        Task.EXTRACTION,
        ("extract", "pull out", "parse", "list ", "find ", "identify ", "return "),
        re.compile(
            r"\b(extract|pull out|parse (the|this|these)"
            r"|(list|find|identify|return) (all|every|the)\b.{0,40}"
            r"\b(names?|dates?|entities|emails?|numbers|addresses|keywords|fields|values))\b"
        ),
    ),
    (
        Task.ANALYSIS,
        ("analy", "evaluate", "assess", "compare", "contrast", "critique", "review ", "investigate", "root cause"),
        re.compile(
            r"\b(analy[sz]e|analysis|evaluate|assess|compare|contrast|critique|review (this|the)"
            r"|investigate|root cause)\b"
        ),
    ),
)


def analyse(route: Route, body: Body) -> Profile:
    """The profile of a request; fields of a wrong type count as absent, since the node is the one to refuse them."""
    model = text(body.get("model")) or text(body.get("name"))
    options = body.get("options")
    options = options if isinstance(options, Mapping) else {}
    instruction, characters, images, messages = material(route, body)
    prompt_tokens = characters // CHARACTERS_PER_TOKEN + images * TOKENS_PER_IMAGE
    task = task_of(route, body, instruction)
    complexity = complexity_of(prompt_tokens, messages)
    native = route in NATIVE_TEXT_ROUTES
    empty = native and not characters and not images and not messages
    return Profile(
        route=route,
        model=model,
        key=canonical(model) if model else "",
        stream=streams(route, body),
        task=task,
        complexity=complexity,
        needs_gpu=images > 0 or (complexity is not Complexity.SIMPLE and task is not Task.EMBEDDING),
        prompt_tokens=prompt_tokens,
        max_tokens=limit_of(route, body, options),
        num_ctx=whole(options.get("num_ctx")),
        messages=messages,
        loads_only=empty,
        unloads=empty and is_zero(body.get("keep_alive")),
        remote=is_cloud(model),
        priority=whole(body.get("priority")) or 0,
    )


def analyse_upload(route: Route, fields: Mapping[str, str], size: int) -> Profile:
    """The profile of a form with a file of `size` bytes: a transcription."""
    model = fields.get("model", "")
    return Profile(
        route=route,
        model=model,
        key=canonical(model) if model else "",
        stream=False,
        task=Task.TRANSCRIPTION,
        complexity=Complexity.SIMPLE,
        needs_gpu=True,
        prompt_tokens=size // BYTES_PER_AUDIO_TOKEN,
        remote=is_cloud(model),
    )


def material(route: Route, body: Body) -> tuple[str, int, int, int]:
    """The last instruction, the characters in all, the images and the number of messages."""
    if route in EMBEDDING_ROUTES:
        return "", length(body.get("input")) + length(body.get("prompt")), 0, 0
    messages = body.get("input") if route is Route.V1_RESPONSES else body.get("messages")
    around = sum(len(content_of({"content": body[name]})[0]) for name in AROUND if name in body)
    if not isinstance(messages, list):
        prompt = text(body.get("prompt")) or text(messages)
        images = body.get("images")
        return prompt, len(prompt) + around, len(images) if isinstance(images, list) else 0, 0
    instruction, characters, images = "", around, 0
    for message in messages:
        if not isinstance(message, Mapping):
            continue
        content, pictures = content_of(message)
        characters += len(content)
        images += pictures
        if message.get("role") == "user":
            instruction = content
    return instruction, characters, images, len(messages)


def content_of(message: Mapping[str, Any]) -> tuple[str, int]:
    """A message's text and number of images: Ollama's form, or the lists of parts of OpenAI and Anthropic."""
    content, images = message.get("content"), message.get("images")
    pictures = len(images) if isinstance(images, list) else 0
    if isinstance(content, str):
        return content, pictures
    if not isinstance(content, list):
        return "", pictures
    parts = [part for part in content if isinstance(part, Mapping)]
    pictures += sum(text(part.get("type")) in IMAGE_PARTS for part in parts)
    return "\n".join(text(part.get("text")) for part in parts if text(part.get("type")) in TEXT_PARTS), pictures


def task_of(route: Route, body: Body, instruction: str) -> Task:
    """The kind of task: from the route, else from how the last instruction is worded."""
    if route in EMBEDDING_ROUTES:
        return Task.EMBEDDING
    wording = (
        instruction if len(instruction) <= HEAD + TAIL else instruction[:HEAD] + "\n" + instruction[-TAIL:]
    ).lower()
    for task, stems, pattern in WORDING:
        if any(map(wording.__contains__, stems)) and pattern.search(wording):
            return task
    if body.get("format") or body.get("response_format"):
        return Task.EXTRACTION
    return Task.CHAT if route in CHAT_ROUTES else Task.GENERATION


def complexity_of(tokens: int, messages: int) -> Complexity:
    if tokens >= COMPLEX_TOKENS or messages >= COMPLEX_MESSAGES:
        return Complexity.COMPLEX
    return Complexity.MEDIUM if tokens >= MEDIUM_TOKENS else Complexity.SIMPLE


def streams(route: Route, body: Body) -> bool:
    if route in EMBEDDING_ROUTES:
        return False
    stream = body.get("stream")
    return stream if isinstance(stream, bool) else route in NATIVE_TEXT_ROUTES


def limit_of(route: Route, body: Body, options: Mapping[str, Any]) -> int | None:
    """The most tokens that the client lets the model write; None where it set no limit."""
    if route in EMBEDDING_ROUTES:
        return 0
    limit = whole(
        options.get("num_predict") if route in NATIVE_TEXT_ROUTES else body.get(LIMITS.get(route, "max_tokens"))
    )
    return limit if limit is not None and limit >= 0 else None


#: The members that limit an answer's tokens where it is not `max_tokens`.
LIMITS = {Route.V1_RESPONSES: "max_output_tokens"}


def is_zero(keep_alive: object) -> bool:
    """Whether a keep_alive means "at once": the number 0 or a zero duration such as "0s"."""
    if isinstance(keep_alive, str):
        return bool(re.fullmatch(r"[+-]?(0+(\.0*)?(ns|us|µs|ms|s|m|h))+|0", keep_alive))
    return isinstance(keep_alive, int | float) and not isinstance(keep_alive, bool) and keep_alive == 0


def text(value: object) -> str:
    return value if isinstance(value, str) else ""


def whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def length(value: object) -> int:
    """Characters of a string or of all strings in a list."""
    if isinstance(value, str):
        return len(value)
    return sum(len(item) for item in value if isinstance(item, str)) if isinstance(value, list) else 0
