"""Who is linked to whom and who watches whom, as a value.

No task, clock or process: only pids and watchers, so that every rule about links can be tested by itself. The
runtime asks it what to do when a process ends and does it.

Iteration is always in the order in which links and monitors were made; nothing here iterates over a set.
"""

from __future__ import annotations

from actors.refs import Pid, Watcher

__all__ = ["LinkGraph"]


class LinkGraph:
    """Links between processes, and watchers on them. Every operation takes constant time."""

    __slots__ = ("_links", "_watchers")

    def __init__(self) -> None:
        self._links: dict[Pid, dict[Pid, None]] = {}
        self._watchers: dict[Pid, dict[Watcher, None]] = {}

    def link(self, one: Pid, other: Pid) -> None:
        """Join two processes. A second link is the same link; a link with oneself is none."""
        if one is not other:
            self._links.setdefault(one, {})[other] = None
            self._links.setdefault(other, {})[one] = None

    def unlink(self, one: Pid, other: Pid) -> bool:
        """Cut a link. Returns whether there was one."""
        peers = self._links.get(one)
        if peers is None or other not in peers:
            return False
        self._drop(one, other)
        self._drop(other, one)
        return True

    def linked(self, one: Pid, other: Pid) -> bool:
        """Whether two processes are linked."""
        peers = self._links.get(one)
        return peers is not None and other in peers

    def links_of(self, pid: Pid) -> tuple[Pid, ...]:
        """The processes that `pid` is linked to, in the order of linking."""
        return tuple(self._links.get(pid, ()))

    def watch(self, pid: Pid, watcher: Watcher) -> None:
        """Add a watcher to a living process."""
        watchers = self._watchers.get(pid)
        if watchers is None:
            self._watchers[pid] = {watcher: None}
        else:
            watchers[watcher] = None

    def unwatch(self, pid: Pid, watcher: Watcher) -> bool:
        """Remove a watcher. Returns whether it was there."""
        watchers = self._watchers.get(pid)
        if watchers is None or watcher not in watchers:
            return False
        del watchers[watcher]
        if not watchers:
            del self._watchers[pid]
        return True

    def watchers_of(self, pid: Pid) -> tuple[Watcher, ...]:
        """The watchers of `pid`, in the order in which they came."""
        return tuple(self._watchers.get(pid, ()))

    def remove(self, pid: Pid) -> tuple[tuple[Pid, ...], tuple[Watcher, ...]]:
        """Forget an ended process. Returns whom to tell: its linked peers and its watchers, each in their order."""
        peers = self._links.pop(pid, None)
        if peers is not None:
            for peer in peers:
                self._drop(peer, pid)
        watchers = self._watchers.pop(pid, None)
        return tuple(peers) if peers else (), tuple(watchers) if watchers else ()

    def __len__(self) -> int:
        """How many processes have a link or a watcher; 0 once everything has ended."""
        return len(self._links.keys() | self._watchers.keys())

    def _drop(self, one: Pid, other: Pid) -> None:
        peers = self._links[one]
        del peers[other]
        if not peers:
            del self._links[one]
