"""The invariants that hold for every program, by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from supervision.chaos.invariants.base import Invariant
from supervision.chaos.invariants.names import Names
from supervision.chaos.invariants.processes import Calls, DeadHandleNothing, Monitors
from supervision.chaos.invariants.trees import NoOrphan, OneIncarnation

__all__ = ["BUILT_IN", "Chosen", "choose", "offer"]

_made: dict[str, type[Invariant]] = {
    make.name: make
    for make in (
        NoOrphan,
        OneIncarnation,
        Names,
        Monitors,
        DeadHandleNothing,
        Calls,
    )
}

BUILT_IN: Final = MappingProxyType(_made)
"""For each name the class, an instance of which watches one runtime."""

Chosen: TypeAlias = Literal["all"] | Iterable["str | Callable[[], Invariant]"]
"""Which invariants: all that are built in; or names of these, "all" among them, and factories of others."""


def offer(make: type[Invariant]) -> None:
    """Build an invariant in that is about a layer above this one."""
    _made[make.name] = make


def choose(chosen: Chosen) -> list[Invariant]:
    """New invariants, one of each that was chosen.

        choose(["all", NoCrash])

    Raises:
        ValueError: there is none of that name.
        TypeError: one name, and not a sequence of them.
    """
    if chosen == "all":
        return [make() for make in BUILT_IN.values()]
    if isinstance(chosen, str):
        raise TypeError(f'invariants is {chosen!r}; write "all", or a sequence: ({chosen!r},)')
    return [invariant for each in chosen for invariant in _make(each)]


def _make(each: str | Callable[[], Invariant]) -> list[Invariant]:
    if not isinstance(each, str):
        return [each()]
    if each == "all":
        return choose("all")
    if each not in BUILT_IN:
        raise ValueError(f"there is no invariant {each!r}; there are {', '.join(BUILT_IN)}")
    return [BUILT_IN[each]()]
