"""The example scenarios: they pass, they reach their `sometimes`, and they find a bug."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from actors import Reply, Sender
from channels.cli import command as cli
from examples.scenarios import bank, theatre
from supervision.laboratory.simulation.replaying.run_file import find_scenario
from supervision.laboratory.simulation.search.report import SweepReport
from supervision.laboratory.simulation.search.sweep import sweep
from tests.laws.scenarios import lawful

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
SCENARIOS = {
    "examples.scenarios.shop:opening_day": 200 if DEEP else 11,
    "examples.scenarios.bank:a_day_of_transfers": 200 if DEEP else 11,
    "examples.scenarios.chat_rooms:an_evening": 50 if DEEP else 4,
    "examples.scenarios.theatre:evening": 200 if DEEP else 11,
    "examples.scenarios.journal:power_failures": 200 if DEEP else 11,
    "examples.scenarios.auction_house:evening": 100 if DEEP else 5,
    "examples.scenarios.cells:busy_clients": 200 if DEEP else 11,
}


@pytest.mark.parametrize(("name", "seeds"), SCENARIOS.items())
def test_an_example_scenario_passes_under_its_faults_and_reaches_its_conditions(
    name: str, seeds: int
) -> None:
    report = SweepReport(scenario=name)
    for result in sweep(lawful(find_scenario(name)), range(1, seeds + 1), check=0):
        report.add(result)
    assert not report.failures
    assert report.faults["applied"] > seeds
    assert report.sometimes
    if seeds > 10:
        assert report.unseen == []


# Deep for two scenarios, because the command does the same with each.
@pytest.mark.parametrize("name", SCENARIOS if DEEP else [*SCENARIOS][1:3])
def test_the_command_runs_an_example_scenario(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--seeds", "2", "--jobs", "1", "--check", "1", "--corpus", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["ashtree", "simulate", name, *options])
    with pytest.raises(SystemExit) as left:
        cli.main()
    out = capsys.readouterr().out
    assert left.value.code == 0, out
    assert "1 repeated in a fresh process, all the same" in out


def test_a_box_office_with_a_check_then_act_race_is_found() -> None:
    results = list(sweep(theatre.evening, range(1, 21), params={"office": "hasty"}, check=0))
    problems = [result.problem for result in results if result.failure is not None]
    assert problems
    assert all("was sold to visitor" in str(problem) for problem in problems)


def test_a_bank_that_ignores_transfer_numbers_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def write_always(self: bank.Ledger, request: Any, sender: Sender) -> Reply:
        if request is not None:
            self.state[f"{request.number}, entry {len(self.state)}"] = request
        return Reply(list(self.state.values()))

    monkeypatch.setattr(bank.Ledger, "handle_call", write_always)
    results = sweep(bank.a_day_of_transfers, range(1, 21), jobs=0, check=0)
    assert any(result.failure is not None for result in results)
