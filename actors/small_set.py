"""Ordered sets that usually have no item or one item, and then need no object of their own.

    members: SmallSet[Pid] = None               # the empty set
    members = with_item(members, pid)           # pid itself
    members = with_item(members, other)         # {pid: None, other: None}
    items_of(members)                           # (pid, other)

    links: Table[Pid, Pid] = {}                 # a small set for each process
    add_to(links, pid, other)                   # {pid: other}
    remove_from(links, pid, other)              # {}

A dict takes 224 bytes, and an idle connection has ten of these sets. *pure*.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias, TypeVar

__all__ = [
    "SmallSet",
    "Table",
    "add_to",
    "has_item",
    "items_of",
    "remove_from",
    "view_of",
    "with_item",
    "without_item",
]

K = TypeVar("K")
T = TypeVar("T")

SmallSet: TypeAlias = T | dict[T, None] | None
"""An ordered set of items that are hashable and compared by identity. An item must not be None or a dict.

None is the empty set. A set with one item is that item, and a larger set is a dict. Only the functions of this module
may change the set. Store the result of each change, because the old value may be outdated.
"""


Table: TypeAlias = dict[K, SmallSet[T]]
"""Small sets by key."""


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


def add_to(table: Table[K, T], key: K, item: T) -> None:
    """Add `item` to the set of `key`."""
    items = table.get(key)
    table[key] = item if items is None else with_item(items, item)


def remove_from(table: Table[K, T], key: K, item: T) -> bool:
    """Remove `item` from the set of `key`, and an empty set from the table. Return False if the item is not there."""
    items = table.get(key)
    if isinstance(items, dict):
        if item not in items:
            return False
        del items[item]
        if not items:
            del table[key]
        return True
    if items is not item:
        return False
    del table[key]
    return True
