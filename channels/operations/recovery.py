"""The times of recovery: from the end of a child to its restart, and from the crash of a channel to its rejoin.

*pure*: the times are arguments. The memory is bounded. The end of a connection removes its channels, and the number of
children has a limit.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["MAX_ABSENT", "Absences"]

MAX_ABSENT = 10_000
"""The largest number of remembered absences of one kind.

Beyond it, the oldest absence is forgotten, and never measured.
"""

Owner = TypeVar("Owner", bound=Hashable)


class Absences(Generic[Owner]):
    """The absent names of each owner, with the times at which they went away.

    absences = Absences[str]()
    absences.begin("the endpoint", "flusher", 10.0)
    absences.end("the endpoint", "flusher", 10.5)       # 0.5
    absences.end("the endpoint", "flusher", 11.0)       # None: it was not away
    """

    def __init__(self, limit: int = MAX_ABSENT) -> None:
        self._limit = limit
        self._since: dict[tuple[Owner, Hashable], float] = {}
        # The absent names of each owner, so that `forget` finds them.
        self._names: dict[Owner, dict[Hashable, None]] = {}

    def __len__(self) -> int:
        return len(self._since)

    def begin(self, owner: Owner, name: Hashable, now: float) -> None:
        """Note that `name` of an owner is away. A second call before `end` changes nothing."""
        if (owner, name) in self._since:
            return
        if len(self._since) >= self._limit:
            self._remove(*next(iter(self._since)))
        self._since[owner, name] = now
        self._names.setdefault(owner, {})[name] = None

    def end(self, owner: Owner, name: Hashable, now: float) -> float | None:
        """Note that `name` has returned. Return the seconds of its absence; None if it was not away."""
        since = self._since.get((owner, name))
        if since is None:
            return None
        self._remove(owner, name)
        return now - since

    def forget(self, owner: Owner) -> None:
        """Forget all absences of an owner that has ended."""
        for name in list(self._names.get(owner, ())):
            self._remove(owner, name)

    def _remove(self, owner: Owner, name: Hashable) -> None:
        del self._since[owner, name]
        names = self._names[owner]
        del names[name]
        if not names:
            del self._names[owner]
