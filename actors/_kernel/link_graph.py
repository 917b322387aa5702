"""The links between processes, and the watchers of each process, which each pid holds itself.

*pure*: only pids and watchers, so tests of the link rules need no runtime. When a process ends, the runtime removes its
links and watchers from its pid. The runtime then notifies linked processes and watchers in the order in which they were
added.
"""

from __future__ import annotations

from actors.refs import Pid, Watcher
from actors.small_set import has_item, items_of, with_item, without_item

__all__ = ["LinkGraph"]


class LinkGraph:
    """Links between processes, and the watchers of each process. Every operation takes constant time."""

    __slots__ = ()

    def link(self, one: Pid, other: Pid) -> None:
        """Link two processes. A second link changes nothing, and neither does a link of a process with itself."""
        if one is not other:
            one.links = with_item(one.links, other)
            other.links = with_item(other.links, one)

    def unlink(self, one: Pid, other: Pid) -> bool:
        """Remove a link. Return True if there was one."""
        linked = has_item(one.links, other)
        one.links = without_item(one.links, other)
        other.links = without_item(other.links, one)
        return linked

    def linked(self, one: Pid, other: Pid) -> bool:
        """Return True if two processes are linked."""
        return has_item(one.links, other)

    def links_of(self, pid: Pid) -> tuple[Pid, ...]:
        """Return the processes that `pid` is linked to, in the order of linking."""
        return items_of(pid.links)

    def watch(self, pid: Pid, watcher: Watcher) -> None:
        """Add a watcher to a living process."""
        watchers = pid.watchers
        pid.watchers = watcher if watchers is None else with_item(watchers, watcher)

    def unwatch(self, pid: Pid, watcher: Watcher) -> bool:
        """Remove a watcher. Return True if it was there."""
        watched = has_item(pid.watchers, watcher)
        pid.watchers = without_item(pid.watchers, watcher)
        return watched

    def watchers_of(self, pid: Pid) -> tuple[Watcher, ...]:
        """Return the watchers of `pid`, in the order in which they were added."""
        return items_of(pid.watchers)

    def remove(self, pid: Pid) -> tuple[tuple[Pid, ...], tuple[Watcher, ...]]:
        """Remove an ended process. Return its linked processes and its watchers, in the order of their addition.

        Each linked process keeps its side of the link until `unlink`, which the caller calls before the exit signal.
        """
        peers, watchers = items_of(pid.links), items_of(pid.watchers)
        pid.links = pid.watchers = None
        return peers, watchers
