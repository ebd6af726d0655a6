"""A load of a fixed size from a fixed number of connections, as cheap as it can be; prints one JSON line of counts."""

import argparse
import asyncio
import json
import time
from dataclasses import asdict, dataclass

import uvloop

from benchmarks.backend import MODEL


@dataclass
class Counts:
    """What came back. `frames` are HTTP chunks as the proxy sent them, `lines` JSON objects as the node wrote them."""

    requests: int = 0
    frames: int = 0
    lines: int = 0
    errors: int = 0
    seconds: float = 0.0


def request(port: int, *, stream: bool) -> bytes:
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}], "stream": stream}
    body = json.dumps(chat).encode()
    lines = (
        "POST /api/chat HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


class Answer:
    """Reads one answer from a connection, counting frames and lines."""

    def __init__(self, reader: asyncio.StreamReader, counts: Counts) -> None:
        self.reader, self.counts = reader, counts

    async def read(self) -> None:
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200"):
            raise ConnectionError(head.split(b"\r\n", 1)[0].decode(errors="replace"))
        if b"\r\ntransfer-encoding: chunked" in head:
            await self.chunks()
        else:
            length = int(head.split(b"\r\ncontent-length:", 1)[1].split(b"\r\n", 1)[0])
            await self.reader.readexactly(length)
        self.counts.requests += 1

    async def chunks(self) -> None:
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            piece = await self.reader.readexactly(size + 2)
            self.counts.frames += 1
            self.counts.lines += piece.count(b"\n") - 1
        await self.reader.readexactly(2)


async def client(port: int, share: int, counts: Counts, *, stream: bool) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    wire = request(port, stream=stream)
    answer = Answer(reader, counts)
    try:
        for _ in range(share):
            writer.write(wire)
            await answer.read()
    except (OSError, EOFError, ValueError, IndexError) as error:
        counts.errors += 1
        print(json.dumps({"error": repr(error)}), flush=True)
    finally:
        writer.close()


async def load(port: int, requests: int, concurrency: int, *, stream: bool) -> Counts:
    counts = Counts()
    began = time.perf_counter()
    await asyncio.gather(*(client(port, requests // concurrency, counts, stream=stream) for _ in range(concurrency)))
    counts.seconds = time.perf_counter() - began
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--stream", action="store_true")
    options = parser.parse_args()
    counts = uvloop.run(load(options.port, options.requests, options.concurrency, stream=options.stream))
    print(json.dumps(asdict(counts)))


if __name__ == "__main__":
    main()
