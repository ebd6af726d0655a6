"""The routing benchmark, small."""

import pytest

from benchmarks import routing
from benchmarks.scenarios import FAULTS, FLEETS, MIXES


def test_it_writes_tables_and_a_plot(tmp_path, capsys):
    """A short run tells of every fleet, mix, fault and of teams, with a ratio of one where random meets itself."""
    target = tmp_path / "routing.md"
    routing.main(["--seeds", "1", "--horizon", "6", "--loads", "0.5", "--processes", "1", "--output", str(target)])
    text = target.read_text()
    assert capsys.readouterr().out.startswith(text)
    for word in (*FLEETS, *FAULTS, "office", "flooded / alone", "worst overtake"):
        assert word in text
    chance = [line.split(" | ") for line in text.splitlines() if "| random |" in line]
    assert {cells[5] for cells in chance} == {"1.00"}
    assert target.with_suffix(".svg").read_text().startswith("<?xml")


def test_the_plan_holds_every_fleet_mix_and_fault():
    """Nothing that the scenarios define is left out of the benchmark."""
    cases = routing.plan(routing.LOADS, quick=False)
    assert {case.fleet for case in cases} == set(FLEETS)
    assert {case.mix for case in cases} == set(MIXES)
    assert {case.faults for case in cases} == set(FAULTS)


@pytest.mark.parametrize("name", FLEETS)
def test_every_fleet_runs_every_model_that_is_asked_for(name):
    """A load of 1.0 is a rate above zero."""
    mix = "resident" if name == "even" else "office"
    assert routing.machines(name)
    assert routing.scenario(routing.Case(name, mix, "none", 0.5), 1, 30.0).asked
