"""Simpler values of the numbers in a fault: rounder times, smaller counts.

Faults are looked at as records with numbers in them, whatever they are; so are the conditions inside of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec

__all__ = ["Field", "aimed", "fields_of", "replaced", "rounder", "value_of"]

Field: TypeAlias = tuple[str, ...]
"""The names that lead to a number: `("when", "seconds")`."""


def fields_of(record: msgspec.Struct) -> Iterator[Field]:
    """Where a record, or a record in it, has a number."""
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if isinstance(value, msgspec.Struct):
            yield from ((name, *inner) for inner in fields_of(value))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (name,)


def value_of(record: Any, field: Field) -> Any:
    """The number there."""
    for name in field:
        record = getattr(record, name)
    return record


def replaced(record: Any, field: Field, value: float) -> Any:
    """The same record with another number there."""
    name, *inner = field
    new = replaced(getattr(record, name), tuple(inner), value) if inner else value
    return msgspec.structs.replace(record, **{name: new})


def rounder(value: float) -> Iterator[float]:
    """The numbers near `value` that have fewer digits, those with the fewest first.

    list(rounder(0.4837))  # [0.0, 0.5, 0.48, 0.484]
    """
    if not math.isfinite(value):
        return
    seen = {value}
    for digits in range(6):
        near = round(value, digits)
        if near == value:
            return
        if near not in seen:
            seen.add(near)
            yield near


def aimed(fault: Any, where: str | None) -> Iterator[Any]:
    """The same fault for the one process or connection that it was done to, in place of a pattern or of a count.

    Args:
        fault: any.
        where: `/top/room:lobby#2`, as reports of faults have it.
    """
    names = fault.__struct_fields__
    if where is None or "target" not in names:
        return
    # A connection's name has its number in it, a process's incarnation is a matter of `when`.
    path, _, incarnation = where.rpartition("#") if where.startswith("/") else ("", "", "")
    changes: dict[str, Any] = {"target": path or where}
    if "pick" in names:
        changes["pick"] = None
    changed = msgspec.structs.replace(fault, **changes)
    nearby = [changed]
    if hasattr(fault.when, "nth"):
        # The first of a certain process, in place of the so-many-th of all that match.
        for which in (None, int(incarnation) if incarnation.isdecimal() else None):
            when = msgspec.structs.replace(fault.when, nth=1, incarnation=which)
            nearby.insert(0, msgspec.structs.replace(changed, when=when))
    for near in sorted(nearby, key=_intricacy):
        if _intricacy(near) < _intricacy(fault):
            yield near


def _intricacy(fault: Any) -> tuple[Any, ...]:
    """How much a fault asks for; whatever is tried asks for less than what there is, or there would be no end of it."""
    when = fault.when
    patterned = any(sign in fault.target for sign in "*?[")
    picked = getattr(fault, "pick", None) is not None
    return patterned, picked, getattr(when, "nth", 0), getattr(when, "incarnation", None) or 0
