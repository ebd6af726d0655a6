"""Nodes that only embed, each on a port of its own: one slot, a time for each call and for each text, canned vectors.

The simulator works out vectors that mean something, which costs more CPU than all else here; these cost next to none.
"""

import argparse
import asyncio
import json
from dataclasses import dataclass, field
from hashlib import sha256

import orjson
import uvloop
from aiohttp import web

MODEL = "bench-embed:latest"
DIGEST = sha256(MODEL.encode()).hexdigest()
WIDTH = 768
#: Tokens of the texts that the benchmark sends.
COMMON = 13
#: Vectors to choose from; which one a text has shows whether answers keep their order.
VECTORS = [b"[" + b",".join(b"%.7f" % ((i * 31 + j) % 997 / 997 - 0.5) for j in range(WIDTH)) + b"]" for i in range(64)]


def vector(text: str) -> bytes:
    return VECTORS[sha256(text.encode()).digest()[0] % len(VECTORS)]


@dataclass
class EmbeddingNode:
    """`call_s` is what a call costs the runner beside its texts, `text_s` what a text of `COMMON` tokens costs."""

    call_s: float
    text_s: float
    calls: int = 0
    texts: int = 0
    slot: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def embed(self, request: web.Request) -> web.Response:
        asked = orjson.loads(await request.read())
        texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
        loop = asyncio.get_running_loop()
        began, counted = loop.time(), sum(map(tokens, texts))
        async with self.slot:
            self.calls += 1
            self.texts += len(texts)
            await asyncio.sleep(self.call_s + self.text_s * counted / COMMON)
        told = {
            "total_duration": int((loop.time() - began) * 1e9),
            "load_duration": 100_000,
            "prompt_eval_count": counted,
        }
        head = b'{"model":%b,"embeddings":[%b],' % (orjson.dumps(asked["model"]), b",".join(map(vector, texts)))
        return web.Response(body=head + orjson.dumps(told)[1:], content_type="application/json")

    async def tags(self, request: web.Request) -> web.Response:
        return web.json_response({"models": [ROW | {"modified_at": "2026-01-01T00:00:00Z"}]})

    async def loaded(self, request: web.Request) -> web.Response:
        more = {"expires_at": "2318-01-01T00:00:00Z", "size_vram": ROW["size"], "context_length": 8192}
        return web.json_response({"models": [ROW | more]})

    async def counts(self, request: web.Request) -> web.Response:
        return web.json_response({"calls": self.calls, "texts": self.texts})

    def application(self) -> web.Application:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/api/embed", self.embed)
        app.router.add_get("/api/tags", self.tags)
        app.router.add_get("/api/ps", self.loaded)
        app.router.add_get("/api/version", lambda _: answered({"version": "0.33.0"}))
        app.router.add_get("/counts", self.counts)
        return app


DETAILS = {"format": "gguf", "family": "bert", "families": ["bert"], "parameter_size": "137M"}
ROW = {
    "name": MODEL,
    "model": MODEL,
    "digest": DIGEST,
    "size": 274_000_000,
    "details": DETAILS,
    "capabilities": ["embedding"],
}


async def answered(value: dict[str, object]) -> web.Response:
    return web.json_response(value)


def tokens(text: str) -> int:
    return max(1, -(-len(text.encode()) // 4))


async def serve(ports: list[int], call_s: float, texts_s: list[float]) -> None:
    for port, text_s in zip(ports, texts_s, strict=True):
        runner = web.AppRunner(EmbeddingNode(call_s, text_s).application(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ports", type=int, nargs="+", required=True)
    parser.add_argument("--call-ms", type=float, required=True)
    parser.add_argument("--text-ms", type=json.loads, required=True, help="One number for each node, as a JSON list.")
    options = parser.parse_args()
    uvloop.run(serve(options.ports, options.call_ms / 1000, [one / 1000 for one in options.text_ms]))


if __name__ == "__main__":
    main()
