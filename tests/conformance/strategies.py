"""Requests as clients send them on the inference routes, well-formed and otherwise, for property tests."""

import json
from collections.abc import Callable
from typing import Any

from backports import zstd
from hypothesis import strategies as st

from tests.conformance.twice import CHAT, CODER, EMBEDDER, LISTENER, SEER, STUB, THINKER

Draw = Callable[[st.SearchStrategy], Any]

PIXEL = "iVBORw0KGgo="
DEEP: Any = None
for _ in range(40):
    DEEP = [DEEP]

INSTALLED = st.sampled_from([CHAT, THINKER, CODER, SEER])
#: The same models in other words, models that are none of a route's, and names of nothing.
ODD_NAMES = st.sampled_from(
    [
        CHAT.upper(),
        f"library/{CHAT}",
        f"registry.ollama.ai/library/{CHAT}",
        f"https://registry.ollama.ai/library/{CHAT}",
        f"REGISTRY.ollama.ai/Library/{CHAT}",
        f"{CHAT}:local",
        f"{CHAT}:LOCAL",
        f"{CHAT}:cloud",
        f"{CHAT}:cloud:local",
        f"{CHAT}-cloud",
        f" {CHAT}",
        f"{CHAT} ",
        f"/{CHAT}",
        f"x/{CHAT}",
        f"{CHAT}:",
        f":{CHAT}",
        "llama3.2",
        "nomic-embed-text",
        EMBEDDER,
        LISTENER,
        STUB,
        STUB.upper(),
        "gpt-oss:120b",
        "gpt-oss:120b:cloud",
        "kimi:cloud",
        "nobody",
        "nobody:cloud",
        "hf.co/org/repo:Q4_K_M",
        "a/b/c/d",
        "a b c",
        "",
        " ",
        ":",
        "/",
        "://",
        ":local",
        ":cloud",
        "\x00",
        "x" * 400,
        "é:3b",
        "\ud800",
        "<&>\u2028'\"\\",
        "İ:3b",
    ]
)
MODELS = st.one_of(INSTALLED, INSTALLED, st.just(EMBEDDER), ODD_NAMES)
TEXTS = st.one_of(
    st.sampled_from(
        ["Why is the sky blue?", "Summarize this.", "call look_up please", "", "<>&\u2028", "\ud800", "\x00"]
    ),
    st.text(max_size=20),
)
NUMBERS = st.sampled_from([0, 1, 2, 3, -1, 0.5, 1e308, -1e308, 1e-320, 10**40, -(10**40), 2**63, 2**31])
ODD = st.one_of(
    st.sampled_from(
        [None, True, False, "", "0", "false", "x", [], {}, [None], [[]], {"a": {"B": None}}, DEEP, "\ud800"]
    ),
    NUMBERS,
    st.sampled_from([float("nan"), float("inf"), "é" * 30, "\x00", [1, "a", {}], {"": ""}]),
)
SMALL = st.integers(0, 9)
SCHEMAS = st.sampled_from(
    [
        {"type": "object", "properties": {"city": {"type": "string"}, "n": {"type": "integer"}}},
        {"type": "array", "items": {"type": "boolean"}, "minItems": 2},
        {"type": "object", "properties": {"done": {"type": "boolean"}, "error": {"type": "string"}}},
    ]
)
FORMATS = st.one_of(st.sampled_from(["json", "", None, "yaml", 5]), SCHEMAS)
STOPS = st.one_of(st.sampled_from(["the", "", ".", "\n"]), st.lists(st.sampled_from(["the", "a", "."]), max_size=3))
KEEP_ALIVE = st.sampled_from(
    [0, -1, 300, 0.5, -0.5, "0", "0s", "-1", "-1m", "5m", "1h30m", "300", "", "1x", "+0s", "0.0s", "0h0m", "1.5h", None]
)
THINK = st.sampled_from([True, False, "low", "high", "max", "x", "", None])
PARAMETERS = {"type": "object", "properties": {"q": {"type": "string"}, "id": {"type": "integer"}}}
TOOLS = st.lists(
    st.sampled_from(["look_up", "done", "a.b", ""]).map(
        lambda name: {"type": "function", "function": {"name": name, "parameters": PARAMETERS}}
    ),
    max_size=2,
)
FLAT_TOOLS = st.lists(
    st.sampled_from(["look_up", "done"]).map(lambda name: {"type": "function", "name": name, "parameters": PARAMETERS}),
    max_size=2,
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "num_ctx": st.sampled_from([0, 16, 64, 2048, 1 << 20, "x", 0.5]),
        "num_predict": st.sampled_from([-2, -1, 0, 1, 5, 1 << 40, "x"]),
        "seed": NUMBERS,
        "temperature": NUMBERS,
        "top_k": NUMBERS,
        "stop": STOPS,
        "num_keep": SMALL,
        "use_mmap": st.booleans(),
        "unknown": ODD,
    },
)
FLAGS = st.booleans()
ROLES = st.sampled_from(["user", "user", "user", "system", "assistant", "tool", "User", "nobody", ""])


