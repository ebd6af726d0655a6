"""The balancers of the chaos benchmark, each in front of nodes of its own: the gateway, nginx and HAProxy."""

import contextlib
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.overhead import ROOT, running, wait_for
from simulator.node import SimulatedNode

#: Seconds without a byte after which each takes a node's answer for broken.
SILENCE_S = 3
#: What the gateway logs once it knows that chats can be continued.
PROBED = "probed on"

NGINX = """
{user}worker_processes 1;
daemon off;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    upstream nodes {{
        least_conn;
{servers}
        keepalive 64;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://nodes;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_buffering off;
            proxy_connect_timeout 2s;
            proxy_read_timeout {silence}s;
            proxy_next_upstream error timeout invalid_header http_500 http_502 http_503 http_504 non_idempotent;
            proxy_next_upstream_tries 3;
        }}
    }}
}}
"""
NGINX_SERVER = "        server 127.0.0.1:{port} max_fails=3 fail_timeout=5s;"

HAPROXY = """
global
    maxconn 2000
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server {silence}s
    retries 3
    option redispatch 1
    option http-buffer-request
    retry-on all-retryable-errors
frontend clients
    bind 127.0.0.1:{port}
    default_backend nodes
backend nodes
    balance leastconn
    option httpchk GET /api/version
    default-server check inter 2s fall 2 rise 2 observe layer7 error-limit 3 on-error mark-down
{servers}
"""
HAPROXY_SERVER = "    server {name} 127.0.0.1:{port}"


def version_of(program: str) -> str:
    """Name and version of an installed program as it tells them; nothing where it is not installed."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        return ""
    told = subprocess.run([found, "-v"], capture_output=True, text=True, check=False)
    words = (told.stdout + told.stderr).replace("nginx version: nginx/", "nginx ").split()
    return " ".join(word for word in words[:3] if word != "version")


@contextlib.contextmanager
def nginx(folder: Path, port: int, nodes: Sequence[SimulatedNode]) -> Iterator[None]:
    user = "user root;\n" if os.geteuid() == 0 else ""
    servers = "\n".join(NGINX_SERVER.format(port=node.port) for node in nodes)
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(user=user, servers=servers, port=port, silence=SILENCE_S))
    command = [which("nginx"), "-p", str(folder), "-c", str(config)]
    with running(command, port, folder / "nginx.log"):
        yield


@contextlib.contextmanager
def haproxy(folder: Path, port: int, nodes: Sequence[SimulatedNode]) -> Iterator[None]:
    servers = "\n".join(HAPROXY_SERVER.format(name=node.name, port=node.port) for node in nodes)
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY.format(servers=servers, port=port, silence=SILENCE_S))
    with running([which("haproxy"), "-db", "-f", str(config)], port, folder / "haproxy.log"):
        yield


@contextlib.contextmanager
def sollol(folder: Path, port: int, nodes: Sequence[SimulatedNode]) -> Iterator[None]:
    own = {
        "SOLLOL_DATA_DIR": str(folder / "data"),
        "SOLLOL_NODES": ",".join(
            f"{node.name}=127.0.0.1:{node.port}?slots={node.profile.parallel}&vram_gb=24" for node in nodes
        ),
        "SOLLOL_HOST": "127.0.0.1",
        "SOLLOL_PORT": str(port),
        "SOLLOL_STALL_S": str(SILENCE_S),
        "SOLLOL_PREFILL_S": "1",
    }
    for words in (("migrate", "--verbosity", "0"), ("seed_nodes",)):
        subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT,
            env={**os.environ, **own},
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )
    log = folder / "gateway.log"
    with running([sys.executable, "manage.py", "gateway"], port, log, **own) as process:
        wait_for(lambda: ready(port), process, log)
        yield


def ready(port: int) -> bool:
    """Whether the gateway says that it is ready."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
        return bool(answer.status == 200)
    return False


def probed(folder: Path) -> bool:
    """Whether the gateway has found out by itself that chats can be continued."""
    return PROBED in (folder / "gateway.log").read_text(errors="replace")


def which(program: str) -> str:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin") or program


#: By the name that results carry: how it is started, and the program that it needs.
BALANCERS = {"SOLLOL": (sollol, ""), "nginx": (nginx, "nginx"), "HAProxy": (haproxy, "haproxy")}
