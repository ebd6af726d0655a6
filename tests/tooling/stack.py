"""`manage.py up` as an operator runs it: a process of its own with a data folder and a port of its own."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = ("SOLLOL_", "DATABASE_URL", "REDIS_URL")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_until(true: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what} not within {seconds:.0f} s"
        time.sleep(0.05)


def environment(folder: Path, port: int, **more: str) -> dict[str, str]:
    """This process's environment without settings of the developer, with a data folder and port for the test."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {**inherited, "SOLLOL_DATA_DIR": str(folder), "SOLLOL_PORT": str(port), **more}


@dataclass
class Stack:
    """A started `manage.py up`; `output` is what it has told so far."""

    folder: Path
    port: int
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    @classmethod
    @contextlib.contextmanager
    def started(cls, folder: Path, port: int = 0, **more: str) -> Iterator["Stack"]:
        """The stack from its banner on; stopped at the end if the test has not done so."""
        with cls.launched(folder, port, **more) as stack:
            stack.wait_for("Try it:")
            yield stack

    @classmethod
    @contextlib.contextmanager
    def launched(cls, folder: Path, port: int = 0, **more: str) -> Iterator["Stack"]:
        port = port or free_port()
        process = subprocess.Popen(
            [sys.executable, "manage.py", "up"],
            cwd=ROOT,
            env=environment(folder, port, **more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        stack = cls(folder, port, process)
        reader = threading.Thread(target=stack.read, daemon=True)
        reader.start()
        try:
            yield stack
        finally:
            stack.stop()
            reader.join(5)

    def read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)

    @property
    def output(self) -> str:
        return "".join(self.lines)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def password(self) -> str:
        found = re.search(r"password (\S+) \(shown only now\)", self.output)
        assert found, self.output
        return found[1]

    def wait_for(self, text: str, seconds: float = 90.0) -> None:
        wait_until(
            lambda: text in self.output or self.process.poll() is not None, f"{text!r} in:\n{self.output}", seconds
        )
        assert text in self.output, f"up ended with {self.process.returncode}:\n{self.output}"

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send the signal if it still runs; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)

    def pid_of(self, node: str) -> int:
        """Process id of a simulated node."""
        name = b"--name\0" + node.encode() + b"\0"
        return next(pid for pid in self.processes() if name in Path(f"/proc/{pid}/cmdline").read_bytes())

    def processes(self) -> list[int]:
        """Process ids of whatever runs with this data folder, `up` itself included."""
        mark = f"SOLLOL_DATA_DIR={self.folder}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
        return found
