"""The nodes behind the running address, seen and disturbed from beside it; names for new models; ollama-js."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.conftest import missing
from tests.tooling.stack import Stack, wait_until

SCRIPTS = Path(__file__).parent / "js"
QUIET = ["--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", "--no-update-notifier"]


@dataclass(frozen=True)
class Nodes:
    """The simulated nodes of the stack, by their own addresses."""

    urls: list[str]

    def aborted(self) -> int:
        """Requests whose client has left before the end."""
        return sum(httpx.get(f"{url}/_sim/state", trust_env=False).json()["aborted"] for url in self.urls)

    def control(self, action: str, **switches: object) -> None:
        for url in self.urls:
            httpx.post(f"{url}/_sim/{action}", json=switches, trust_env=False).raise_for_status()


class Stalled:
    """Every answer stops after a few pieces and never ends; who reads on is there until they leave."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._before = nodes.aborted()

    def noticed(self, leavers: int = 1) -> None:
        """Return when the nodes know that so many clients have left."""
        wait_until(lambda: self._nodes.aborted() >= self._before + leavers, "the nodes notice who leaves", 10)


@pytest.fixture
def nodes(running_stack: Stack) -> Nodes:
    return Nodes(re.findall(r"(?:ant|bee|cat)\s+(http://127\.0\.0\.1:\d+)", running_stack.output))


@pytest.fixture
def stalled(nodes: Nodes) -> Iterator[Stalled]:
    nodes.control("faults", stall_after_chunks=5)
    yield Stalled(nodes)
    nodes.control("clear")


@pytest.fixture
def new_name(running_stack: Stack) -> Iterator[str]:
    """A name for a model to be made; whatever has it afterwards is deleted."""
    name = f"bo-{uuid4().hex[:8]}:latest"
    yield name
    httpx.request("DELETE", f"{running_stack.url}/api/delete", json={"model": name}, timeout=60, trust_env=False)


@dataclass(frozen=True)
class OllamaJs:
    """Scripts that use ollama-js, in a folder where Node finds it."""

    node: str
    folder: Path

    def run(self, host: str, script: str, *arguments: str) -> Any:
        """What the script prints."""
        command = [self.node, script, host, *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="session")
def ollama_js(node_js: str, tmp_path_factory: pytest.TempPathFactory) -> OllamaJs:
    """The library as package-lock.json pins it, installed outside the checkout; npm keeps what it has fetched."""
    folder = tmp_path_factory.mktemp("js") / "scripts"
    shutil.copytree(SCRIPTS, folder, ignore=shutil.ignore_patterns("node_modules"))
    done = subprocess.run(["npm", "ci", *QUIET], cwd=folder, capture_output=True, text=True, timeout=120)
    if done.returncode:
        missing("ollama-js", done.stderr)
    return OllamaJs(node_js, folder)
