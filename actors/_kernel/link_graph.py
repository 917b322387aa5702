"""A graph of the links between processes, and of the watchers of each process.

*pure*: the graph holds only pids and watchers, so tests of the link rules need no runtime. When a process ends, the
runtime removes its links and watchers from the graph. The runtime then notifies linked processes and watchers in the
order in which they were added.
"""

from __future__ import annotations

from actors.refs import Pid, Watcher

__all__ = ["LinkGraph"]


class LinkGraph:
    """Links between processes, and the watchers of each process. Every operation takes constant time."""

    __slots__ = ("_links", "_watchers")

    def __init__(self) -> None:
        self._links: dict[Pid, dict[Pid, None]] = {}
        self._watchers: dict[Pid, dict[Watcher, None]] = {}

    def link(self, one: Pid, other: Pid) -> None:
        """Link two processes. A second link changes nothing, and neither does a link of a process with itself."""
        if one is not other:
            self._links.setdefault(one, {})[other] = None
            self._links.setdefault(other, {})[one] = None

    def unlink(self, one: Pid, other: Pid) -> bool:
        """Remove a link. Returns True if there was one."""
        peers = self._links.get(one)
        if peers is None or other not in peers:
            return False
        self._drop(one, other)
        self._drop(other, one)
        return True

    def linked(self, one: Pid, other: Pid) -> bool:
        """Return True if two processes are linked."""
        peers = self._links.get(one)
        return peers is not None and other in peers

    def links_of(self, pid: Pid) -> tuple[Pid, ...]:
        """Return the processes that `pid` is linked to, in the order of linking."""
        return tuple(self._links.get(pid, ()))

    def watch(self, pid: Pid, watcher: Watcher) -> None:
        """Add a watcher to a living process."""
        watchers = self._watchers.get(pid)
        if watchers is None:
            self._watchers[pid] = {watcher: None}
        else:
            watchers[watcher] = None

    def unwatch(self, pid: Pid, watcher: Watcher) -> bool:
        """Remove a watcher. Returns True if it was there."""
        watchers = self._watchers.get(pid)
        if watchers is None or watcher not in watchers:
            return False
        del watchers[watcher]
        if not watchers:
            del self._watchers[pid]
        return True

    def watchers_of(self, pid: Pid) -> tuple[Watcher, ...]:
        """Return the watchers of `pid`, in the order in which they were added."""
        return tuple(self._watchers.get(pid, ()))

    def remove(self, pid: Pid) -> tuple[tuple[Pid, ...], tuple[Watcher, ...]]:
        """Remove an ended process. Returns its linked processes and its watchers, in the order of their addition."""
        peers = self._links.pop(pid, None)
        if peers is not None:
            for peer in peers:
                self._drop(peer, pid)
        watchers = self._watchers.pop(pid, None)
        return tuple(peers) if peers else (), tuple(watchers) if watchers else ()

    def __len__(self) -> int:
        """Return the number of processes that have a link or a watcher; 0 once all have ended."""
        return len(self._links.keys() | self._watchers.keys())

    def _drop(self, one: Pid, other: Pid) -> None:
        peers = self._links[one]
        del peers[other]
        if not peers:
            del self._links[one]
