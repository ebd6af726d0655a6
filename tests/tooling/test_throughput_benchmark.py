"""The throughput benchmark, small; and what it says of figures that are made up."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.throughput_report import Load, Row, evenness, fast_verdict, report, slow_verdict
from tests.tooling.stack import ROOT, environment, free_port

IDLE = Load(0.1, 0.2)


@pytest.mark.timeout(240)
def test_it_writes_tables_and_a_plot(tmp_path: Path) -> None:
    """A short run with two nodes tells of both kinds of nodes, each of which has answered."""
    target = tmp_path / "results" / "throughput.md"
    command = [sys.executable, "-m", "benchmarks.throughput", "--nodes", "2", "--output", str(target)]
    command += ["--warm-up", "1", "--seconds", "1", "--fast-seconds", "1", "--most", "200"]
    given = environment(tmp_path / "unused", free_port())
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    slow, fast = tables(target.read_text())
    for table, measured in ((slow, "slots in use"), (fast, "requests/s of a core")):
        assert [row["nodes"] for row in table] == ["2"]
        assert measured in table[0]
        assert float(table[0]["requests/s"]) > 0
        assert float(table[0]["a node"].split(" to ")[0]) > 0
    assert slow[0]["of the ideal"] == "100%"
    assert not (tmp_path / "unused").exists()
    assert target.with_suffix(".svg").read_text().startswith("<?xml")


def test_verdicts() -> None:
    """Linear, linear until a core was the limit, not linear; each limit is named."""
    one, two = row(1, 10.0), row(2, 19.0)
    assert slow_verdict([one, two]).startswith("**Linear within 10 %**: 95% of the ideal at 2 nodes")
    assert "until a core was the limit" in slow_verdict([one, row(2, 15.0, slots=6.0, gateway=Load(0.5, 0.95))])
    bent = row(2, 15.0, slots=6.0)
    assert slow_verdict([one, bent]).startswith("**Not linear within 10 %**")
    assert (two.limit, bent.limit) == ("node slots", "none: slots stayed free")
    core = row(2, 500.0, slots=None, gateway=Load(0.5, 0.97))
    assert core.limit == "gateway core"
    assert fast_verdict([core]).startswith(
        "**The gateway's core is the limit.** One core of the gateway serves 1000 to"
    )
    assert evenness([one, two]) == "Requests were spread evenly within 10 %."
    assert "at 2 (0.00 to 2.00) nodes" in evenness([one, two._replace(answers=[0, 190])])
    assert "Not shown to be the limit at 2 nodes" in fast_verdict([core, row(2, 500.0, slots=None)])


def test_tables_of_made_up_figures() -> None:
    """The report has a line for each row, and no picture where none was drawn."""
    rows = [row(1, 10.0), row(2, 15.0)]
    text = report(rows, rows, connections=(8, 32), conditions="conditions", picture="")
    slow, fast = tables(text)
    assert [cells["of the ideal"] for cells in slow] == ["100%", "75%"]
    assert [cells["requests/s of a core"] for cells in fast] == ["100", "150"]
    assert slow[1]["slots in use"] == "8.0 of 8"
    assert "![" not in text
    assert "![Requests" in report(rows, rows, connections=(8, 32), conditions="", picture="throughput.svg")


def row(nodes: int, rate: float, *, slots: float | None = -1.0, gateway: Load = IDLE) -> Row:
    """Ten seconds at so many requests per second; all slots in use if nothing else is said."""
    answers = [round(rate * 10 / nodes)] * nodes
    used = 4.0 * nodes if slots == -1.0 else slots
    return Row(nodes, 10.0, answers, used, 4 * nodes, gateway, IDLE, IDLE)


def tables(text: str) -> list[list[dict[str, str]]]:
    """The rows of each table, by column."""
    found = []
    for block in text.split("\n\n"):
        lines = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines() if line[:1] == "|"
        ]
        if lines:
            columns, _, *rows = lines
            found.append([dict(zip(columns, cells, strict=True)) for cells in rows])
    return found
