"""Gateways as processes, as operators run them, in front of simulated nodes of the test."""

import contextlib
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from simulator.node import SimulatedNode
from tests.tooling.stack import ROOT, environment, free_port, wait_until

#: Loading the certificates anew costs more than the question.
UNUSED = ssl.create_default_context()


@dataclass
class Process:
    """A running `manage.py gateway`; `folder` holds its database."""

    port: int
    folder: Path
    process: subprocess.Popen[str]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ready(self) -> bool:
        return ready(self.url)

    def terminate(self) -> None:
        self.process.terminate()

    def ended(self) -> tuple[int, str]:
        """Exit code and all that it logged."""
        return self.process.wait(60), self.log.read_text()


def ready(url: str) -> bool:
    """Whether a gateway, or a balancer in front of gateways, would serve requests."""
    try:
        return httpx.get(f"{url}/readyz", verify=UNUSED, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def seeded(folder: Path, nodes: Sequence[SimulatedNode], root: Path = ROOT, **more: str) -> None:
    """Make a database that knows these nodes, by the code in `root`."""
    for words in (("migrate", "-v", "0"), ("seed_nodes",)):
        subprocess.run([sys.executable, "manage.py", *words], cwd=root, env=told(folder, 1, nodes, **more), check=True)


def told(folder: Path, port: int, nodes: Sequence[SimulatedNode], **more: str) -> dict[str, str]:
    listed = ",".join(f"{node.name}={node.host}:{node.port}?slots={node.profile.parallel}" for node in nodes)
    return environment(folder, port, SOLLOL_NODES=listed, SOLLOL_HOST="127.0.0.1", **more)


@contextlib.contextmanager
def gateway(
    folder: Path,
    nodes: Sequence[SimulatedNode],
    port: int = 0,
    logs: Path | None = None,
    root: Path = ROOT,
    **more: str,
) -> Iterator[Process]:
    """A gateway that is ready, of the code in `root`, which logs to a file in `logs`.

    It is killed at the end if the test has not ended it.
    """
    port = port or free_port()
    log = (logs or folder) / f"gateway-{port}-{len(list(folder.glob('*.log')))}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "gateway"],
            cwd=root,
            env=told(folder, port, nodes, **more),
            stdout=output,
            stderr=output,
            text=True,
        )
    one = Process(port, folder, process, log)
    try:
        wait_until(lambda: one.ready() or process.poll() is not None, "a gateway that is ready")
        assert process.poll() is None, log.read_text()
        yield one
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
