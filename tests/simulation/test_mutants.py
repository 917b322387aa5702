"""The mutants still apply to the code of Ashtree, and the runner of the mutants reports correct results."""

import ast
import json
import sys
from functools import cache
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
from tests.simulation.mutants.held_out import HELD_OUT
from tests.simulation.mutants.measuring import Measured, copied, finding, measure
from tests.simulation.mutants.mutant import Mutant, OutdatedMutant, apply, mutated
from tests.simulation.mutants.shape import matches, replace

EVERYTHING = (*MUTANTS, *HELD_OUT)

HEALTHY = "def double(number):\n    return 2 * number\n"
WRONG = "def double(number):\n    return number + 2"
TABLES = """\
class Table:
    def double(self):
        return self.rows + self.rows

    def first(self):
        return self.rows[0]
"""


def toy(
    shape: str, replacement: str, *, module: str = "actors.double", function: str = "double"
) -> Mutant:
    return Mutant(
        name="a toy",
        module=module,
        function=function,
        shape=shape,
        replacement=replacement,
        promise="double: returns two times the number",
        seen="wrong numbers",
        tests=("tests",),
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "actors").mkdir()
    (tmp_path / "actors" / "double.py").write_text(HEALTHY)
    (tmp_path / "actors" / "tables.py").write_text(TABLES)
    return tmp_path


def search_for_double(mutant: Mutant) -> list[str]:
    script = (
        "import json, sys; sys.path.insert(0, '.'); from actors.double import double; "
        "find = None if double(3) == 6 else {'failure': 'wrong', 'seed': 3, 'seconds': 0.5}; "
        "print(json.dumps({'find': find}))"
    )
    return [sys.executable, "-S", "-E", "-c", script]


# The mutants


@cache
def healthy(file: str) -> str:
    """Return the text of a module without its comments."""
    return ast.unparse(ast.parse((ROOT / file).read_text()))


@pytest.mark.parametrize("mutant", EVERYTHING, ids=lambda each: each.name)
def test_every_mutant_applies_to_its_module_and_compiles(mutant: Mutant) -> None:
    assert mutated(mutant, ROOT) != healthy(mutant.file)


def test_every_mutant_has_a_name_of_its_own_and_names_existing_tests() -> None:
    assert len({each.name for each in EVERYTHING}) == len(EVERYTHING)
    assert all((ROOT / path).exists() for each in EVERYTHING for path in each.tests)


# Shapes


def replaced(code: str, shape: str, replacement: str) -> list[str]:
    """Return the code with the replacement, once for each place with the shape."""
    results = []
    for index in range(len(matches(shape, replacement, ast.parse(code)))):
        tree = ast.parse(code)
        replace(matches(shape, replacement, tree)[index], replacement)
        results.append(ast.unparse(ast.fix_missing_locations(tree)))
    return results


@pytest.mark.parametrize(
    ("code", "shape", "replacement", "result"),
    [
        ("x = now - since > limit", "N - S > limit", "N - S >= limit", "x = now - since >= limit"),
        ("x = a == a or a == b", "A == A", "True", "x = True or a == b"),
        ("if a and b and c:\n    d()", "b and ...", "b", None),
        ("if b and c and d:\n    e()", "b and ...", "b", "if b:\n    e()"),
        ("f(1, 2, key=3)", "f(AA, key=K)", "f(K, AA)", "f(3, 1, 2)"),
        ("f(1, 2, key=3)", "f(..., key=3)", "g()", "g()"),
        ("f(1, 2, key=3)", "f(...)", "g()", "g()"),
        ("f(1, 2, key=3)", "f(AA)", "g()", None),
        ("self.a = self.b = 1", "self.a = 1", "", None),
        ("a()\nb()", "a()", "", "b()"),
        ("if a:\n    b()", "b()", "", "if a:\n    pass"),
        ("if a:\n    b()\n    c()", "if A:\n    BB", "BB", "b()\nc()"),
        ("if a:\n    b()\nelse:\n    c()", "if A:\n    ...", "", None),
        ("a()\nb()\nc()\nd()", "a()\nAA\nd()", "d()\nAA\na()", "d()\nb()\nc()\na()"),
        ("a()\nd()", "a()\nAA\nd()", "d()\nAA\na()", "d()\na()"),
        (
            "try:\n    a()\nexcept E:\n    raise",
            "raise",
            "return",
            "try:\n    a()\nexcept E:\n    return",
        ),
    ],
)
def test_a_shape_matches_the_code_that_it_describes(
    code: str, shape: str, replacement: str, result: str | None
) -> None:
    assert replaced(code, shape, replacement) == ([] if result is None else [result])


