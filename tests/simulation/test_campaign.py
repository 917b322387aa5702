"""Several sweeps in one, within a limit of real time."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import trio

from supervision.applications.command_line.console import plain_console
from supervision.laboratory.simulation.errors import RunFileError
from supervision.laboratory.simulation.search.corpus import Corpus
from supervision.laboratory.simulation.search.report import SweepReport
from supervision.laboratory.simulation.search.sweep import SeedResult
from supervision.laboratory.simulation.search.terminal import print_divergences
from supervision.laboratory.simulation.world.world import World
from tests.simulation.campaign import Campaign, Part, Sweep
from tests.simulation.sweep_scenarios import FAILURES
from tests.simulation.sweeps import SWEEPS
from tests.simulation.sweeps.__main__ import main
from tests.simulation.sweeps.reach import Module

HERE = "tests.simulation.test_campaign"
RARELY = Sweep("rarely", "tests.simulation.sweep_scenarios:rarely_fails")
ALWAYS = Sweep("always", "tests.simulation.sweep_scenarios:changeable")


async def passes(world: World) -> None:
    await trio.sleep(1)
    world.sometimes("an odd seed", world.seed % 2)
    world.sometimes("a seed of a million", world.seed == 1_000_000)


PASSES = Sweep("passes", f"{HERE}:passes")


def ticking() -> Callable[[], float]:
    """Return a clock that advances by one second at each reading."""
    readings = iter(range(1_000_000))
    return lambda: float(next(readings))


def campaign(*sweeps: Sweep, seeds: int | None = None, seconds: float = 1000.0) -> Campaign:
    return Campaign(sweeps, seconds=seconds, seeds=seeds, jobs=0, check=0, clock=ticking())


def test_each_sweep_runs_the_same_seeds_by_default_and_others_on_request() -> None:
    first = campaign(PASSES, seeds=6)
    first.run()
    assert [part.report.runs for part in first.parts] == [6]
    assert first.parts[0].report.sometimes == {"an odd seed": 3, "a seed of a million": 0}
    other = Campaign([PASSES], seconds=1000.0, first_seed=999_999, seeds=2, jobs=0)
    other.run()
    assert other.parts[0].report.sometimes == {"an odd seed": 1, "a seed of a million": 1}


def test_the_time_is_shared_by_weight() -> None:
    light, heavy = PASSES, Sweep("heavy", f"{HERE}:passes", weight=3)
    both = campaign(light, heavy, seconds=100.0)
    both.run()
    small, large = (part.report.runs for part in both.parts)
    assert 2 < large / small < 4
    assert sum(part.seconds for part in both.parts) < 100 * 0.9


async def fails_on_request(world: World) -> None:
    world.check(not world.params.get("fails"), "the parameters ask for a failure")


def test_the_parameters_of_a_sweep_reach_its_runs_and_its_run_files() -> None:
    path = f"{HERE}:fails_on_request"
    both = campaign(Sweep("fails", path, params={"fails": True}), Sweep("passes", path), seeds=1)
    both.run()
    failing, passing = both.parts
    assert passing.passed
    (kind,) = failing.report.failures.values()
    assert kind.first.run is not None
    assert kind.first.run.params == {"fails": True}


def test_a_sweep_ends_at_its_failures_and_leaves_its_time_to_the_others() -> None:
    both = campaign(ALWAYS, PASSES, seconds=100.0)
    both.run()
    failing, passing = both.parts
    assert failing.has_found_enough
    assert failing.report.runs == failing.report.failed == 20
    assert passing.seconds > 100 * 0.85 / 2
    assert not both.passed


def test_a_sweep_ends_at_a_run_whose_process_died() -> None:
    dies = Sweep("dies", "tests.simulation.sweep_scenarios:ends_its_process")
    one = Campaign([dies], seconds=1000.0, seeds=100, jobs=1, check=0)
    one.run()
    assert list(one.parts[0].report.failures) == ["SIGSEGV"]
    assert one.parts[0].report.runs == 3


def test_a_sweep_is_not_visited_again_when_the_time_is_over() -> None:
    told: list[Part] = []
    late = campaign(*(Sweep(str(number), f"{HERE}:passes") for number in range(9)), seconds=10.0)
    late.run(told.append)
    assert [part.sweep.name for part in told] == list(map(str, range(9)))


def test_every_visit_is_told() -> None:
    told: list[Part] = []
    both = campaign(PASSES, RARELY, seeds=2)
    both.run(told.append)
    assert [part.sweep.name for part in told] == ["passes", "rarely"] * (len(told) // 2)


def test_a_finding_has_a_run_file_in_the_folder(tmp_path: Path) -> None:
    found = campaign(RARELY, seeds=30)
    found.run()
    findings = list(found.examine(Corpus(tmp_path)))
    assert {finding.failures.failure for _, finding in findings} == FAILURES
    assert all(finding.path is not None and finding.path.exists() for _, finding in findings)
    assert all(part is found.parts[0] for part, _ in findings)


def test_the_first_failure_of_each_kind_is_repeated_in_a_fresh_process(tmp_path: Path) -> None:
    found = Campaign([RARELY], seconds=1000.0, seeds=12, jobs=0, check=1e-9)
    found.run()
    list(found.examine(Corpus(tmp_path)))
    rarely = found.parts[0].report
    assert rarely.checked == len(rarely.failures)
    assert not rarely.diverged


def test_a_sometimes_that_no_run_reaches_fails_the_campaign_after_enough_seeds() -> None:
    few, many = campaign(PASSES, seeds=20), campaign(PASSES, seeds=100)
    few.run()
    many.run()
    assert few.passed
    assert not many.passed
    assert many.parts[0].report.unseen == ["a seed of a million"]


def test_a_scenario_that_cannot_be_imported_is_refused() -> None:
    with pytest.raises(RunFileError, match="no_such_function"):
        campaign(Sweep("missing", f"{HERE}:no_such_function"))


@pytest.mark.parametrize("weight", [0, -1])
def test_a_weight_is_positive(weight: float) -> None:
    with pytest.raises(ValueError, match="Sweep got weight="):
        Sweep("any", "any:any", weight=weight)


def test_a_campaign_has_sweeps_and_time() -> None:
    with pytest.raises(ValueError, match="sweeps is empty"):
        Campaign([], seconds=1.0)
    with pytest.raises(ValueError, match="Campaign got seconds=0"):
        Campaign([PASSES], seconds=0)


def test_the_names_of_the_shipped_sweeps_are_unique_and_their_scenarios_exist() -> None:
    assert len({each.name for each in SWEEPS}) == len(SWEEPS)
    Campaign(SWEEPS, seconds=1.0)


@pytest.fixture
def small_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the product have one module. `test_reach.py` reads all modules, which takes seconds."""
    modules = {"actors/any.py": Module(frozenset({1}), {1: 2})}
    for reader in ("campaign_output", "sweeps.reach"):
        monkeypatch.setattr(f"tests.simulation.{reader}.modules", lambda: modules)


