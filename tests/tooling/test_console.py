"""The console shows warnings, errors and exits of the supervised programs, and nothing else."""

from pathlib import Path

from fleet.management.console import Attention, Exits, Tail


def write(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def test_only_loud_records_are_shown_with_their_lines(tmp_path: Path) -> None:
    """A warning is shown with the traceback that follows it; information is not, nor what was there before."""
    log = tmp_path / "gateway.log"
    write(log, "2026-01-01 10:00:00,000 ERROR old: before the start")
    attention = Attention("gateway", tmp_path)
    write(
        log,
        "2026-01-01 10:00:01,000 INFO sollol: fine",
        "2026-01-01 10:00:02,000 ERROR sollol: bad",
        "Traceback (most recent call last):",
        "2026-01-01 10:00:03,000 INFO sollol: fine again",
        "10:00:04 [Q] WARNING slow",
    )
    assert list(attention.lines()) == [
        "gateway | 2026-01-01 10:00:02,000 ERROR sollol: bad",
        "gateway | Traceback (most recent call last):",
        "gateway | 10:00:04 [Q] WARNING slow",
    ]


def test_exit_of_a_program_is_told(tmp_path: Path) -> None:
    """A killed program is told with its signal, and one that is given up is remembered."""
    exits = Exits(tmp_path)
    write(
        tmp_path / "supervisord.log",
        "2026-01-01 10:00:00,000 INFO spawned: 'ant' with pid 9",
        "2026-01-01 10:00:01,000 WARN exited: ant (terminated by SIGKILL; not expected)",
        "2026-01-01 10:00:09,000 INFO gave up: ant entered FATAL state, too many start retries too quickly",
    )
    assert list(exits.lines()) == [
        "ant | ended (terminated by SIGKILL); it is started again",
        "ant | ended too often; it is not started again",
    ]
    assert exits.gave_up == {"ant"}


def test_rotated_log_is_read_from_its_start(tmp_path: Path) -> None:
    """After a rotation the new file is read from its first line."""
    log = tmp_path / "a.log"
    write(log, "a long line before the rotation")
    tail = Tail(log)
    log.write_text("new\n")
    assert list(tail.lines()) == ["new"]


def test_line_is_shown_when_it_is_whole(tmp_path: Path) -> None:
    """Half a line waits for its other half."""
    log = tmp_path / "a.log"
    tail = Tail(log)
    log.write_text("half")
    assert list(tail.lines()) == []
    write(log, " and half")
    assert list(tail.lines()) == ["half and half"]
