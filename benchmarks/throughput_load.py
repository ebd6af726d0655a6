"""A closed loop: each connection asks anew as soon as it has its answer.

Says when the measured span begins and ends, then in one JSON line how many answers came from which node in it.
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field

import uvloop

from benchmarks.backend import MODEL, content_length

NODE = b"\r\nx-sollol-node:"


@dataclass
class Span:
    """What is measured, in seconds of the machine's monotonic clock; `stop` ends the loop."""

    began: float = 0.0
    ended: float = 0.0
    stop: bool = False
    answers: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    @property
    def open(self) -> bool:
        return bool(self.began) and not self.ended


def head_and_body(port: int, tokens: int) -> tuple[bytes, bytes]:
    """A short chat, all but the eight digits that go into the body: no prompt is like another."""
    chat = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Say hello to guest DIGITS__."}],
        "stream": False,
        "options": {"num_predict": tokens},
    }
    body = json.dumps(chat).encode()
    lines = ("POST /api/chat HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Type: application/json")
    return "\r\n".join((*lines, f"Content-Length: {len(body)}", "", "")).encode(), body


async def client(number: int, port: int, tokens: int, span: Span) -> None:
    head, body = head_and_body(port, tokens)
    count = number * 100_000
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while not span.stop:
            count += 1
            writer.write(head + body.replace(b"DIGITS__", b"%08d" % count))
            told = (await reader.readuntil(b"\r\n\r\n")).lower()
            answer = await reader.readexactly(content_length(told))
            if not told.startswith(b"http/1.1 200"):
                raise ConnectionError(answer.decode(errors="replace")[:200])
            if span.open:
                span.answers[told.split(NODE, 1)[1].split(b"\r\n", 1)[0].strip().decode()] += 1
        writer.close()
    except (OSError, EOFError, ValueError, IndexError) as error:
        span.errors.append(repr(error))


async def load(options: argparse.Namespace) -> Span:
    span = Span()
    clients = [
        asyncio.create_task(client(number, options.port, options.tokens, span)) for number in range(options.concurrency)
    ]
    await asyncio.sleep(options.warm_up)
    print("begin", flush=True)
    span.began = time.monotonic()
    await asyncio.sleep(options.seconds)
    span.ended = time.monotonic()
    print("end", flush=True)
    span.stop = True
    await asyncio.gather(*clients)
    return span


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--tokens", type=int, default=24, help="Tokens of an answer; default 24.")
    parser.add_argument("--warm-up", type=float, default=3.0, help="Seconds before the measured span.")
    parser.add_argument("--seconds", type=float, default=15.0, help="Seconds of the measured span.")
    span = uvloop.run(load(parser.parse_args()))
    print(json.dumps({"began": span.began, "ended": span.ended, "answers": span.answers, "errors": span.errors}))


if __name__ == "__main__":
    main()