def message(content: st.SearchStrategy, **more: st.SearchStrategy) -> st.SearchStrategy:
    return st.fixed_dictionaries({"role": ROLES, "content": content}, optional=more)


CALL = {"id": "call_1", "function": {"name": "look_up", "arguments": {"q": "x"}}}
NATIVE = message(
    TEXTS,
    images=st.lists(st.sampled_from([PIXEL, "", "?"]), max_size=2),
    thinking=TEXTS,
    tool_calls=st.just([CALL]),
    tool_name=TEXTS,
)
PARTS = st.lists(
    st.one_of(
        TEXTS.map(lambda text: {"type": "text", "text": text}),
        st.sampled_from(
            [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                {"type": "image_url", "image_url": "https://example.org/a.png"},
                {"type": "input_audio", "input_audio": {"data": ""}},
                {"type": "video"},
            ]
        ),
    ),
    max_size=3,
)
CONTENT = st.one_of(TEXTS, TEXTS, PARTS)
BLOCKS = st.lists(
    st.one_of(
        TEXTS.map(lambda text: {"type": "text", "text": text}),
        st.sampled_from(
            [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                {"type": "tool_use", "id": "t1", "name": "look_up", "input": {"q": "x"}},
                {"type": "tool_result", "tool_use_id": "t1", "content": "found"},
                {"type": "thinking", "thinking": "Hm."},
            ]
        ),
    ),
    max_size=3,
)
ITEMS = st.lists(
    st.one_of(
        st.fixed_dictionaries({"role": ROLES, "content": TEXTS}),
        st.fixed_dictionaries(
            {
                "type": st.just("message"),
                "role": ROLES,
                "content": st.lists(TEXTS.map(lambda text: {"type": "input_text", "text": text}), max_size=2),
            }
        ),
        st.sampled_from(
            [
                {"type": "function_call", "call_id": "c1", "name": "look_up", "arguments": '{"q":"x"}'},
                {"type": "function_call_output", "call_id": "c1", "output": "found"},
                {"type": "reasoning", "summary": []},
                {"type": "item_reference", "id": "x"},
            ]
        ),
    ),
    max_size=3,
)
INPUTS = st.one_of(TEXTS, st.lists(TEXTS, max_size=3), st.sampled_from([[1, 2], [[1]], 5, {}]))
AUDIO = b"RIFF" + bytes(range(64))

NATIVE_MEMBERS = {
    "stream": FLAGS,
    "options": OPTIONS,
    "format": FORMATS,
    "keep_alive": KEEP_ALIVE,
    "think": THINK,
    "truncate": FLAGS,
    "shift": FLAGS,
    "logprobs": FLAGS,
    "top_logprobs": st.sampled_from([0, 2, 20, 21, -1]),
    "priority": NUMBERS,
}
SAMPLING = {
    "stream": FLAGS,
    "temperature": NUMBERS,
    "top_p": NUMBERS,
    "max_tokens": st.sampled_from([0, 1, 5, -1, 1 << 40]),
    "stop": STOPS,
    "seed": NUMBERS,
    "n": SMALL,
    "user": TEXTS,
    "frequency_penalty": NUMBERS,
    "stream_options": st.sampled_from([{"include_usage": True}, {"include_usage": False}, {}, None]),
}
EFFORTS = st.sampled_from(["none", "low", "high", "x", None])

