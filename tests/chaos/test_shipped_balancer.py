"""The shipped HAProxy configuration in front of gateways that run from what the Dockerfile copies."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest

from benchmarks.chaos_load import CHAT, End, Load
from benchmarks.chaos_run import NAMES, node
from tests.chaos.gateways import gateway, ready, seeded
from tests.chaos.test_rolling_restart import some_more, under_load
from tests.tooling.stack import ROOT, free_port, wait_until

SHIPPED = ROOT / "deploy" / "haproxy"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
#: As in deploy/systemd/sollol.env, with a shorter drain: longer than HAProxy needs to notice.
OPEN = {"SOLLOL_DRAIN_S": "3.5", "SOLLOL_PREFILL_S": "0", "SOLLOL_ANONYMOUS": "allow", "SOLLOL_HTTPS": "true"}


@dataclass(frozen=True)
class Balancer:
    plain: str
    tls: str
    inside: str


def certificate(folder: Path) -> None:
    made = folder / "certs" / "sollol.pem"
    made.parent.mkdir()
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run([*words, "-keyout", folder / "key", "-out", folder / "crt"], check=True, capture_output=True)
    made.write_text((folder / "crt").read_text() + (folder / "key").read_text())


def replaced(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def configured(folder: Path, gateways: tuple[int, int]) -> tuple[list[str], Balancer]:
    """The shipped files with ports and a certificate of the test; nothing else is changed."""
    certificate(folder)
    plain, tls, inside = free_port(), free_port(), free_port()
    front = {"bind :80\n": f"bind 127.0.0.1:{plain}\n", "bind :443 ": f"bind 127.0.0.1:{tls} "}
    front["/etc/haproxy/certs/"] = f"{folder}/certs/"
    back = {"127.0.0.1:8080": f"127.0.0.1:{inside}"}
    back |= {f"127.0.0.1:{port}": f"127.0.0.1:{own}" for port, own in zip((8000, 8001), gateways, strict=True)}
    files = []
    for name, changes in (("haproxy.cfg", front), ("host.cfg", back)):
        (folder / name).write_text(replaced((SHIPPED / name).read_text(), changes))
        files += ["-f", str(folder / name)]
    urls = f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{tls}", f"http://127.0.0.1:{inside}"
    return files, Balancer(*urls)


@contextlib.contextmanager
def balanced(haproxy: str, folder: Path, gateways: tuple[int, int]) -> Iterator[Balancer]:
    files, balancer = configured(folder, gateways)
    with (folder / "haproxy.log").open("w") as log:
        process = subprocess.Popen([haproxy, "-db", *files], stdout=log, stderr=log)
    try:
        wait_until(lambda: ready(balancer.inside) or process.poll() is not None, "a balancer that answers")
        assert process.poll() is None, (folder / "haproxy.log").read_text()
        yield balancer
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("backend", ["host.cfg", "compose.cfg"])
def test_haproxy_accepts_the_files(haproxy: str, tmp_path: Path, backend: str) -> None:
    """Its own checker finds no fault."""
    certificate(tmp_path)
    front = tmp_path / "front.cfg"
    front.write_text((SHIPPED / "haproxy.cfg").read_text().replace("/etc/haproxy/certs/", f"{tmp_path}/certs/"))
    done = subprocess.run([haproxy, "-c", "-f", front, "-f", SHIPPED / backend], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def streamed(client: httpx.Client, url: str) -> list[float]:
    """When each object of a chat's stream came."""
    body = {"model": CHAT, "messages": [{"role": "user", "content": "Why do bees dance?"}]}
    times = []
    with client.stream("POST", f"{url}/api/chat", json=body) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            told = json.loads(line)
            times.append(time.monotonic())
    assert told["done"] is True
    return times


def looked_at(balancer: Balancer) -> None:
    """Over TLS objects arrive as they are written, and figures stay inside; plain HTTP is sent to TLS."""
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    with httpx.Client(verify=unverified, trust_env=False, timeout=30) as client:
        times = streamed(client, balancer.tls)
        assert len(set(times)) > 5
        assert times[-1] - times[0] > 0.05  # as it is written, not in one piece at the end
        assert client.get(f"{balancer.tls}/metrics").status_code == 404
        assert client.get(f"{balancer.tls}/admin/login/").status_code == 200
        moved = client.get(f"{balancer.plain}/admin/login/", headers={"X-Forwarded-Proto": "https"})
        assert (moved.status_code, moved.headers["location"][:8]) == (308, "https://")


def image(folder: Path) -> Path:
    """A tree of nothing but what the Dockerfile copies, in which nobody but root may write."""
    for line in re.findall(r"^COPY (?!--from|requirements)(.+)$", DOCKERFILE.read_text(), re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            place = folder / (source if target == "./" else target)
            place.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (ROOT / source).is_dir() else shutil.copy2)(ROOT / source, place)
    subprocess.run(["chmod", "-R", "a-w", folder], check=True)
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    made = image(tmp_path / "app")
    yield made
    subprocess.run(["chmod", "-R", "u+w", made], check=True)


def healthy(port: int) -> None:
    """Run the command of the Dockerfile's HEALTHCHECK."""
    found = re.search(r"^HEALTHCHECK .*CMD (\[.*\])$", DOCKERFILE.read_text(), re.MULTILINE)
    assert found
    program, *rest = json.loads(found[1])
    assert program == "python"
    subprocess.run([sys.executable, *rest], env={**os.environ, "SOLLOL_PORT": str(port)}, check=True)


async def upgraded(haproxy: str, tree: Path, folder: Path) -> Load:
    """Change the gateway on one port for one on the other, as docs/operations.md says, while requests come."""
    ports = free_port(), free_port()
    async with contextlib.AsyncExitStack() as started:
        nodes = [await started.enter_async_context(node(name, number)) for number, name in enumerate(NAMES)]
        stack = started.enter_context(contextlib.ExitStack())
        run = partial(gateway, folder, nodes, root=tree, PYTHONDONTWRITEBYTECODE="1", **OPEN)
        await asyncio.to_thread(partial(seeded, folder, nodes, tree, PYTHONDONTWRITEBYTECODE="1"))
        old = await asyncio.to_thread(stack.enter_context, run(port=ports[0]))
        await asyncio.to_thread(healthy, ports[0])
        balancer = await asyncio.to_thread(stack.enter_context, balanced(haproxy, folder, ports))
        async with under_load(balancer.inside, nodes) as load:
            await some_more(load)
            await asyncio.to_thread(stack.enter_context, run(port=ports[1]))
            old.terminate()
            code, log = await asyncio.to_thread(old.ended)
            assert (code, "Traceback" in log) == (0, False), log
            await some_more(load)
        await asyncio.to_thread(looked_at, balancer)
        return load


def test_an_upgrade_loses_no_request(haproxy: str, tree: Path, tmp_path: Path) -> None:
    """The new gateway starts beside the old one, on one database; every request gets its whole answer."""
    before = sorted(tree.rglob("*"))
    load = asyncio.run(upgraded(haproxy, tree, tmp_path))
    assert [f"{one.end}: {one.told}" for one in load.requests if one.end is not End.SERVED] == []
    assert sorted(tree.rglob("*")) == before  # nothing is written beside the data
