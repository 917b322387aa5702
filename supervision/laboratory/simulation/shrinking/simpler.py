"""Simpler versions of a fault: rounder times, smaller counts, one target instead of a pattern.

Each fault is a record with numbers. It contains its moment, which is also a record with numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec

__all__ = ["Field", "aimed", "fields_of", "replaced", "rounder", "value_of"]

Field: TypeAlias = tuple[str, ...]
"""The path to a number in a record: `("when", "seconds")`."""


def fields_of(record: msgspec.Struct) -> Iterator[Field]:
    """Yield the paths to the numbers in a record and in the records inside it."""
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if isinstance(value, msgspec.Struct):
            yield from ((name, *inner) for inner in fields_of(value))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (name,)


def value_of(record: Any, field: Field) -> Any:
    """Return the number at a path."""
    for name in field:
        record = getattr(record, name)
    return record


def replaced(record: Any, field: Field, value: float) -> Any:
    """Return the record with another number at a path."""
    name, *inner = field
    new = replaced(getattr(record, name), tuple(inner), value) if inner else value
    return msgspec.structs.replace(record, **{name: new})


def rounder(value: float) -> Iterator[float]:
    """Yield numbers near `value` with fewer digits: 0.0, 0.5, 0.48 and 0.484 for 0.4837."""
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


def aimed(fault: Any, target: str | None, incarnation: int | None) -> Iterator[Any]:
    """Yield simpler versions of a fault. Each has the process or connection that the fault affected as its target.

    Args:
        fault: a fault of any kind.
        target: the `target` of the fault's report, such as `/top/room:lobby`; None if the fault had no target.
        incarnation: the `incarnation` of the same report.
    """
    names = fault.__struct_fields__
    if target is None or "target" not in names:
        return
    changes: dict[str, Any] = {"target": target}
    if "pick" in names:
        changes["pick"] = None
    changed = msgspec.structs.replace(fault, **changes)
    nearby = [changed]
    if hasattr(fault.when, "nth"):
        # Wait for the first callback of this process, instead of the nth callback of all matching processes.
        for which in (None, incarnation):
            when = msgspec.structs.replace(fault.when, nth=1, incarnation=which)
            nearby.insert(0, msgspec.structs.replace(changed, when=when))
    for near in sorted(nearby, key=_intricacy):
        if _intricacy(near) < _intricacy(fault):
            yield near


def _intricacy(fault: Any) -> tuple[Any, ...]:
    """Return a measure of the complexity of a fault. Each trial must lower this measure, so that shrinking ends."""
    when = fault.when
    patterned = any(sign in fault.target for sign in "*?[")
    picked = getattr(fault, "pick", None) is not None
    return patterned, picked, getattr(when, "nth", 0), getattr(when, "incarnation", None) or 0
