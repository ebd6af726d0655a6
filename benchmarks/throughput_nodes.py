"""Equal nodes in one process, each on a port of its own: simulated Ollama servers, or nodes that answer at once.

Of simulated ones a line of JSON every 20 ms tells the time and the slots in use on each.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace

import uvloop

from benchmarks.backend import MODEL, Node
from simulator.models import CATALOGUE
from simulator.node import SimulatedNode

SAMPLE_S = 0.02
#: With 4 slots in use a node makes 100 * 4 ** 0.6 = 230 tokens a second: some nine answers of 24 tokens.
PACE = {"decode_rate": 100.0, "prefill_rate": 1000.0, "jitter": 0.2}
#: The first requests load the model, which is to be resident.
AT_ONCE = {"load_fixed": 0.0, "load_bytes_per_second": 1e15, "keep_alive": 86_400.0}


async def simulated(ports: Sequence[int], slots: int) -> None:
    model = replace(CATALOGUE["llama3.2:3b"], name=MODEL)
    nodes = [
        SimulatedNode(
            "gpu-24gb",
            models=[model],
            name=f"n{number}",
            port=port,
            seed=number,
            exact_length=True,
            parallel=slots,
            **PACE,
            **AT_ONCE,
        )
        for number, port in enumerate(ports, 1)
    ]
    for node in nodes:
        await node.start()
    while True:
        await asyncio.sleep(SAMPLE_S)
        print(json.dumps([time.monotonic(), *(node.record.running.total() for node in nodes)]), flush=True)


async def instant(ports: Sequence[int], chunks: int, interval: float) -> None:
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(lambda: Node(chunks, interval), "127.0.0.1", port) for port in ports]
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ports", type=int, nargs="+", required=True)
    parser.add_argument("--slots", type=int, default=4, help="Slots of a simulated node; default 4.")
    parser.add_argument("--instant", action="store_true", help="Nodes that answer at once, and cost next to nothing.")
    parser.add_argument("--chunks", type=int, default=1, help="Chunks of a streamed answer of the latter; default 1.")
    parser.add_argument("--interval-ms", type=float, default=0.0, help="Time between two of them; default 0.")
    options = parser.parse_args()
    uvloop.run(
        instant(options.ports, options.chunks, options.interval_ms / 1000)
        if options.instant
        else simulated(options.ports, options.slots)
    )


if __name__ == "__main__":
    main()
