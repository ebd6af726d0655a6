"""`manage.py gateway`: how uvicorn is told to serve."""

import logging
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from fleet.management.commands.gateway import CUT_ON_PURPOSE, configuration, told_nothing_new
from tests.tooling.stack import ROOT, environment, free_port, wait_until


def test_uvicorn_leaves_forwarding_headers_alone() -> None:
    """The gateway judges forwarding headers itself, so uvicorn must not rewrite the peer's address."""
    config = configuration()
    assert not config.proxy_headers
    assert not config.server_header
    assert config.lifespan == "on"


def test_cut_stream_is_not_logged() -> None:
    """Uvicorn's line about an unfinished answer is dropped, any other is kept."""
    records = [
        logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, text, None, None) for text in (CUT_ON_PURPOSE, "x")
    ]
    assert [told_nothing_new(record) for record in records] == [False, True]


def test_uvicorn_still_says_it_that_way() -> None:
    """The dropped line is the one that this uvicorn writes."""
    from uvicorn.protocols.http import httptools_impl  # noqa: PLC0415 (its source is what counts)

    assert CUT_ON_PURPOSE in Path(httptools_impl.__file__).read_text()


def test_sigterm_ends_it_with_success(tmp_path: Path) -> None:
    """It serves on the port that it is given, and SIGTERM ends it with exit code 0 and without a traceback."""
    port = free_port()
    given = environment(tmp_path, free_port())
    subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], cwd=ROOT, env=given, check=True)
    command = [sys.executable, "manage.py", "gateway", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, env=given, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: answer(port) or process.poll() is not None, "an answer")
            assert "server" not in httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).headers
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        told = process.stderr.read()
    assert process.returncode == 0, told
    assert "Traceback" not in told


def answer(port: int) -> str:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).text
    except httpx.HTTPError:
        return ""
