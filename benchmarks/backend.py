"""A node that costs next to nothing: raw HTTP, fixed answers, streams of evenly paced chunks. For measuring proxies."""

import argparse
import asyncio
import json
import socket
from typing import cast

import uvloop

MODEL = "bench:latest"
DIGEST = "b" * 64
WHEN = "2026-01-01T00:00:00.000000000Z"
DETAILS = {
    "family": "llama",
    "families": ["llama"],
    "format": "gguf",
    "parameter_size": "1B",
    "quantization_level": "Q4_0",
}
NUMBERS = {
    "total_duration": 9_000_000,
    "load_duration": 1_000_000,
    "prompt_eval_count": 9,
    "prompt_eval_duration": 3_000_000,
    "eval_count": 20,
    "eval_duration": 5_000_000,
}
ROW = {"name": MODEL, "model": MODEL, "size": 1_000_000_000, "digest": DIGEST, "details": DETAILS}
FAR = "2099-01-01T00:00:00Z"
ANSWERS: dict[bytes, object] = {
    b"/api/version": {"version": "0.33.0"},
    b"/api/tags": {"models": [{**ROW, "modified_at": WHEN}]},
    b"/api/ps": {"models": [{**ROW, "size_vram": 1_000_000_000, "context_length": 4096, "expires_at": FAR}]},
    b"/api/show": {
        "details": DETAILS,
        "model_info": {"general.architecture": "llama", "general.parameter_count": 10**9, "llama.context_length": 8192},
        "capabilities": ["completion"],
        "modified_at": WHEN,
    },
}


def message(content: str) -> dict[str, object]:
    return {"model": MODEL, "created_at": WHEN, "message": {"role": "assistant", "content": content}}


def whole(body: bytes, kind: bytes = b"application/json; charset=utf-8") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (kind, len(body), body)


def chunk(value: object) -> bytes:
    line = json.dumps(value).encode() + b"\n"
    return b"%x\r\n%b\r\n" % (len(line), line)


READY = {path: whole(json.dumps(value).encode()) for path, value in ANSWERS.items()}
ALIVE = whole(b"Ollama is running", b"text/plain; charset=utf-8")
SMALL = whole(json.dumps({**message("Hello there."), "done": True, "done_reason": "stop", **NUMBERS}).encode())
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECE = chunk({**message(" word"), "done": False})
LAST = chunk({**message(""), "done": True, "done_reason": "stop", **NUMBERS}) + b"0\r\n\r\n"


class Node(asyncio.Protocol):
    """One connection. Every chunk of a stream is a write of its own, `interval` seconds after the one before."""

    def __init__(self, chunks: int, interval: float) -> None:
        self.chunks, self.interval = chunks, interval
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            length = content_length(head)
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4 : end + 4 + length]
            path = self.buffer[:end].split(b" ", 2)[1].partition(b"?")[0]
            self.buffer = self.buffer[end + 4 + length :]
            self.answer(path, body)

    def answer(self, path: bytes, body: bytes) -> None:
        if path != b"/api/chat":
            self.transport.write(READY.get(path, ALIVE))
        elif json.loads(body).get("stream") is False:
            self.transport.write(SMALL)
        else:
            self.transport.write(HEAD)
            self.next_chunk(self.chunks, self.loop.time())

    def next_chunk(self, left: int, due: float) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(PIECE if left > 1 else LAST)
        if left > 1:
            due += self.interval
            self.loop.call_at(due, self.next_chunk, left - 1, due)


def content_length(head: bytes) -> int:
    at = head.find(b"\r\ncontent-length:")
    return int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


async def serve(port: int, chunks: int, interval: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Node(chunks, interval), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--chunks", type=int, default=400, help="Chunks of a streamed answer; default 400.")
    parser.add_argument("--interval-ms", type=float, default=2.0, help="Time between two chunks; default 2 ms.")
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.chunks, options.interval_ms / 1000))


if __name__ == "__main__":
    main()
