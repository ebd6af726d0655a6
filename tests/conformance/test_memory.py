"""Large bodies do not fill the gateway's memory."""

import hashlib
import json
import re
from pathlib import Path

import httpx
import pytest

from tests.tooling.stack import Stack

pytestmark = pytest.mark.timeout(300)

PIECE = bytes(range(256)) * 4096
PIECES = 1024
SIZE = len(PIECE) * PIECES
MIB = 1 << 20


def pieces():
    for _ in range(PIECES):
        yield PIECE


def digest() -> str:
    content = hashlib.sha256()
    for piece in pieces():
        content.update(piece)
    return f"sha256:{content.hexdigest()}"


def memory(pid: int, line: str) -> int:
    """Bytes of a line of /proc/PID/status: VmRSS now, VmHWM at most."""
    found = re.search(rf"{line}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def gateway_of(stack: Stack) -> int:
    """The gateway's process, whose highest memory use is counted from now on."""
    pid = next(p for p in stack.processes() if b"\0gateway\0" in Path(f"/proc/{p}/cmdline").read_bytes())
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return pid


def test_05_a_blob_of_a_gibibyte_passes_with_flat_memory(running_stack):
    """Taken in without a length, sent on to all nodes: the gateway grows by less than 64 MiB."""
    pid, name = gateway_of(running_stack), digest()
    before = memory(pid, "VmRSS")
    with httpx.Client(base_url=running_stack.url, timeout=200) as client:
        assert client.post(f"/api/blobs/{name}", content=pieces()).status_code == 201
        taken = memory(pid, "VmHWM")
        answer = client.post("/api/create", json={"model": "large", "files": {"m.gguf": name}})
        lines = [json.loads(line) for line in answer.text.splitlines()]
        client.request("DELETE", "/api/delete", json={"model": "large"})
    (running_stack.folder / "spool" / name.replace(":", "-")).unlink()
    assert lines[-1] == {"status": "success"}
    assert SIZE == [line.get("completed") for line in lines if line["status"].startswith("copying")][-1] == 1 << 30
    assert taken - before < 64 * MIB
    assert memory(pid, "VmHWM") - before < 64 * MIB