#: The members of a sensible request by route: those that it needs, and those that it may have.
MEMBERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "/api/chat": (
        {"model": MODELS, "messages": st.lists(NATIVE, max_size=4)},
        {**NATIVE_MEMBERS, "tools": TOOLS},
    ),
    "/api/generate": (
        {"model": MODELS, "prompt": TEXTS},
        {
            **NATIVE_MEMBERS,
            "suffix": TEXTS,
            "system": TEXTS,
            "template": TEXTS,
            "raw": FLAGS,
            "context": st.lists(st.integers(0, 2**32), max_size=4),
            "images": st.lists(st.sampled_from([PIXEL, "?"]), max_size=2),
        },
    ),
    "/api/embed": (
        {"model": st.one_of(st.just(EMBEDDER), MODELS), "input": INPUTS},
        {"truncate": FLAGS, "dimensions": NUMBERS, "options": OPTIONS, "keep_alive": KEEP_ALIVE, "stream": FLAGS},
    ),
    "/api/embeddings": (
        {"model": st.one_of(st.just(EMBEDDER), MODELS), "prompt": TEXTS},
        {"options": OPTIONS, "keep_alive": KEEP_ALIVE},
    ),
    "/v1/chat/completions": (
        {"model": MODELS, "messages": st.lists(message(CONTENT, name=TEXTS, tool_calls=st.just([CALL])), max_size=3)},
        {
            **SAMPLING,
            "tools": TOOLS,
            "tool_choice": st.sampled_from(["auto", "none"]),
            "response_format": st.one_of(
                st.sampled_from([{"type": "text"}, {"type": "json_object"}, "x"]),
                SCHEMAS.map(lambda schema: {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}),
            ),
            "reasoning_effort": EFFORTS,
            "reasoning": st.fixed_dictionaries({"effort": EFFORTS}),
            "logprobs": FLAGS,
            "top_logprobs": st.sampled_from([0, 2, 21]),
        },
    ),
    "/v1/completions": (
        {"model": MODELS, "prompt": TEXTS},
        {**SAMPLING, "suffix": TEXTS, "logprobs": SMALL, "echo": FLAGS},
    ),
    "/v1/embeddings": (
        {"model": st.one_of(st.just(EMBEDDER), MODELS), "input": INPUTS},
        {"encoding_format": st.sampled_from(["float", "base64", "x"]), "dimensions": NUMBERS, "user": TEXTS},
    ),
    "/v1/responses": (
        {"model": MODELS, "input": st.one_of(TEXTS, ITEMS)},
        {
            "stream": FLAGS,
            "instructions": TEXTS,
            "max_output_tokens": st.sampled_from([0, 1, 5, 1 << 40]),
            "temperature": NUMBERS,
            "tools": FLAT_TOOLS,
            "text": SCHEMAS.map(lambda schema: {"format": {"type": "json_schema", "name": "x", "schema": schema}}),
            "reasoning": st.fixed_dictionaries({"effort": EFFORTS}),
            "previous_response_id": TEXTS,
            "store": FLAGS,
        },
    ),
    "/v1/messages": (
        {
            "model": MODELS,
            "max_tokens": st.sampled_from([1, 5, 50, 0, -1]),
            "messages": st.lists(message(st.one_of(TEXTS, BLOCKS)), max_size=3),
        },
        {
            "stream": FLAGS,
            "system": st.one_of(TEXTS, st.lists(TEXTS.map(lambda text: {"type": "text", "text": text}), max_size=2)),
            "stop_sequences": st.lists(st.sampled_from(["the", "."]), max_size=2),
            "temperature": NUMBERS,
            "top_k": NUMBERS,
            "thinking": st.sampled_from([{"type": "enabled", "budget_tokens": 9}, {"type": "disabled"}, {}]),
            "tools": st.lists(st.just({"name": "look_up", "input_schema": PARAMETERS}), max_size=1),
            "tool_choice": st.just({"type": "auto"}),
            "metadata": st.just({"user_id": "bo"}),
        },
    ),
}
ROUTES = tuple(MEMBERS)


def drop(draw: Draw, body: dict[str, Any]) -> dict[str, Any]:
    gone = draw(st.sampled_from(sorted(body)))
    return {name: value for name, value in body.items() if name != gone}


def replaced(draw: Draw, body: dict[str, Any]) -> dict[str, Any]:
    return {**body, draw(st.sampled_from(sorted(body))): draw(ODD)}


def replaced_within(draw: Draw, body: dict[str, Any]) -> dict[str, Any]:
    """An odd value somewhere inside a member, however deep."""
    name = draw(st.sampled_from(sorted(body)))
    return {**body, name: _odd_within(draw, body[name])}


def _odd_within(draw: Draw, value: Any) -> Any:
    if isinstance(value, dict) and value:
        name = draw(st.sampled_from(sorted(value)))
        return {**value, name: _odd_within(draw, value[name])}
    if isinstance(value, list) and value:
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], _odd_within(draw, value[at]), *value[at + 1 :]]
    return draw(ODD)


