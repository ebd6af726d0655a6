"""From a decoded request body to a profile; pure, and never an exception on odd content."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from routing.core.names import canonical, is_cloud
from routing.core.requests import CHAT_ROUTES, EMBEDDING_ROUTES, NATIVE_TEXT_ROUTES, Complexity, Profile, Route, Task
from routing.core.resuming import resumable
from routing.core.wording import asked_for

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
#: Characters of the instruction by which its script is told, and the first characters beyond Latin and of wide scripts.
SAMPLE = 200
NOT_LATIN, WIDE = "\u036f", "\u2e7f"
#: Leading parts of a conversation that are kept: the first of them, and the last.
LEADING, LATEST = 2, 6
MEDIUM_TOKENS, COMPLEX_TOKENS, COMPLEX_MESSAGES = 500, 2000, 6


def analyse(route: Route, body: Body) -> Profile:
    """The profile of a request; fields of a wrong type count as absent, since the node is the one to refuse them."""
    model = text(body.get("model")) or text(body.get("name"))
    options = body.get("options")
    options = options if isinstance(options, Mapping) else {}
    instruction, characters, images, messages, prefixes = material(route, body)
    prompt_tokens = tokens_of(characters, instruction[:SAMPLE]) + images * TOKENS_PER_IMAGE
    task = task_of(route, body, instruction)
    complexity = complexity_of(prompt_tokens, messages)
    if task is Task.ANALYSIS and complexity is Complexity.SIMPLE:
        complexity = Complexity.MEDIUM
    native = route in NATIVE_TEXT_ROUTES
    empty = native and not characters and not images and not messages
    stream = streams(route, body)
    return Profile(
        route=route,
        model=model,
        key=canonical(model) if model else "",
        stream=stream,
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
        prefixes=prefixes,
        resumable=stream and resumable(route, body, images),
        tools=bool(body.get("tools")),
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


class Material(NamedTuple):
    """What a prompt is made of: the last instruction, characters in all, images, messages, and leading parts."""

    instruction: str
    characters: int
    images: int = 0
    messages: int = 0
    prefixes: tuple[tuple[int, int], ...] = ()


def material(route: Route, body: Body) -> Material:
    """Reads each text once, and only hashes and measures it."""
    if route in EMBEDDING_ROUTES:
        texts = first_text(body.get("input")) or text(body.get("prompt"))
        return Material(texts, length(body.get("input")) + length(body.get("prompt")))
    messages = body.get("input") if route is Route.V1_RESPONSES else body.get("messages")
    chain, characters, prefixes = 0, 0, []
    for name in AROUND:
        if name in body:
            around = content_of({"content": body[name]})[0]
            chain, characters = hash((chain, around)), characters + len(around)
    if characters:
        prefixes.append((chain, characters))
    if not isinstance(messages, list):
        prompt = text(body.get("prompt")) or text(messages)
        images = body.get("images")
        characters += len(prompt)
        if prompt:
            prefixes.append((hash((chain, prompt)), characters))
        pictures = len(images) if isinstance(images, list) else 0
        return Material(prompt, characters, pictures, 0, tuple(prefixes))
    instruction, images = "", 0
    for message in messages:
        if not isinstance(message, Mapping):
            continue
        content, pictures = content_of(message)
        role = text(message.get("role"))
        characters += len(content)
        images += pictures
        chain = hash((chain, role, content))
        prefixes.append((chain, characters))
        if role == "user":
            instruction = content
    if len(prefixes) > LEADING + LATEST:
        prefixes = prefixes[:LEADING] + prefixes[-LATEST:]
    return Material(instruction, characters, images, len(messages), tuple(prefixes))


def tokens_of(characters: int, sample: str) -> int:
    """Tokens that a text of so many characters probably has, by the script of a sample of it.

    A token is about four characters of English, fewer of other languages in Latin letters with many marks, about two
    and a half of Cyrillic, Greek, Arabic or Hindi, and one and a half or less of Chinese, Japanese or Korean, as common
    vocabularies split them. Which it is for a model is learned.
    """
    if sample.isascii() or not sample:
        return characters // CHARACTERS_PER_TOKEN
    wide = sum(character > WIDE for character in sample)
    other = sum(character > NOT_LATIN for character in sample) - wide
    latin = len(sample) - wide - other
    return int(characters * (wide / 1.5 + other / 2.5 + latin / 3.6) / len(sample))


def first_text(value: object) -> str:
    """A text, or the first of a list of them."""
    if isinstance(value, list) and value:
        value = value[0]
    return text(value)


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
    asked = asked_for(instruction) if instruction else None
    if asked is not None:
        return asked
    form = body.get("format") or body.get("response_format")
    if form:
        return Task.CLASSIFICATION if is_choice(form) else Task.EXTRACTION
    return Task.CHAT if route in CHAT_ROUTES else Task.GENERATION


def is_choice(form: object) -> bool:
    """Whether a schema leaves only a choice: one property, which is an enumeration or true or false."""
    if not isinstance(form, Mapping):
        return False
    schema = form.get("json_schema")
    schema = schema.get("schema") if isinstance(schema, Mapping) else form
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(properties, Mapping) or len(properties) != 1:
        return False
    only = next(iter(properties.values()))
    return isinstance(only, Mapping) and ("enum" in only or only.get("type") == "boolean")


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
