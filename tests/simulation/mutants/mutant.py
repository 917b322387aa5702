"""A mutant: one realistic bug in Ashtree, which changes a few statements of one function."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from tests.simulation.mutants.shape import Function, Match, functions_of, matches, replace

__all__ = ["Mutant", "OutdatedMutant", "apply", "mutated"]


@frozen(kw_only=True)
class Mutant:
    """One bug.

    The function and a shape name the place, so the bug survives a move of its module with a change of `module` alone.
    `tests.simulation.mutants.shape` explains shapes.

    Attributes:
        name: The bug in words.
        module: The dotted name of the module.
        function: The qualified name of the function.
        shape: The shape of the healthy code. Exactly one place in the function has it.
        replacement: The code with the bug. It may repeat wildcards of the shape.
        promise: The documented promise that the bug breaks, after the place of its documentation.
        seen: The effect of the bug on a user of Ashtree.
        tests: The folders or files of the area's unit tests.
        found_by_tests: True if the unit tests found the bug in the first measurement. If it is False, the area has got
            a test for the bug since then.
    """

    name: str
    module: str
    function: str
    shape: str
    replacement: str
    promise: str
    seen: str
    tests: tuple[str, ...]
    found_by_tests: bool = True

    @property
    def layer(self) -> str:
        """The package of the bug: actors, supervision or channels."""
        return self.module.partition(".")[0]

    @property
    def file(self) -> str:
        """The path of the module in the repository."""
        return f"{self.module.replace('.', '/')}.py"


class OutdatedMutant(Exception):
    """The place of a mutant does not exist exactly once, so the mutant cannot be applied.

    Fields: `mutant`, `problem`, and `candidates`, the places that may be meant.
    """

    def __init__(self, mutant: Mutant, problem: str, candidates: list[str]) -> None:
        listed = "".join(f"\n  {each}" for each in candidates)
        super().__init__(
            f"the mutant {mutant.name!r} does not apply: {problem}."
            + (f" Candidates:{listed}" if candidates else " There are no candidates.")
        )
        self.mutant = mutant
        self.problem = problem
        self.candidates = candidates


def mutated(mutant: Mutant, tree: Path) -> str:
    """Return the text of the module with the bug. It has no comments, because it is made of the syntax tree.

    Raises:
        OutdatedMutant: The module or the function does not exist, or the shape does not occur exactly once in it.
        SyntaxError: The replacement is not valid there.
    """
    function, module = mutant.function, tree / mutant.file
    code = ast.parse(module.read_text() if module.is_file() else "")
    functions = functions_of(code)
    # A property has several functions with one name.
    named = [each for each in functions if each.name == function]
    if not named:
        problem = f"{mutant.module} has no function {function}"
        # The function may have moved, or it has another name.
        candidates = [*_functions_like(mutant, tree), *_places_in(mutant, functions)]
        raise OutdatedMutant(mutant, problem, candidates)
    found = [match for each in named for match in _matches(mutant, each)]
    if len(found) > 1:
        problem = f"{len(found)} places in {function} of {mutant.module} have its shape"
        places = [f"{mutant.file}:{match.line} {match.source}" for match in found]
        raise OutdatedMutant(mutant, f"{problem}; write a narrower shape", places)
    if not found:
        problem = f"no place in {function} of {mutant.module} has its shape {mutant.shape!r}"
        candidates = _places_in(mutant, functions) or _statements_of(mutant, named)
        raise OutdatedMutant(mutant, problem, candidates)
    replace(found[0], mutant.replacement)
    text = ast.unparse(ast.fix_missing_locations(code))
    # Refuse a syntax error here. A search would report it as a find.
    compile(text, mutant.file, "exec", dont_inherit=True)
    return text


def apply(mutant: Mutant, tree: Path) -> None:
    """Plant a mutant in a copy of the repository. Raises the same errors as `mutated`."""
    text = mutated(mutant, tree)
    (tree / mutant.file).write_text(text)


def _matches(mutant: Mutant, function: Function) -> list[Match]:
    return matches(mutant.shape, mutant.replacement, function.node)


def _functions_like(mutant: Mutant, tree: Path) -> Iterator[str]:
    """Yield the functions of the layer with the same own name: those with the whole name first."""
    own = mutant.function.rpartition(".")[2]
    others = []
    for path in sorted((tree / mutant.layer).rglob("*.py")):
        text = path.read_text()
        if f"def {own}(" not in text:
            continue
        for function in functions_of(ast.parse(text)):
            place = f"{path.relative_to(tree).as_posix()}:{function.node.lineno} {function.name}"
            if function.name == mutant.function:
                yield place
            elif function.name.rpartition(".")[2] == own:
                others.append(place)
    yield from others


def _places_in(mutant: Mutant, functions: list[Function]) -> list[str]:
    """Return the places in functions that have the shape of a mutant."""
    return [
        f"{mutant.file}:{match.line} {match.source}, in {function.name}"
        for function in functions
        for match in _matches(mutant, function)
    ]


def _statements_of(mutant: Mutant, functions: list[Function]) -> list[str]:
    """Return the statements of functions."""
    return [
        f"{mutant.file}:{node.lineno} {ast.unparse(node).partition(chr(10))[0]}"
        for function in functions
        for node in ast.walk(function.node)
        if isinstance(node, ast.stmt) and node is not function.node
    ]
