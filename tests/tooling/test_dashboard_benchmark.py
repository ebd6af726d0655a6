"""The dashboard's benchmark, small."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.dashboard import Span, table
from tests.tooling.stack import ROOT, environment, free_port


@pytest.mark.timeout(180)
def test_it_writes_a_table(tmp_path: Path) -> None:
    """A short run with three nodes tells what one and five viewers saw."""
    target = tmp_path / "dashboard.md"
    command = [sys.executable, "-m", "benchmarks.dashboard", "--output", str(target), "--nodes", "3", "--rate", "20"]
    command += ["--rounds", "2", "--warm-up", "0.5", "--seconds", "1.5"]
    given = environment(tmp_path / "unused", free_port())
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("|")[1:-1] for line in target.read_text().splitlines() if line.startswith("| ")][1:]
    assert [row[0].strip() for row in rows] == ["0", "1", "5"]
    for row in rows[1:]:
        assert float(row[3]) > 0
        assert 0 < float(row[7].split()[0]) < 5
    assert not (tmp_path / "unused").exists()


def test_differences_are_those_within_a_round() -> None:
    """A machine that got slower between two rounds does not count as the viewers' cost."""
    spans = [
        Span(viewers, cores + 0.01 * viewers, 200.0, 1000.0, 2.0, [0.2])
        for cores in (0.3, 0.6)
        for viewers in (0, 1, 5)
    ]
    assert "| 1 | 46.0 | +1.0 (+1.0 to +1.0) | 2.0 | 1 | 0.20 s | 0.20 s | 0.20 s |" in table(spans)
