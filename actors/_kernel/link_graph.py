"""A graph of the links between processes, and of the watchers of each process.

*pure*: the graph holds only pids and watchers, so tests of the link rules need no runtime. When a process ends, the
runtime removes its links and watchers from the graph. The runtime then notifies linked processes and watchers in the
order in which they were added.
"""

from __future__ import annotations

from actors.refs import Pid, Watcher
from actors.small_set import Table, add_to, has_item, items_of, remove_from

__all__ = ["LinkGraph"]


class LinkGraph:
    """Links between processes, and the watchers of each process. Every operation takes constant time."""

    __slots__ = ("_links", "_watchers")

    def __init__(self) -> None:
        self._links: Table[Pid, Pid] = {}
        self._watchers: Table[Pid, Watcher] = {}

    def link(self, one: Pid, other: Pid) -> None:
        """Link two processes. A second link changes nothing, and neither does a link of a process with itself."""
        if one is not other:
            add_to(self._links, one, other)
            add_to(self._links, other, one)

    def unlink(self, one: Pid, other: Pid) -> bool:
        """Remove a link. Return True if there was one."""
        remove_from(self._links, other, one)
        return remove_from(self._links, one, other)

    def linked(self, one: Pid, other: Pid) -> bool:
        """Return True if two processes are linked."""
        return has_item(self._links.get(one), other)

    def links_of(self, pid: Pid) -> tuple[Pid, ...]:
        """Return the processes that `pid` is linked to, in the order of linking."""
        return items_of(self._links.get(pid))

    def watch(self, pid: Pid, watcher: Watcher) -> None:
        """Add a watcher to a living process."""
        add_to(self._watchers, pid, watcher)

    def unwatch(self, pid: Pid, watcher: Watcher) -> bool:
        """Remove a watcher. Return True if it was there."""
        return remove_from(self._watchers, pid, watcher)

    def watchers_of(self, pid: Pid) -> tuple[Watcher, ...]:
        """Return the watchers of `pid`, in the order in which they were added."""
        return items_of(self._watchers.get(pid))

    def remove(self, pid: Pid) -> tuple[tuple[Pid, ...], tuple[Watcher, ...]]:
        """Remove an ended process. Return its linked processes and its watchers, in the order of their addition.

        Each linked process keeps its side of the link until `unlink`, which the caller calls before the exit signal.
        """
        peers = items_of(self._links.pop(pid, None))
        return peers, items_of(self._watchers.pop(pid, None))

    def __len__(self) -> int:
        """Return the number of processes that have a link or a watcher; 0 once all have ended."""
        return len(self._links.keys() | self._watchers.keys())
