"""TCP ports: bound, found free, and who holds one that is taken."""

import errno
import socket
from collections.abc import Collection
from pathlib import Path

LOOPBACK = "127.0.0.1"
LISTENING = "0A"
BACKLOG = 2048


class PortTaken(Exception):  # noqa: N818 (named after what happened)
    """The address cannot be listened on; the text says why and what to do."""


def bound(host: str, port: int) -> list[socket.socket]:
    """Listening sockets on every address that `host` stands for. Raises PortTaken."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror:
        raise PortTaken(f"SOLLOL_HOST={host} is not an address of this machine") from None
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
        try:
            sockets.append(socket.create_server(address[:2], family=family, backlog=BACKLOG))
        except OSError as error:
            missing = error
            # A machine without IPv6 still resolves "localhost" to ::1; that one alone may be missing.
            if error.errno != errno.EADDRNOTAVAIL:
                for opened in sockets:
                    opened.close()
                raise PortTaken(reason(host, port, error)) from None
    if missing is not None and not sockets:
        raise PortTaken(reason(host, port, missing))
    return sockets


def check(host: str, port: int) -> None:
    """Raise PortTaken if nothing could listen there now."""
    for opened in bound(host, port):
        opened.close()


def free_port(wanted: int, taken: Collection[int] = ()) -> int:
    """The first port from `wanted` on that is free on the loopback address and not in `taken`."""
    for port in range(wanted, min(wanted + 500, 65536)):
        if port in taken:
            continue
        try:
            check(LOOPBACK, port)
        except PortTaken:
            continue
        return port
    raise PortTaken(f"no free port between {wanted} and {wanted + 500} on {LOOPBACK}")


def reason(host: str, port: int, failure: OSError) -> str:
    if failure.errno == errno.EADDRINUSE:
        holder = listener(port)
        stop = f"stop {holder}" if holder else "stop the program that listens there"
        return f"port {port} on {host} is taken; {stop}, or choose another port: SOLLOL_PORT={free_above(port)}"
    if failure.errno == errno.EACCES:
        return f"port {port} needs root's rights; choose one above 1023: SOLLOL_PORT=8000"
    if failure.errno == errno.EADDRNOTAVAIL:
        return f"SOLLOL_HOST={host} is not an address of this machine"
    return f"cannot listen on {host}:{port}: {failure.strerror or failure}"


def free_above(port: int) -> int:
    for candidate in range(port + 1, min(port + 100, 65536)):
        with socket.socket() as probe:
            if probe.connect_ex((LOOPBACK, candidate)):
                return candidate
    return 8000


def listener(port: int) -> str:
    """Who listens on the port, as `process 4711 (python manage.py up)`; empty where the system does not tell.

    Of a gateway that `up` keeps alive, `up` is named: the gateway alone would be started again.
    """
    inodes = {f"socket:[{inode}]" for inode in listening_inodes(port)}
    if not inodes:
        return ""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(handle.readlink()) in inodes for handle in (process / "fd").iterdir()):
                return told(starter(process) or process)
        except OSError:  # ended meanwhile, or another user's
            continue
    return ""


def told(process: Path) -> str:
    return f"process {process.name} ({command_of(process)[:80]})"


def command_of(process: Path) -> str:
    return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()


def starter(process: Path) -> Path | None:
    """The `manage.py up` that has started the process, itself or through others."""
    while process.name not in ("0", "1"):
        if command_of(process).endswith("manage.py up"):
            return process
        process = process.parent / (process / "stat").read_text().rpartition(")")[2].split()[1]
    return None


def listening_inodes(port: int) -> set[str]:
    found: set[str] = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for columns in (line.split() for line in lines):
            if columns[3] == LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                found.add(columns[9])
    return found
