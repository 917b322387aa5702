"""A graph of the links between processes, and of the watchers of each process.

*pure*: the graph holds only pids and watchers, so tests of the link rules need no runtime. When a process ends, the
runtime removes its links and watchers from the graph. The runtime then notifies linked processes and watchers in the
order in which they were added.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

from actors.refs import Pid, Watcher

__all__ = ["LinkGraph"]

T = TypeVar("T", Pid, Watcher)

# Maps a process to its links or its watchers. Most processes have only one, so the value is then the link or the
# watcher itself. Several links or watchers are in a dict. A dict for every process would add a tenth to the memory of
# an idle connection.
Table: TypeAlias = dict[Pid, T | dict[T, None]]


def _add(table: Table[T], pid: Pid, item: T) -> None:
    found = table.get(pid)
    if found is None:
        table[pid] = item
    elif isinstance(found, dict):
        found[item] = None
    elif found is not item:
        table[pid] = {found: None, item: None}


def _discard(table: Table[T], pid: Pid, item: T) -> bool:
    """Remove an item of a process. Return False if the process does not have the item."""
    found = table.get(pid)
    if isinstance(found, dict):
        if item not in found:
            return False
        del found[item]
        if not found:
            del table[pid]
        return True
    if found is not item:
        return False
    del table[pid]
    return True


def _items(found: T | dict[T, None] | None) -> tuple[T, ...]:
    if found is None:
        return ()
    return tuple(found) if isinstance(found, dict) else (found,)


class LinkGraph:
    """Links between processes, and the watchers of each process. Every operation takes constant time."""

    __slots__ = ("_links", "_watchers")

    def __init__(self) -> None:
        self._links: Table[Pid] = {}
        self._watchers: Table[Watcher] = {}

    def link(self, one: Pid, other: Pid) -> None:
        """Link two processes. A second link changes nothing, and neither does a link of a process with itself."""
        if one is not other:
            _add(self._links, one, other)
            _add(self._links, other, one)

    def unlink(self, one: Pid, other: Pid) -> bool:
        """Remove a link. Returns True if there was one."""
        _discard(self._links, other, one)
        return _discard(self._links, one, other)

    def linked(self, one: Pid, other: Pid) -> bool:
        """Return True if two processes are linked."""
        found = self._links.get(one)
        return other in found if isinstance(found, dict) else found is other

    def links_of(self, pid: Pid) -> tuple[Pid, ...]:
        """Return the processes that `pid` is linked to, in the order of linking."""
        return _items(self._links.get(pid))

    def watch(self, pid: Pid, watcher: Watcher) -> None:
        """Add a watcher to a living process."""
        _add(self._watchers, pid, watcher)

    def unwatch(self, pid: Pid, watcher: Watcher) -> bool:
        """Remove a watcher. Returns True if it was there."""
        return _discard(self._watchers, pid, watcher)

    def watchers_of(self, pid: Pid) -> tuple[Watcher, ...]:
        """Return the watchers of `pid`, in the order in which they were added."""
        return _items(self._watchers.get(pid))

    def remove(self, pid: Pid) -> tuple[tuple[Pid, ...], tuple[Watcher, ...]]:
        """Remove an ended process. Returns its linked processes and its watchers, in the order of their addition."""
        peers = _items(self._links.pop(pid, None))
        for peer in peers:
            _discard(self._links, peer, pid)
        return peers, _items(self._watchers.pop(pid, None))

    def __len__(self) -> int:
        """Return the number of processes that have a link or a watcher; 0 once all have ended."""
        return len(self._links.keys() | self._watchers.keys())
