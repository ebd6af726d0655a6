"""Runs programs under supervisord: what dies is started again, and each gets its own time to stop."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARENT_DEATH_SIGNAL = 1
LOG_BYTES = "5MB"


@dataclass(frozen=True)
class Program:
    """One supervised process. A higher `priority` starts later and stops earlier; `stop_s` is its time to stop."""

    name: str
    arguments: tuple[str, ...]
    priority: int
    stop_s: int

    def section(self) -> str:
        arguments = " ".join(self.arguments)
        return f"""
[program:{self.name}]
command="%(ENV_SOLLOL_PYTHON)s" {arguments}
directory=%(ENV_SOLLOL_ROOT)s
priority={self.priority}
autorestart=true
startsecs=2
startretries=5
stopsignal=TERM
stopwaitsecs={self.stop_s}
killasgroup=true
redirect_stderr=true
stdout_logfile=%(here)s/logs/{self.name}.log
stdout_logfile_maxbytes={LOG_BYTES}
stdout_logfile_backups=2
"""


def configuration(programs: Iterable[Program]) -> str:
    """Supervisord's configuration; paths are taken from the environment, so none needs quoting."""
    root = "user=root\n" if os.geteuid() == 0 else ""
    head = f"""; Written by `manage.py up` at every start.
[supervisord]
nodaemon=true
silent=true
{root}loglevel=info
logfile=%(here)s/logs/supervisord.log
logfile_maxbytes={LOG_BYTES}
logfile_backups=1
pidfile=%(here)s/supervisord.pid
"""
    return head + "".join(program.section() for program in programs)


@contextlib.contextmanager
def supervised(folder: Path, programs: Iterable[Program]) -> Iterator[subprocess.Popen[bytes]]:
    """Supervisord with these programs, stopped together with them at the end; logs are in `folder`/logs."""
    (folder / "logs").mkdir(exist_ok=True)
    path = folder / "supervisord.conf"
    path.write_text(configuration(programs))
    environment = {
        **os.environ,
        "SOLLOL_PYTHON": sys.executable,
        "SOLLOL_ROOT": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }
    libc = ctypes.CDLL(None)

    def end_with_parent() -> None:  # Linux only: if this process is killed, supervisord stops everything
        with contextlib.suppress(AttributeError):
            libc.prctl(PARENT_DEATH_SIGNAL, signal.SIGTERM)

    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(path)]
    with (folder / "logs" / "supervisord.err").open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603 (our own command)
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
            preexec_fn=end_with_parent,  # noqa: PLW1509 (no threads run yet)
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
