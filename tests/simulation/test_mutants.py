"""The mutants still apply to the code of Ashtree, and the runner of the mutants reports correct results."""

import json
import sys
from pathlib import Path

import pytest

from tests.simulation.mutants.__main__ import (
    LAYERS,
    ROOT,
    figure,
    layer_of,
    line,
    scenarios_for,
)
from tests.simulation.mutants.everything import MUTANTS
from tests.simulation.mutants.measuring import Measured, copied, finding, measure
from tests.simulation.mutants.mutant import Mutant, OutdatedMutant, apply, times_found

HEALTHY = "def double(number):\n    return 2 * number\n"


def toy(old: str, new: str) -> Mutant:
    return Mutant(
        name="a toy",
        file="actors/double.py",
        old=old,
        new=new,
        promise="double: returns two times the number",
        seen="wrong numbers",
        tests=("tests",),
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "actors").mkdir()
    (tmp_path / "actors" / "double.py").write_text(HEALTHY)
    return tmp_path


def search_for_double(mutant: Mutant) -> list[str]:
    script = (
        "import json, sys; sys.path.insert(0, '.'); from actors.double import double; "
        "find = None if double(3) == 6 else {'failure': 'wrong', 'seed': 3, 'seconds': 0.5}; "
        "print(json.dumps({'find': find}))"
    )
    return [sys.executable, "-S", "-E", "-c", script]


# The mutants


def test_every_mutant_applies_to_its_module_exactly_once() -> None:
    outdated = [each.name for each in MUTANTS if times_found(each, ROOT) != 1]
    assert outdated == []


def test_every_mutant_has_a_name_of_its_own_and_names_existing_tests() -> None:
    assert len({each.name for each in MUTANTS}) == len(MUTANTS)
    assert all((ROOT / path).exists() for each in MUTANTS for path in each.tests)


# Applying


def test_a_mutant_changes_only_the_copy(tree: Path) -> None:
    with copied(tree) as copy:
        apply(toy("2 * number", "number + 2"), copy)
        assert (copy / "actors" / "double.py").read_text() == HEALTHY.replace(
            "2 * number", "number + 2"
        )
    assert (tree / "actors" / "double.py").read_text() == HEALTHY
    assert not copy.exists()


@pytest.mark.parametrize(("old", "times"), [("3 * number", 0), ("number", 2)])
def test_a_mutant_whose_old_text_does_not_occur_once_is_refused(
    tree: Path, old: str, times: int
) -> None:
    with pytest.raises(
        OutdatedMutant, match=f"occurs {times} times in actors/double.py"
    ) as refused:
        apply(toy(old, "0"), tree)
    assert refused.value.times == times


def test_a_mutant_that_is_no_valid_python_is_refused(tree: Path) -> None:
    with pytest.raises(SyntaxError):
        apply(toy("2 * number", "2 *"), tree)
    assert (tree / "actors" / "double.py").read_text() == HEALTHY


# Measuring


@pytest.mark.parametrize("mutant", [MUTANTS[0], MUTANTS[-1]], ids=lambda each: each.layer)
def test_a_search_runs_the_sweeps_of_the_layer_of_a_mutant_and_of_the_layers_above(
    mutant: Mutant,
) -> None:
    layers = [layer_of(path) for path in scenarios_for(mutant)]
    assert set(layers) == set(LAYERS[LAYERS.index(mutant.layer) :])
    assert layers == sorted(layers, key=LAYERS.index)


def test_a_mutant_that_breaks_a_promise_is_found(tree: Path) -> None:
    measured = measure(toy("2 * number", "number + 2"), tree, search_for_double, limit=30)
    assert measured.find == {"failure": "wrong", "seed": 3, "seconds": 0.5}


def test_a_mutant_without_an_effect_is_not_found(tree: Path) -> None:
    measured = measure(toy("2 * number", "number + number"), tree, search_for_double, limit=30)
    assert measured.find is None


def test_a_mutant_that_no_longer_applies_is_not_counted(tree: Path) -> None:
    measured = measure(toy("3 * number", "0"), tree, search_for_double, limit=30)
    assert measured.outdated
    found = Measured(mutant=MUTANTS[0], find={"failure": "wrong"})
    assert figure([measured, found]) == "The sweeps found 1 of 1 bugs."
    assert line(measured).endswith("outdated: its old text does not occur once")


# The output of a search


def test_the_last_run_of_a_search_that_did_not_end_is_its_find() -> None:
    said = "\n".join(json.dumps({"scenario": "a:b", "seed": seed}) for seed in (1, 2))
    assert finding(f"{said}\nTraceback ...", "exit code 1") == {
        "failure": "the search did not end",
        "problem": "exit code 1",
        "scenario": "a:b",
        "seed": 2,
    }


def test_a_search_that_ended_without_a_failure_found_nothing() -> None:
    said = '{"scenario": "a:b", "seed": 1}\n{"find": null}\n'
    assert finding(said, "exit code 0") is None
