"""Plant bugs: replace attributes for one run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from attrs import frozen

from supervision.laboratory.simulation.simulate import Scenario

__all__ = ["Planted", "healthy", "planted"]


@frozen(kw_only=True)
class Planted:
    """One bug.

    - `name`: the bug in words;
    - `scenario`: plants the bug, runs a program that may fail because of it, and removes it. Its settings contain the
      faults;
    - `failure`: the result of `identify` for a run that finds the bug;
    - `first_seed`: the seed at which the search begins, unless the search is a deep one. A high number spares the tests
      hundreds of runs that pass.
    """

    name: str
    scenario: Scenario
    failure: str
    first_seed: int = 0


_planted: list[tuple[Any, str, Any]] = []
_healthy = [False]


@contextmanager
def planted(*bugs: tuple[Any, str, Any]) -> Iterator[None]:
    """Plant bugs for the length of a block. Each bug is an owner, the name of its attribute, and the replacement.

    An abandoned run never leaves its block. So the next run first restores the attributes that the abandoned run had
    replaced.
    """
    _dig_up()
    for owner, name, value in () if _healthy[0] else bugs:
        _planted.append((owner, name, vars(owner)[name]))
        setattr(owner, name, value)
    try:
        yield
    finally:
        _dig_up()


def _dig_up() -> None:
    while _planted:
        owner, name, original = _planted.pop()
        setattr(owner, name, original)


@contextmanager
def healthy() -> Iterator[None]:
    """Plant no bugs in this block."""
    _healthy[0] = True
    try:
        yield
    finally:
        _healthy[0] = False