@pytest.mark.usefixtures("small_product")
def test_make_sweep_prints_the_tables_and_writes_the_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.simulation.sweeps.__main__.SWEEPS", (PASSES, RARELY))
    file = tmp_path / "results.json"
    folder = ["--corpus", str(tmp_path), "--json", str(file)]
    assert not main(["--seeds", "30", "--jobs", "0", "--check", "0", *folder])
    shown = capsys.readouterr().out
    assert "ashtree replay" in shown
    assert "runs/CPU s" in shown
    assert "no sweep reaches a function of these 1 of 1 modules:\n  actors/any.py\n" in shown
    assert "never reached: a seed of a million; but there were only 30 runs" in shown
    data = msgspec.json.decode(file.read_bytes())
    assert [each["name"] for each in data["sweeps"]] == ["passes", "rarely"]
    assert {each["failure"] for each in data["sweeps"][1]["findings"]} == FAILURES


@pytest.mark.usefixtures("small_product")
def test_make_sweep_passes_if_all_runs_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "2", "--jobs", "0", "--check", "0", "processes"])
    assert "passed" in capsys.readouterr().out


def test_a_divergence_is_printed_with_its_seed_although_no_run_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = SweepReport(scenario="any")
    for seed in range(1, 8):
        differs = f"the first difference is event {seed}" if seed > 2 else None
        report.add(SeedResult(seed=seed, checked=True, diverged=differs))
    assert not report.failures
    assert not report.passed
    print_divergences(plain_console(), report)
    shown = capsys.readouterr().out
    assert "seed 3 gives another run in a fresh process\n  the first difference is event 3" in shown
    assert "so do the runs of the seeds 6, 7" in shown


def test_an_unknown_name_of_a_sweep_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["no such sweep"])
    assert "there is no sweep 'no such sweep'; the sweeps are " in capsys.readouterr().err
