"""Processes of this machine that work with a data folder, as far as the system lets them be seen."""

import fcntl
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("gateway", "qcluster", "up")
SETTING = "SOLLOL_DATA_DIR"


def running(folder: Path, database: Path, besides: int = 0) -> list[str]:
    """Each as `process 4711 (python manage.py gateway)`: those of SOLLOL, and whatever has the database open.

    `besides`: the process that is not meant.
    """
    found = []
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        if int(process.name) == besides:
            continue
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if serves(process, words, folder) or has_open(process, database):
                found.append(f"process {process.name} ({' '.join(words).strip()[:80]})")
        except OSError:  # ended meanwhile, or another user's
            continue
    return found or holder(folder / "up.lock")


def serves(process: Path, words: list[str], folder: Path) -> bool:
    """Whether it is a gateway, worker or `up` with this data folder."""
    at = next((place for place, word in enumerate(words) if Path(word).name == "manage.py"), None)
    if at is None or not set(words[at + 1 : at + 2]) & set(COMMANDS):
        return False
    pairs = (pair.partition("=") for pair in (process / "environ").read_bytes().decode(errors="replace").split("\0"))
    named = {name: value for name, _, value in pairs}.get(SETTING)
    here = (process / "cwd").resolve()
    if named is None:  # then .env beside the code says it, or the default, for it as for this process
        return SETTING not in os.environ and (here / words[at]).resolve() == ROOT / "manage.py"
    return (here / Path(named).expanduser()).resolve() == folder


def has_open(process: Path, database: Path) -> bool:
    return any(handle.readlink() == database for handle in (process / "fd").iterdir())


def holder(lock: Path) -> list[str]:
    """Who holds the lock of `manage.py up`: found also where there is no /proc."""
    if not lock.exists():
        return []
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return [f"process {file.read().strip() or '?'} (manage.py up)"]
    return []
