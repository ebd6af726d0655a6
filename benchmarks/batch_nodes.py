"""Unequal simulated nodes with one embedding model, in one process, each on a port of its own."""

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import replace

import uvloop

from simulator.models import CATALOGUE, ModelSpec
from simulator.node import SimulatedNode

EMBED, CHAT = "nomic-embed-text:latest", "llama3.2:3b"
#: Numbers in a vector: the simulator takes milliseconds for one of a real model's width.
WIDTH = 16


def specs() -> list[ModelSpec]:
    return [replace(CATALOGUE[EMBED], embedding_length=WIDTH), CATALOGUE[CHAT]]


async def serve(ports: Sequence[int], rates: Sequence[float]) -> None:
    """Nodes of so many prompt tokens a second; of rate 0 one that takes no time."""
    for number, (port, rate) in enumerate(zip(ports, rates, strict=True), 1):
        kind = {"prefill_rate": rate, "decode_rate": 60.0, "load_fixed": 0.5, "load_bytes_per_second": 1e12}
        profile, more = ("gpu-24gb", kind) if rate else ("instant", {})
        await SimulatedNode(profile, models=specs(), name=f"n{number}", port=port, **more).start()
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ports", type=int, nargs="+", required=True)
    parser.add_argument("--rates", type=float, nargs="+", required=True)
    options = parser.parse_args()
    uvloop.run(serve(options.ports, options.rates))


if __name__ == "__main__":
    main()
