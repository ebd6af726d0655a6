"""`python -m simulator`."""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from simulator.__main__ import node_of, parser

ARGUMENTS = ["--port", "0", "--speed", "200", "--models", "llama3.2:3b", "--name", "ant"]


def run(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "simulator", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def process():
    process = run(*ARGUMENTS)
    yield process
    process.kill()
    process.communicate()


def address(process):
    return re.search(r"http://\S+", process.stdout.readline()).group()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_listens_and_ends_cleanly(process, number):
    """One line when it listens; a signal ends it with exit code 0."""
    with urllib.request.urlopen(address(process) + "/api/version") as answer:  # noqa: S310 - our own node
        assert json.load(answer) == {"version": "0.33.0"}
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_taken_port_is_one_line_and_exit_code_1():
    """Nothing else is printed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = run("--port", str(taken.getsockname()[1]))
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("cannot listen on 127.0.0.1:")
    assert err.count("\n") == 1


def test_an_unknown_model_is_named():
    """With the list of those that are known."""
    process = run("--models", "owl")
    _, err = process.communicate(timeout=10)
    assert process.returncode == 2
    assert "owl" in err
    assert "llama3.2:3b" in err


def test_the_control_port_works_when_the_node_refuses():
    """No fault affects it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = run(*ARGUMENTS, "--control-port", str(port))
    base = address(process)
    control = f"http://127.0.0.1:{port}/_sim/faults"
    try:
        urllib.request.urlopen(control, json.dumps({"refuse": True}).encode()).close()
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(base)  # noqa: S310
        urllib.request.urlopen(control, json.dumps({"refuse": False}).encode()).close()
        assert urllib.request.urlopen(base).read() == b"Ollama is running"  # noqa: S310
    finally:
        process.kill()
        process.communicate()


def test_settings_of_the_command_line():
    """They reach the node, and a bad origin is one line and exit code 2."""
    arguments = ["--account", "Ada", "--origins", "*", "--version", "0.6.0"]
    node = node_of(parser().parse_args(arguments))
    assert (node.account, node.origins.everybody, node.version) == ("Ada", True, "0.6.0")
    process = run("--origins", "bees.example")
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err.count("\n")) == (2, 1)
