"""`manage.py up`, run as an operator runs it."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.tooling.stack import ROOT, Stack, environment, free_port, wait_until

pytestmark = pytest.mark.timeout(240)


def refused(folder: Path, port: int, **more: str) -> str:
    """What a start tells that must end with exit code 1, on one line."""
    done = subprocess.run(
        [sys.executable, "manage.py", "up"],
        cwd=ROOT,
        env=environment(folder, port, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1, done
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not done.stdout
    return done.stderr


def is_up(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def gateway_process(stack: Stack) -> int:
    return next(pid for pid in stack.processes() if "manage.py gateway" in command(pid))


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()


def test_life_of_a_start(tmp_path: Path) -> None:
    """A killed node is started again and takes nobody down; Ctrl-C and SIGTERM stop all; the second start knows all."""
    with Stack.started(tmp_path) as stack:
        first = stack.password
        gateway = gateway_process(stack)
        ant = next(pid for pid in stack.processes() if command(pid).endswith("--name ant"))
        os.kill(ant, signal.SIGKILL)
        stack.wait_for("ant | ended (terminated by SIGKILL); it is started again")
        [address] = re.findall(r"ant +(http://\S+)", stack.output)
        wait_until(lambda: is_up(address), "ant is back")
        assert gateway_process(stack) == gateway
        assert is_up(stack.url)
        assert stack.stop(signal.SIGINT) == 0
        assert "Traceback" not in stack.output
        assert not stack.processes()
    with Stack.started(tmp_path) as stack:
        assert (
            "user admin, password unchanged; to reset it: .venv/bin/python manage.py changepassword admin"
            in stack.output
        )
        assert first not in stack.output
        assert stack.stop(signal.SIGTERM) == 0
        assert not stack.processes()


def test_banner_holds(running_stack: Stack) -> None:
    """The banner's curl line gets a whole answer from the node that a header names."""
    [line] = [line.strip() for line in running_stack.lines if line.strip().startswith("curl ")]
    command = [*shlex.split(line), "-sS", "-i", "--max-time", "60"]
    done = subprocess.run(command, capture_output=True, text=True)
    told = done.stdout + done.stderr + (running_stack.folder / "logs" / "gateway.log").read_text()
    assert '"done":true' in done.stdout.replace(" ", ""), told
    assert re.search(r"(?im)^x-sollol-node: (ant|bee|cat)", done.stdout), done.stdout


def test_second_start_is_told_who_has_the_port(running_stack: Stack, tmp_path: Path) -> None:
    """A second start ends at once and names the first, not the gateway that the first would start again."""
    told = refused(tmp_path, running_stack.port)
    assert f"port {running_stack.port} on 127.0.0.1 is taken; stop process {running_stack.process.pid} " in told
    assert "SOLLOL_PORT=" in told


def test_second_start_leaves_the_data_folder_alone(running_stack: Stack) -> None:
    """With another port but the same data folder, a second start ends too: nodes and worker would be double."""
    told = refused(running_stack.folder, free_port())
    assert f"process {running_stack.process.pid} runs already with the data folder" in told


def test_broken_database_is_told(tmp_path: Path) -> None:
    """A migration that fails is one line with cause and file."""
    (tmp_path / "sollol.sqlite3").write_text("this is no database" * 100)
    told = refused(tmp_path, free_port())
    assert "the database could not be brought up to date: file is not a database" in told
    assert str(tmp_path / "sollol.sqlite3") in told


def test_absent_postgresql_is_told(tmp_path: Path) -> None:
    """A PostgreSQL that does not answer is one line with the driver's reason."""
    told = refused(tmp_path, free_port(), DATABASE_URL=f"postgres://bo:honey@127.0.0.1:{free_port()}/sollol")
    assert "Connection refused" in told
    assert "honey" not in told


def test_bad_nodes_are_told(tmp_path: Path) -> None:
    """A node that cannot be read is one line that names the setting and the entry."""
    told = refused(tmp_path, free_port(), SOLLOL_NODES="gpu-1=10.0.0.1:11434?slotz=4")
    assert "SOLLOL_NODES: node 'gpu-1=10.0.0.1:11434?slotz=4': unknown option 'slotz'" in told


def test_unreachable_node_is_a_warning(tmp_path: Path) -> None:
    """A named node that does not answer is told, no simulated nodes run, and the start goes on."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    with Stack.launched(tmp_path, SOLLOL_NODES=f"gpu-1=127.0.0.1:{port}") as stack:
        stack.wait_for(f"warning: node gpu-1 (http://127.0.0.1:{port}) does not answer")
        stack.wait_for("unreachable")
        assert not any("-m simulator" in command(pid) for pid in stack.processes())
        assert stack.stop() == 0


def test_help_tells_what_it_does() -> None:
    """The help names what is started and the settings used most."""
    done = subprocess.run([sys.executable, "manage.py", "up", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert "Ctrl-C" in done.stdout
    assert "SOLLOL_NODES" in done.stdout
