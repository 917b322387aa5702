"""A mutant: one realistic bug in Ashtree, as a change of a few lines of one module."""

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
        old: The lines of the healthy module. They occur once in the module.
        new: The lines with the bug.
        promise: The documented promise that the bug breaks, and where it is documented.
        seen: What a user of Ashtree sees.
        tests: The folders or files of the area's unit tests.
        found_by_tests: True if these unit tests found the bug when it was planted. If they did not, the area has got a
            test for it since.
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
    """Return how often the old text of a mutant occurs in its module; 0 if there is no such module."""
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
    # A search would report a syntax error as a find.
    compile(text, mutant.file, "exec", dont_inherit=True)
    module.write_text(text)
