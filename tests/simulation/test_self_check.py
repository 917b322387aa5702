"""The self-check repeats runs in a fresh process, and reports the line of a difference."""

from pathlib import Path

import pytest

from supervision.laboratory.simulation.errors import Diverged, RunFileError
from supervision.laboratory.simulation.frames import SourceLine
from supervision.laboratory.simulation.replaying.run_file import describe_run
from supervision.laboratory.simulation.replaying.self_check import (
    check_determinism,
    check_many,
    compare,
)
from supervision.laboratory.simulation.simulate import Scenario
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import simulate
from tests.simulation import leaky_scenarios
from tests.simulation.leaky_scenarios import (
    addresses,
    cpu_times,
    environment,
    group_in_a_server,
    hashes,
    listings,
    names_of_a_set,
    sleeps_of_a_set,
    sorted_first,
    what_another_run_left,
)
from tests.simulation.scenarios import crashing_tree, iterates_over_a_set

SMALL = {"groups": 2, "workers": 3, "rounds": 3}


def divergence(scenario: Scenario) -> Diverged:
    with pytest.raises(Diverged) as caught:
        check_determinism(simulate(scenario, 1))
    return caught.value


def source_lines(error: Diverged) -> list[SourceLine]:
    """Return the lines of the program in both runs."""
    lines = [line for line in error.source_lines if line is not None]
    assert len(lines) == 2
    return lines


def test_a_loop_over_a_set_of_processes_is_named_with_its_line_and_what_to_use_instead() -> None:
    error = divergence(iterates_over_a_set)
    for line in source_lines(error):
        assert line.place.startswith("simulation/scenarios.py:")
        assert line.place.endswith(" in iterates_over_a_set")
        assert "of scenarios.py iterates over `waiting`, a set of 50" in str(line.loop)
    assert "sorted(...)" in str(error)
    assert "a dict" in str(error)
    assert all(said.startswith("the scenario sent 'stop' to /idle ") for said in error.said if said)


def test_a_loop_in_a_callback_over_an_attribute_is_found_from_the_function_that_it_calls() -> None:
    error = divergence(group_in_a_server)
    line = source_lines(error)[0]
    assert line.place.endswith(" in tell")
    assert "iterates over `list(self.members)`, a set of 30" in str(line.loop)
    assert error.said[0] is not None
    assert error.said[0].startswith("/Group sent 'stop' to /Group/member ")


def test_a_comprehension_over_a_set_is_found() -> None:
    line = source_lines(divergence(names_of_a_set))[0]
    assert "iterates over `set(names)`, a set" in str(line.loop)


def test_a_difference_without_a_loop_over_a_set_is_reported_with_its_line() -> None:
    error = divergence(hashes)
    line = source_lines(error)[0]
    assert line.place.endswith(" in hashes")
    assert line.loop is None
    assert "perhaps it iterates over a set" in str(error)


def test_a_loop_over_a_set_that_only_sleeps_is_found() -> None:
    error = divergence(sleeps_of_a_set)
    assert "at other times" in str(error.said[0])


@pytest.mark.parametrize("scenario", [addresses, cpu_times], ids=lambda each: each.__name__)
def test_a_reading_that_differs_in_each_process_is_not_blamed_on_an_earlier_run(
    scenario: Scenario,
) -> None:
    error = divergence(scenario)
    assert error.left_behind is None
    assert "an earlier run in the same process" not in str(error)
    assert "a memory address, the use of the CPU" in str(error)


def test_a_scenario_that_reads_all_environment_variables_is_found() -> None:
    error = divergence(environment)
    assert error.left_behind is None
    assert "the environment variables" in str(error)


def test_the_seed_decides_the_order_of_the_names_in_a_folder(tmp_path: Path) -> None:
    names = [f"file {number}" for number in range(8)]
    for name in names:
        (tmp_path / name).touch()
    params = {"folder": str(tmp_path)}
    outcomes = [simulate(listings, seed, params=params) for seed in (1, 1, 2)]
    first, again, other = (outcome.digest for outcome in outcomes)
    assert first == again != other
    noted = outcomes[0].trace[-1].decode()
    assert all(noted.count(name) == 2 for name in names)
    check_determinism(outcomes[0])


def test_sorting_a_set_is_enough() -> None:
    check_determinism(simulate(sorted_first, 1))


def test_runs_with_and_without_a_trace_and_run_files_are_repeated() -> None:
    outcomes = [
        simulate(crashing_tree, seed, params=SMALL, keep_trace=seed % 2 == 0) for seed in range(6)
    ]
    assert check_many([*outcomes, describe_run(outcomes[1])]) == [None] * 7


def test_each_run_gets_its_own_result() -> None:
    async def local(world: World) -> None:
        pass

    problems = check_many(
        [
            simulate(crashing_tree, 1, params=SMALL),
            simulate(local, 1),
            simulate(hashes, 1, keep_trace=False),
            simulate(crashing_tree, 2, params={**SMALL, "what": object()}),
            simulate(sorted_first, 1),
        ]
    )
    assert [type(problem) for problem in problems] == [
        type(None),
        RunFileError,
        Diverged,
        RunFileError,
        type(None),
    ]
    assert check_many([]) == []


def test_runs_share_a_process_and_a_dependence_on_an_earlier_run_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leaky_scenarios, "runs", 0)
    first = simulate(what_another_run_left, 1)
    problems = check_many([first, simulate(what_another_run_left, 2)])
    assert problems == [None, None]
    problems = check_many([simulate(what_another_run_left, 3)])
    assert isinstance(problems[0], Diverged)
    assert problems[0].left_behind == ("tests.simulation.leaky_scenarios.runs",)
    assert "an earlier run in the same process left data behind" in str(problems[0])
    assert "tests.simulation.leaky_scenarios.runs; create" in str(problems[0])


def test_a_hanging_process_is_given_up() -> None:
    (problem,) = check_many([simulate(sorted_first, 1)], real_seconds=0.01)
    assert isinstance(problem, RunFileError)
    assert "not over after 0.01 s" in str(problem)


def test_traces_are_compared_up_to_the_end_of_the_longer_one() -> None:
    with pytest.raises(Diverged) as caught:
        compare([b'{"kind":"x"}'], [])
    assert (caught.value.step, caught.value.second) == (0, None)
    assert "it was over" in str(caught.value)
