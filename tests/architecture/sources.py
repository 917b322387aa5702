"""The modules of the repository as values: a name, a path, a text and its syntax tree."""

import ast
import gc
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from attrs import field, frozen

ROOT = Path(__file__).resolve().parents[2]

LAYERS = ("actors", "supervision", "channels", "examples")
"""The folders whose modules import each other, lowest first."""

PACKAGES = LAYERS[:3]
"""The layers that are shipped."""


@frozen
class Source:
    """One module."""

    name: str
    path: str
    text: str = field(repr=False)
    tree: ast.Module = field(repr=False)

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]


def source(path: str, text: str) -> Source:
    """A module with that text, as if it stood at that path.

    Example:
        >>> source("actors/refs.py", "x = 1").name
        'actors.refs'
    """
    parts = list(Path(path).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return Source(name=".".join(parts), path=path, text=text, tree=ast.parse(text, filename=path))


def sources_under(*folders: str) -> list[Source]:
    """All modules in these folders of the repository, in the order of their paths."""
    # The garbage collector would traverse the millions of nodes of the syntax trees again and again. That takes longer
    # than the parsing.
    gc.disable()
    try:
        sources = [_source_at(path) for path in _files(folders)]
        gc.freeze()
    finally:
        gc.enable()
    return sources


@cache
def _source_at(path: Path) -> Source:
    return source(path.relative_to(ROOT).as_posix(), path.read_text())


def _files(folders: tuple[str, ...]) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "node_modules" not in path.parts:
                yield path


def report(problems: list[str]) -> None:
    """Fail the test with one problem a line, if there are any."""
    assert not problems, "\n" + "\n".join(problems)
