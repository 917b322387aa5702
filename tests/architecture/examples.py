"""Which examples the tests run."""

import ast
import re
from collections.abc import Iterator, Sequence

from tests.architecture.imports import graph_of, imports_of
from tests.architecture.sources import Source

_EXAMPLE = re.compile(r"examples(?:\.\w+)+")


def examples_not_run(examples: Sequence[Source], tests: Sequence[Source]) -> list[str]:
    """Modules under examples/ that no test runs.

    A test runs a module if it imports it or names it in a string, as in
    `[sys.executable, "-m", "examples.chat"]`; and with it whatever that module imports. A program,
    which is a module with a `__main__` part, must be named itself: importing it is not running it.
    """
    graph = graph_of(examples)
    named = {name for test in tests for name in _examples_named_in(test)}
    reached = set()
    waiting = [name for name in graph if name.removesuffix(".__main__") in named]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += graph[name]
    return [
        f"{example.path} is run by no test"
        for example in examples
        if not example.is_package
        # Tests that stand beside what they test are collected with all others.
        and not example.name.rpartition(".")[2].startswith("test_")
        and (
            example.name.removesuffix(".__main__") not in named
            if _is_program(example)
            else example.name not in reached
        )
    ]


def _is_program(example: Source) -> bool:
    return example.name.endswith(".__main__") or any(
        isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
        for node in example.tree.body
    )


def _examples_named_in(test: Source) -> Iterator[str]:
    if "examples" not in test.text:
        # A walk through the syntax trees of all tests takes seconds.
        return
    for found in imports_of(test):
        yield found.module
        yield found.target
    docstrings = {id(node.value) for node in ast.walk(test.tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(test.tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            yield from _EXAMPLE.findall(str(node.value))
