"""The built-in invariants, and the choice of the invariants of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from supervision.laboratory.chaos.invariants.base import Invariant
from supervision.laboratory.chaos.invariants.orphans import NoOrphan

__all__ = ["BUILT_IN", "Chosen", "choose"]

BUILT_IN: Final[Mapping[str, type[Invariant]]] = MappingProxyType({NoOrphan.name: NoOrphan})
"""The class of each built-in invariant by its name. An instance watches one runtime."""

Chosen: TypeAlias = Literal["all"] | Iterable["str | Callable[[], Invariant]"]
"""A choice of invariants: "all" for all built-in invariants, or a sequence of names, "all" and your own factories."""


def choose(chosen: Chosen) -> list[Invariant]:
    """Create the chosen invariants.

        choose(["all", NoCrash])

    Raises:
        ValueError: there is no invariant of that name.
        TypeError: `chosen` is a single name and not a sequence.
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
        raise ValueError(f"there is no invariant {each!r}; write one of: {', '.join(BUILT_IN)}")
    return [BUILT_IN[each]()]
