"""Plant bugs: replace attributes for one run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from attrs import frozen

from supervision.simulation.simulate import Scenario

__all__ = ["Planted", "healthy", "planted"]


@frozen(kw_only=True)
class Planted:
    """One bug.

    - `name`: what is wrong;
    - `scenario`: plants it, runs into it or not, and digs it up again. Its faults are its own settings;
    - `failure`: what `identify` says of a run that has found it.
    """

    name: str
    scenario: Scenario
    failure: str


_planted: list[tuple[Any, str, Any]] = []
_healthy = [False]


@contextmanager
def planted(*bugs: tuple[Any, str, Any]) -> Iterator[None]:
    """Plant bugs in a block: each is an owner, the name of an attribute, and its replacement.

    A run that had to be abandoned never leaves its block: what it has left is put back before the next one begins.
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
