"""A mutant: one realistic bug in Ashtree, which changes a few lines of one module."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

__all__ = ["Mutant", "OutdatedMutant", "apply", "times_found"]


@frozen(kw_only=True)
class Mutant:
    """One bug.

    Attributes:
        name: The bug in words.
        file: The module, as a path in the repository.
        old: The lines of the healthy module. They occur exactly once in the module.
        new: The lines with the bug.
        promise: The documented promise that the bug breaks, after the place of its documentation.
        seen: The effect of the bug on a user of Ashtree.
        tests: The folders or files of the area's unit tests.
        found_by_tests: True if the unit tests found the bug in the first measurement. If it is False, the area has got
            a test for the bug since then.
    """

    name: str
    file: str
    old: str
    new: str
    promise: str
    seen: str
    tests: tuple[str, ...]
    found_by_tests: bool = True

    @property
    def layer(self) -> str:
        """The package of the bug: actors, supervision or channels."""
        return self.file.partition("/")[0]


class OutdatedMutant(Exception):
    """The old text of a mutant does not occur exactly once, so the mutant cannot be applied.

    Fields: `mutant`, `times`.
    """

    def __init__(self, mutant: Mutant, times: int) -> None:
        super().__init__(
            f"the old text of {mutant.name!r} occurs {times} times in {mutant.file}; write lines that occur once"
        )
        self.mutant = mutant
        self.times = times


def times_found(mutant: Mutant, tree: Path) -> int:
    """Return the number of times that the old text of a mutant occurs in its module. Return 0 without this module."""
    module = tree / mutant.file
    return module.read_text().count(mutant.old) if module.is_file() else 0


def apply(mutant: Mutant, tree: Path) -> None:
    """Plant a mutant in a copy of the repository.

    Raises:
        OutdatedMutant: The old text does not occur exactly once.
        SyntaxError: The new text is not valid.
    """
    times = times_found(mutant, tree)
    if times != 1:
        raise OutdatedMutant(mutant, times)
    module = tree / mutant.file
    text = module.read_text().replace(mutant.old, mutant.new)
    # Refuse a syntax error here. A search would report it as a find.
    compile(text, mutant.file, "exec", dont_inherit=True)
    module.write_text(text)