def respelled(draw: Draw, body: dict[str, Any]) -> dict[str, Any]:
    """A member's name in other letters, in its old place or beside it with another value."""
    name = draw(st.sampled_from(sorted(body)))
    other = draw(
        st.sampled_from([name.upper(), name.capitalize(), name.replace("k", "\u212a"), name.replace("s", "\u017f")])
    )
    if draw(st.booleans()):
        return {(other if key == name else key): value for key, value in body.items()}
    return {**body, other: draw(st.one_of(ODD, MODELS))}


def named(draw: Draw, body: dict[str, Any]) -> dict[str, Any]:
    """`name`, as older clients say, in place of `model` or beside it."""
    if draw(st.booleans()):
        return {("name" if key == "model" else key): value for key, value in body.items()}
    return {"name": draw(MODELS), **body}


def unknown(draw: Draw, body: dict[str, Any]) -> dict[str, Any]:
    return {**body, draw(st.sampled_from(["x", "", "sollol_nodes", "priority", "stream", "name"])): draw(ODD)}


CHANGES = st.sampled_from([drop, replaced, replaced, replaced_within, replaced_within, respelled, named, unknown])


@st.composite
def objects(draw: Draw, route: str) -> dict[str, Any]:
    """A request's members: sensible in most cases, else with up to two of them changed."""
    required, optional = MEMBERS[route]
    body = draw(st.fixed_dictionaries(required, optional=optional))
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        if body:
            body = draw(CHANGES)(draw, body)
    return body


def truncated(draw: Draw, data: bytes) -> bytes:
    return data[: draw(st.integers(0, len(data)))]


