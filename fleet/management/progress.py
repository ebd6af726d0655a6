"""A line on the console that tells how far something is."""

from types import TracebackType
from typing import Any, Self


class Progress:
    """Tells of `steps` steps, of each how much is done; silent where nobody watches.

    `stream` is a command's output, of which the terminal's own stream is asked whether it is one.
    """

    def __init__(self, stream: Any, steps: int) -> None:
        self.stream, self.steps = stream, steps
        self.step, self.label, self.widest = 0, "", 0
        self.alive = stream.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._write(" " * self.widest + "\r")

    def begin(self, label: str) -> None:
        """The next step begins."""
        self.step, self.label = self.step + 1, label
        self.update(0.0)

    def update(self, done: float) -> None:
        """So much of the step is done, from 0 to 1."""
        line = f"run {self.step} of {self.steps}, {self.label}: {done:4.0%}"
        self.widest = max(self.widest, len(line))
        self._write(f"{line.ljust(self.widest)}\r")

    def _write(self, text: str) -> None:
        if self.alive:
            self.stream.write(text, str, ending="")  # as it is, not in the colour of errors
            self.stream.flush()
