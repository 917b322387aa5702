"""The fields of records: attrs classes, msgspec structs and dataclasses. *pure*."""

from __future__ import annotations

import attrs
import msgspec

__all__ = ["fields_of"]


def fields_of(cls: type, *, shown: bool = False) -> tuple[str, ...]:
    """Return the names of the fields of a record's class, and () for any other class.

    Args:
        cls: the class.
        shown: leave out the attrs fields with `repr=False`, which contain secrets or large data.
    """
    if attrs.has(cls):
        return tuple(each.name for each in attrs.fields(cls) if each.repr or not shown)
    if issubclass(cls, msgspec.Struct):
        return cls.__struct_fields__
    return tuple(getattr(cls, "__dataclass_fields__", ()))
