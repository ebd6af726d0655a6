"""What the clients say, and to whom."""

import base64
import struct
import zlib

CHAT = "llama3.2:3b"
EMBED = "nomic-embed-text"
THINKER = "qwen3:8b"
SEER = "gemma3:4b"
MESSAGES = [{"role": "user", "content": "Why is the sky blue?"}]
#: The simulated models call a tool that the last message names.
WEATHER = [{"role": "user", "content": "Ask weather about Cologne."}]
ABOUT = "What the weather is somewhere."
PLACE = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": ABOUT, "parameters": PLACE}}
NODES = {"ant", "bee", "cat"}


def png(width: int, height: int) -> bytes:
    """A grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\x80" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


PNG = png(8, 8)
PNG_BASE64 = base64.b64encode(PNG).decode()