def test_a_shape_matches_each_place_that_has_it() -> None:
    code = "a(1)\nwhile b:\n    a(2)"
    assert replaced(code, "a(N)", "") == ["while b:\n    a(2)", "a(1)\nwhile b:\n    pass"]


# Applying


def test_a_mutant_changes_only_the_copy(tree: Path) -> None:
    with copied(tree) as copy:
        apply(toy("2 * N", "N + 2"), copy)
        assert (copy / "actors" / "double.py").read_text() == WRONG
    assert (tree / "actors" / "double.py").read_text() == HEALTHY
    assert not copy.exists()


def test_a_mutant_survives_new_lines_and_new_names_around_its_place(tree: Path) -> None:
    file = tree / "actors" / "double.py"
    file.write_text("def double(n):\n    # Twice.\n    log(n)\n    return 2 * n  # quick\n")
    apply(toy("2 * N", "N + 2"), tree)
    assert file.read_text() == "def double(n):\n    log(n)\n    return n + 2"


def test_a_mutant_that_is_no_valid_python_is_refused(tree: Path) -> None:
    with pytest.raises(SyntaxError):
        apply(toy("return N", "break"), tree)
    assert (tree / "actors" / "double.py").read_text() == HEALTHY


@pytest.mark.parametrize(
    ("mutant", "problem", "candidates"),
    [
        (
            toy("2 * N", "N", module="actors.twice"),
            "actors.twice has no function double",
            ["actors/double.py:1 double", "actors/tables.py:2 Table.double"],
        ),
        (
            toy("2 * N", "N", function="Table.double"),
            "actors.double has no function Table.double",
            [
                "actors/tables.py:2 Table.double",
                "actors/double.py:1 double",
                "actors/double.py:2 2 * number, in double",
            ],
        ),
        (
            toy("2 * N", "N", function="twice"),
            "actors.double has no function twice",
            ["actors/double.py:2 2 * number, in double"],
        ),
        (toy("3 * N", "N", function="twice"), "actors.double has no function twice", []),
        (
            toy("3 * N", "N"),
            "no place in double of actors.double has its shape '3 * N'",
            ["actors/double.py:2 return 2 * number"],
        ),
        (
            toy("S[N]", "S", module="actors.tables", function="Table.double"),
            "no place in Table.double of actors.tables has its shape 'S[N]'",
            ["actors/tables.py:6 self.rows[0], in Table.first"],
        ),
        (
            toy("self.rows", "[]", module="actors.tables", function="Table.double"),
            "2 places in Table.double of actors.tables have its shape; write a narrower shape",
            ["actors/tables.py:3 self.rows", "actors/tables.py:3 self.rows"],
        ),
    ],
    ids=[
        "moved",
        "another class",
        "another name",
        "gone",
        "no place",
        "another function",
        "two places",
    ],
)
def test_a_mutant_whose_place_is_not_found_once_is_refused_with_candidates(
    tree: Path, mutant: Mutant, problem: str, candidates: list[str]
) -> None:
    with pytest.raises(OutdatedMutant) as refused:
        apply(mutant, tree)
    assert refused.value.problem == problem
    assert refused.value.candidates == candidates
    assert all(each in str(refused.value) for each in [repr(mutant.name), problem, *candidates])


# Measuring


@pytest.mark.parametrize("mutant", [MUTANTS[0], MUTANTS[-1]], ids=lambda each: each.layer)
def test_a_search_runs_the_sweeps_of_the_layer_of_a_mutant_and_of_the_layers_above(
    mutant: Mutant,
) -> None:
    layers = [layer_of(path) for path in scenarios_for(mutant)]
    assert set(layers) == set(LAYERS[LAYERS.index(mutant.layer) :])
    assert layers == sorted(layers, key=LAYERS.index)


def test_a_mutant_that_breaks_a_promise_is_found(tree: Path) -> None:
    measured = measure(toy("2 * N", "N + 2"), tree, search_for_double, real_seconds=30)
    assert measured.find == {"failure": "wrong", "seed": 3, "seconds": 0.5}


def test_a_mutant_without_an_effect_is_not_found(tree: Path) -> None:
    measured = measure(toy("2 * N", "N + N"), tree, search_for_double, real_seconds=30)
    assert measured.find is None


def test_a_mutant_that_no_longer_applies_is_not_counted(tree: Path) -> None:
    measured = measure(toy("3 * N", "0"), tree, search_for_double, real_seconds=30)
    assert measured.outdated is not None
    found = Measured(mutant=MUTANTS[0], find={"failure": "wrong"})
    assert figure([measured, found]) == "The sweeps found 1 of 1 bugs."
    assert f"outdated: {measured.outdated}" in line(measured)


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
