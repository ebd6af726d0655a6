"""Shows on the console what in the logs of supervised programs deserves attention."""

import re
from collections.abc import Iterator
from pathlib import Path

RECORD = re.compile(r"^[\d:., -]+(?:\[Q\] )?(DEBUG|INFO|WARNING|ERROR|CRITICAL) ")
LOUD = ("WARNING", "ERROR", "CRITICAL")
ENDED = re.compile(r" exited: (?P<name>\S+) \((?P<how>.*?)(?:; not expected)?\)$")
GAVE_UP = re.compile(r" gave up: (?P<name>\S+) ")


class Tail:
    """Whole lines that are appended to a file after now, its rotation included."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.at = path.stat().st_size if path.exists() else 0
        self.rest = b""

    def lines(self) -> Iterator[str]:
        try:
            with self.path.open("rb") as file:
                if file.seek(0, 2) < self.at:
                    self.at, self.rest = 0, b""
                file.seek(self.at)
                new = file.read()
        except FileNotFoundError:
            return
        self.at += len(new)
        *whole, self.rest = (self.rest + new).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace").rstrip()


class Attention:
    """Warnings and errors of one program's log, each with the lines that belong to it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.tail = Tail(folder / f"{name}.log")
        self.loud = True

    def lines(self) -> Iterator[str]:
        for line in self.tail.lines():
            if record := RECORD.match(line):
                self.loud = record[1] in LOUD
            if self.loud and line:
                yield f"{self.name} | {line}"


class Exits:
    """What supervisord tells about programs that ended by themselves; `gave_up` are those it starts no more."""

    def __init__(self, folder: Path) -> None:
        self.tail = Tail(folder / "supervisord.log")
        self.gave_up: set[str] = set()

    def lines(self) -> Iterator[str]:
        for line in self.tail.lines():
            if ended := ENDED.search(line):
                yield f"{ended['name']} | ended ({ended['how']}); it is started again"
            elif gave_up := GAVE_UP.search(line):
                self.gave_up.add(gave_up["name"])
                yield f"{gave_up['name']} | ended too often; it is not started again"


def last_line(path: Path) -> str:
    """The last line with text of a file that may not exist."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
