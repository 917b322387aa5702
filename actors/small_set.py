"""Ordered sets that usually have no item or one item, and then need no object of their own.

    members: SmallSet[Pid] = None               # the empty set
    members = with_item(members, pid)           # pid itself
    members = with_item(members, other)         # {pid: None, other: None}
    items_of(members)                           # (pid, other)

A dict takes 224 bytes, and an idle connection has ten of these sets. *pure*.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias, TypeVar

__all__ = ["SmallSet", "has_item", "items_of", "view_of", "with_item", "without_item"]

T = TypeVar("T")

SmallSet: TypeAlias = T | dict[T, None] | None
"""An ordered set of items that are hashable and compared by identity. An item must not be None or a dict.

None is the empty set. A set with one item is that item, and a larger set is a dict. Only the functions of this module
may change the set. Store the result of each change, because the old value may be outdated.
"""


def with_item(items: SmallSet[T], item: T) -> SmallSet[T]:
    """Add `item` to a set, and return the new set. If `items` is a dict, this changes and returns the dict itself."""
    if items is None or items is item:
        return item
    if isinstance(items, dict):
        items[item] = None
        return items
    return {items: None, item: None}


def without_item(items: SmallSet[T], item: T) -> SmallSet[T]:
    """Remove `item` from a set, if it is there, and return the new set. If `items` is a dict, this changes the dict."""
    if items is item:
        return None
    if isinstance(items, dict):
        items.pop(item, None)
        return items or None
    return items


def has_item(items: SmallSet[T], item: T) -> bool:
    """Return True if `item` is in the set."""
    return item in items if isinstance(items, dict) else items is item


def items_of(items: SmallSet[T]) -> tuple[T, ...]:
    """Return the items in the order in which they were added."""
    if items is None:
        return ()
    return tuple(items) if isinstance(items, dict) else (items,)


def view_of(items: SmallSet[T]) -> Collection[T]:
    """Return the same items as `items_of`, but without a copy. Do not change the set while you iterate over the view.

    Use it for large sets, such as the subscribers of a topic.
    """
    if items is None:
        return ()
    return items if isinstance(items, dict) else (items,)