def broken(draw: Draw, data: bytes) -> bytes:
    """Bytes that are no UTF-8, or no JSON, somewhere."""
    at = draw(st.integers(0, len(data)))
    return (
        data[:at]
        + draw(st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x00", b"\\", b'"', b"\n", b","]))
        + data[at:]
    )


def followed(draw: Draw, data: bytes) -> bytes:
    return data + draw(st.sampled_from([b"}} trailing", b"{}", b"\x00", b"\n\n", b"\xff", b"null", b","]))


def preceded(draw: Draw, data: bytes) -> bytes:
    return draw(st.sampled_from([b" \r\n\t", b"\xef\xbb\xbf", b"\x0b", b"null", b"\x00", b"//\n"])) + data


def doubled(draw: Draw, data: bytes) -> bytes:
    """A member twice, with two values."""
    name = draw(st.sampled_from(["model", "stream", "Model", "STREAM", "keep_alive", "name", "messages", "options"]))
    more = json.dumps(name) + ":" + json.dumps(draw(st.one_of(MODELS, ODD, FLAGS)))
    if not data.startswith(b"{") or len(data) < 3:
        return data
    return b"{" + more.encode() + b"," + data[1:] if draw(st.booleans()) else data[:-1] + b"," + more.encode() + b"}"


def other(draw: Draw, data: bytes) -> bytes:
    return draw(
        st.sampled_from(
            [b"", b" ", b"{", b"[]", b"null", b'"text"', b"5", b"-", b"tru", b"\xff\xfe", b"[" * 2000, b"{}"]
        )
    )


BYTE_CHANGES = st.sampled_from([truncated, broken, followed, preceded, doubled, doubled, other])


@st.composite
def bodies(draw: Draw, route: str) -> bytes:
    """A request's bytes: JSON in one of its spellings in most cases, else damaged."""
    body = draw(objects(route))
    spaced, escaped = draw(st.booleans()), draw(st.booleans())
    text = json.dumps(body, ensure_ascii=escaped, separators=None if spaced else (",", ":"))
    data = text.encode("utf-8", "surrogatepass")
    if draw(st.sampled_from([False, False, True])):
        data = draw(BYTE_CHANGES)(draw, data)
    return data


@st.composite
def compressed(draw: Draw, route: str) -> bytes:
    """The same as zstd: whole, in several frames, cut, or not really."""
    data = draw(bodies(route))
    at = draw(st.integers(0, len(data)))
    packed = draw(st.sampled_from([zstd.compress(data), zstd.compress(data[:at]) + zstd.compress(data[at:]), data]))
    return draw(st.sampled_from([packed, packed, packed[: len(packed) // 2], packed + b"\x00"]))


FIELDS = st.sampled_from(["model", "response_format", "language", "prompt", "temperature", "file", "Model", "", "x"])
DISPOSITIONS = st.sampled_from(
    [
        'form-data; name="{}"',
        "form-data; name={}",
        'form-data; name="{}"; filename="a.wav"',
        'form-data; name="{}"; filename=""',
        'form-data; filename="a.wav"; name="{}"',
        'FORM-DATA; NAME="{}"',
        'attachment; name="{}"',
        "form-data; name=\"{}\"; filename*=UTF-8''a.wav",
        "form-data",
    ]
)


@st.composite
def sound_parts(draw: Draw, boundary: bytes) -> list[bytes]:
    """What a transcription consists of: the model, the sound, and perhaps more."""
    model = draw(st.sampled_from([LISTENER, LISTENER, "Whisper-Sim", CHAT, "nobody", STUB, ""]))
    sound = draw(st.sampled_from([AUDIO, b"", bytes(70_000), b"\r\n--\r\n" * 9]))
    more = draw(st.sampled_from([[], ["text"], ["json"], ["\ud800"]]))
    return [
        part(boundary, "model", model.encode()),
        part(boundary, "file", sound, "a.wav"),
        *(part(boundary, "response_format", value.encode("utf-8", "surrogatepass")) for value in more),
    ]


@st.composite
def parts(draw: Draw, boundary: bytes) -> bytes:
    """One part of a form, odd in its name, its headers or its content."""
    disposition = draw(DISPOSITIONS).format(draw(FIELDS)).encode()
    more = draw(
        st.sampled_from([b"", b"", b"Content-Type: audio/wav\r\n", b"Content-Transfer-Encoding: base64\r\n", b"X\r\n"])
    )
    value = draw(st.sampled_from([LISTENER, CHAT, "json", "text", "", "\ud800", "nobody", "whisper-sim", STUB]))
    content = draw(st.sampled_from([value.encode("utf-8", "surrogatepass"), AUDIO, b"\xff", b"--" + boundary, b"\r\n"]))
    return b"--%b\r\nContent-Disposition: %b\r\n%b\r\n%b\r\n" % (boundary, disposition, more, content)


def part(boundary: bytes, name: str, value: bytes, filename: str = "") -> bytes:
    """One part of a form as clients send it."""
    file = f'; filename="{filename}"' if filename else ""
    return b'--%b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (
        boundary,
        name.encode(),
        file.encode(),
        value,
    )


KINDS = st.sampled_from(
    [
        'multipart/form-data; boundary="{}"',
        "multipart/form-data; boundary={}",
        "Multipart/Form-Data; Boundary={}",
        "multipart/form-data; charset=utf-8; boundary={}",
    ]
)
ODD_KINDS = st.one_of(
    KINDS, st.sampled_from(["multipart/form-data", "multipart/mixed; boundary={}", "application/json", ""])
)


@st.composite
def forms(draw: Draw) -> tuple[bytes, str]:
    """A form as clients send it, and its Content-Type; its parts in any order, `model` may be no transcriber."""
    boundary = draw(st.sampled_from([b"xyz", b"x" * 70, b"x'()+_,-./:=?", b"----WebKitFormBoundary7MA4YWxk"]))
    return ended(boundary, draw(st.permutations(draw(sound_parts(boundary))))), kind_of(draw, KINDS, boundary)


def ended(boundary: bytes, pieces: list[bytes]) -> bytes:
    return b"".join(pieces) + b"--%b--\r\n" % boundary


def kind_of(draw: Draw, kinds: st.SearchStrategy, boundary: bytes) -> str:
    """A Content-Type that names the boundary, in quotes where it holds more than letters."""
    quote = "" if boundary.isalnum() else '"'
    return draw(kinds).replace('"{}"', "{}").format(quote + boundary.decode() + quote)


@st.composite
def odd_forms(draw: Draw) -> tuple[bytes, str]:
    """A form with parts, ends, beginnings and types as no client sends them."""
    boundary = draw(st.sampled_from([b"xyz", b"--", b"a b", b"x" * 70]))
    pieces = draw(st.permutations(draw(sound_parts(boundary)) + draw(st.lists(parts(boundary), max_size=2))))
    data = ended(boundary, pieces)
    data = (
        draw(st.sampled_from([b"", b"", b"preamble\r\n", b"\r\n"])) + data + draw(st.sampled_from([b"", b"trailing"]))
    )
    data = draw(st.sampled_from([data, data, truncated(draw, data), data.replace(b"\r\n", b"\n"), b""]))
    return data, kind_of(draw, ODD_KINDS, boundary)
