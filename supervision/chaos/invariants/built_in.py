"""The invariants that hold for every program, by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from supervision.chaos.invariants.base import Invariant
from supervision.chaos.invariants.names import Names
from supervision.chaos.invariants.processes import Calls, DeadHandleNothing, Monitors
from supervision.chaos.invariants.trees import (
    Intensity,
    NoOrphan,
    OneIncarnation,
    RestartOrder,
    ShutdownOrder,
)

__all__ = ["BUILT_IN", "Chosen", "choose"]

BUILT_IN: Final = MappingProxyType(
    {
        make.name: make
        for make in (
            NoOrphan,
            OneIncarnation,
            Names,
            RestartOrder,
            ShutdownOrder,
            Intensity,
            Monitors,
            DeadHandleNothing,
            Calls,
        )
    }
)
"""For each name the class, an instance of which watches one runtime."""

Chosen: TypeAlias = Literal["all"] | Iterable["str | Callable[[], Invariant]"]
"""Which invariants: all that are built in, or names of these and factories of others."""


def choose(chosen: Chosen) -> list[Invariant]:
    """New invariants, one of each that was chosen.

        choose(["no_orphan", JoinsAnswered])

    Raises:
        ValueError: there is none of that name.
        TypeError: one name, and not a sequence of them.
    """
    if chosen == "all":
        return [make() for make in BUILT_IN.values()]
    if isinstance(chosen, str):
        raise TypeError(f'invariants is {chosen!r}; write "all", or a sequence: ({chosen!r},)')
    return [_make(each) for each in chosen]


def _make(each: str | Callable[[], Invariant]) -> Invariant:
    if not isinstance(each, str):
        return each()
    if each not in BUILT_IN:
        raise ValueError(f"there is no invariant {each!r}; there are {', '.join(BUILT_IN)}")
    return BUILT_IN[each]()
