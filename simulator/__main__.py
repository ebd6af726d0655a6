"""Run one simulated node as a process."""

import argparse
import asyncio
import signal
import sys
from typing import Any

from aiohttp import web

from simulator.models import CATALOGUE
from simulator.node import SimulatedNode
from simulator.node_request import NodeRequest
from simulator.profiles import PROFILES
from simulator.routes_control import control


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="python -m simulator",
        description="A simulated Ollama node: API, scheduler and failures of a real one, without a GPU.",
        epilog=(
            "Faults can be flipped from this machine while it runs: "
            "curl -d '{\"busy\": true}' http://127.0.0.1:11434/_sim/faults; "
            "GET /_sim/state shows what it sees and holds, POST /_sim/clear heals, "
            'POST /_sim/kill {"seconds": 5} kills it and starts it again.'
        ),
    )
    options.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    options.add_argument("--port", type=int, default=11434, help="port, 0 for any free one (default: %(default)s)")
    options.add_argument(
        "--profile", default="gpu-24gb", choices=sorted(PROFILES), help="kind of machine (default: %(default)s)"
    )
    options.add_argument(
        "--speed", type=float, default=1.0, help="simulated seconds per real second (default: %(default)s)"
    )
    options.add_argument(
        "--models",
        help=f"comma-separated models, empty for none; default: what fits the profile of {', '.join(CATALOGUE)}",
    )
    options.add_argument("--parallel", type=int, help="slots per runner, OLLAMA_NUM_PARALLEL")
    options.add_argument("--max-loaded", type=int, help="models in memory at once, OLLAMA_MAX_LOADED_MODELS")
    options.add_argument("--max-queue", type=int, help="length of the load queue, OLLAMA_MAX_QUEUE")
    options.add_argument("--keep-alive", type=float, help="seconds a model stays when idle, OLLAMA_KEEP_ALIVE")
    options.add_argument("--context-length", type=int, help="default num_ctx, 0 by memory, OLLAMA_CONTEXT_LENGTH")
    options.add_argument("--decode-rate", type=float, help="tokens per second of one sequence, for every model")
    options.add_argument("--prefill-rate", type=float, help="prompt tokens per second of one sequence, for every model")
    options.add_argument("--jitter", type=float, help="random part of loads and rates, such as 0.1 for 10 percent")
    options.add_argument("--seed", type=int, default=0, help="of the jitter; texts do not depend on it")
    options.add_argument("--version", default="0.33.0", help="what /api/version says (default: %(default)s)")
    options.add_argument("--account", default="", help="who is signed in at ollama.com; cloud models need it")
    options.add_argument("--origins", default="", help="comma-separated pages that may ask, OLLAMA_ORIGINS")
    options.add_argument("--name", default="ollama", help="name in log lines and state (default: %(default)s)")
    options.add_argument(
        "--exact-length",
        action="store_true",
        default=None,
        help="every answer is exactly num_predict tokens long (always so in the instant profile)",
    )
    options.add_argument("--control-port", type=int, help="serve /_sim/ on this port too, which no fault affects")
    return options


PROFILE_OPTIONS = (
    "parallel",
    "max_loaded",
    "max_queue",
    "keep_alive",
    "context_length",
    "decode_rate",
    "prefill_rate",
    "jitter",
)


def node_of(options: argparse.Namespace) -> SimulatedNode:
    """The node that the command line asks for; raises KeyError for an unknown model, ValueError for a bad number."""
    changes = {name: getattr(options, name) for name in PROFILE_OPTIONS if getattr(options, name) is not None}
    models = None if options.models is None else [name.strip() for name in options.models.split(",") if name.strip()]
    return SimulatedNode(
        options.profile,
        models=models,
        speed=options.speed,
        name=options.name,
        host=options.host,
        port=options.port,
        version=options.version,
        seed=options.seed,
        exact_length=options.exact_length,
        account=options.account,
        origins=options.origins,
        **changes,
    )


async def run(node: SimulatedNode, control_port: int | None) -> int:
    """Serve until SIGINT or SIGTERM; the exit code."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        await node.start()
        controls = await _control_listener(node, control_port) if control_port is not None else None
    except OSError as error:
        await node.stop()
        sys.stderr.write(f"cannot listen on {node.host}: {error.strerror or error}\n")
        return 1
    models = ", ".join(model.name.shortest for model in node.library.newest_first()) or "no models"
    sys.stdout.write(
        f"{node.name} listens on {node.base_url} as {node.profile.name}, speed {node.clock.speed:g}: {models}\n"
    )
    sys.stdout.flush()
    await stopped.wait()
    if controls is not None:
        controls.close()
    await node.stop()
    return 0


async def _control_listener(node: SimulatedNode, port: int) -> asyncio.Server:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return await control(node, request)

    server = web.Server(handle, request_factory=NodeRequest.of, access_log=None)
    return await asyncio.get_running_loop().create_server(server, "127.0.0.1", port)


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        node: Any = node_of(options)
    except KeyError as error:
        sys.stderr.write(f"unknown model {error}; known are {', '.join(CATALOGUE)}\n")
        return 2
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return asyncio.run(run(node, options.control_port))


if __name__ == "__main__":
    sys.exit(main())
