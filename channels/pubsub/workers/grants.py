"""The owners of keys, in the memory of one process: the table of the workers' parent, and of a program alone.

*pure*: the time is an argument, in microseconds of the time of day.

    grants = Grants()
    Open("auctions", 1, node).carry_out(grants, holder, now)
    Acquire("auctions", 1, "42").carry_out(grants, holder, now)       # Owned(fence=1764522000000000)

A *holder* is a process that sends requests to the table, such as a worker. It has one *session* for each of its
`EntitySupervisor`s. The numbers of its sessions grow, and a new session ends the earlier one. A session owns keys until
it releases them, until the holder opens another session, or until `free` says that the holder has ended.
So nothing expires, and a holder that hangs keeps its keys.

Each grant gets a *fence*: the time, or one more than the last fence if the clock did not advance. So fences grow even
if the clock was set back, as long as the table lives. A later table begins with its own time. If the clock was set back
between the two, a storage refuses the fence, and the owner acquires again with `at_least`.

The table keeps one number for the fences of all keys, so a key without an owner needs no memory. Alarms need memory
until they are cleared. They are as durable as the process of the table.
"""

from __future__ import annotations

import heapq
from typing import Any, ClassVar

import msgspec

from channels.pubsub.adapter import Node

__all__ = [
    "Acquire",
    "ClearAlarm",
    "Close",
    "DueAlarms",
    "Grants",
    "NoSession",
    "Open",
    "Owned",
    "OwnedBy",
    "OwnerOf",
    "Release",
    "Request",
    "SetAlarm",
    "Transfer",
]


class Owned(msgspec.Struct, frozen=True, tag=True):
    """The session owns the key.

    Attributes:
        fence: the number of this ownership. It is greater than that of each earlier owner of the key.
        arrived: True if the previous owner has transferred the key with this fence.
        sender: the node of that owner. None if there is none, or if the arbiter does not keep it, as in Redis.
    """

    fence: int
    arrived: bool = False
    sender: Node | None = None


class OwnedBy(msgspec.Struct, frozen=True, tag=True):
    """Another living session owns the key.

    Attributes:
        node: the node of that session.
    """

    node: Node


class NoSession(Exception):
    """The session of a request has ended, or was never opened."""


class _Session:
    def __init__(self, node: Node, number: int, holder: int) -> None:
        self.node = node
        self.number = number
        self.holder = holder
        self.keys: dict[str, Owned] = {}


class _Table:
    """The sessions, keys and alarms of one name of `EntitySupervisor`s."""

    def __init__(self) -> None:
        # By holder: a holder has one session for each name.
        self.sessions: dict[int, _Session] = {}
        self.owners: dict[str, _Session] = {}
        self.alarms: dict[str, float] = {}
        # The times of the alarms, earliest first. It may contain alarms that were changed or cleared.
        self.times: list[tuple[float, str]] = []

    def end(self, session: _Session) -> None:
        del self.sessions[session.holder]
        for key in session.keys:
            del self.owners[key]


class Grants:
    """The sessions, keys and alarms of all holders."""

    def __init__(self) -> None:
        self._tables: dict[str, _Table] = {}
        self._last = 0

    def table(self, supervisor: str) -> _Table:
        """Return the table of a name."""
        return self._tables.setdefault(supervisor, _Table())

    def session(self, holder: int, supervisor: str, number: int) -> tuple[_Table, _Session]:
        """Return the session of a request, and its table.

        Raises:
            NoSession: it has ended.
        """
        table = self.table(supervisor)
        session = table.sessions.get(holder)
        if session is None or session.number != number:
            raise NoSession
        return table, session

    def next_fence(self, now: int, at_least: int = 0) -> int:
        """Return a fence that is greater than all earlier ones."""
        self._last = max(now, self._last + 1, at_least)
        return self._last

    def free(self, holder: int) -> list[Node]:
        """End the sessions of a holder whose process has ended. Return their nodes."""
        lost: dict[Node, None] = {}
        for table in self._tables.values():
            session = table.sessions.get(holder)
            if session is not None:
                table.end(session)
                lost[session.node] = None
        return list(lost)

    def keys_of(self, holder: int) -> int:
        """Return the number of keys that the sessions of a holder own."""
        sessions = [table.sessions.get(holder) for table in self._tables.values()]
        return sum(len(each.keys) for each in sessions if each is not None)


class Request(msgspec.Struct, frozen=True, tag=True):
    """The base of the requests.

    Attributes:
        supervisor: the name of the `EntitySupervisor`.
        number: the number of the session.
    """

    supervisor: str
    number: int

    answer_type: ClassVar[Any] = type(None)

    def carry_out(self, grants: Grants, holder: int, now: int) -> Any:
        """Change the table, and return the answer, of the type `answer_type`.

        Args:
            grants: the table.
            holder: the holder that sends the request.
            now: the time of day in microseconds.

        Raises:
            NoSession: the session has ended.
        """
        raise NotImplementedError


class Open(Request, frozen=True):
    """Open the session with this number, and end the earlier session of the node."""

    node: Node

    def carry_out(self, grants: Grants, holder: int, now: int) -> None:
        table = grants.table(self.supervisor)
        earlier = table.sessions.get(holder)
        if earlier is not None:
            if earlier.number >= self.number:
                raise NoSession
            table.end(earlier)
        table.sessions[holder] = _Session(self.node, self.number, holder)


class Close(Request, frozen=True):
    """End the session, whose entities have stopped."""

    def carry_out(self, grants: Grants, holder: int, now: int) -> None:
        table, session = grants.session(holder, self.supervisor, self.number)
        table.end(session)


class Acquire(Request, frozen=True):
    """Own a key. The owner gets its fence again, unless it asks for a greater one."""

    key: str
    at_least: int = 0

    answer_type: ClassVar[Any] = Owned | OwnedBy

    def carry_out(self, grants: Grants, holder: int, now: int) -> Owned | OwnedBy:
        table, session = grants.session(holder, self.supervisor, self.number)
        owner = table.owners.get(self.key)
        if owner is not None and owner is not session:
            return OwnedBy(owner.node)
        owned = session.keys.get(self.key)
        if owned is None or owned.fence < self.at_least:
            owned = Owned(grants.next_fence(now, self.at_least))
            table.owners[self.key] = session
            session.keys[self.key] = owned
        return owned


class Release(Request, frozen=True):
    """Give up a key. The answer is False if the session does not own it with this fence."""

    key: str
    fence: int

    answer_type: ClassVar[Any] = bool

    def carry_out(self, grants: Grants, holder: int, now: int) -> bool:
        table, session = grants.session(holder, self.supervisor, self.number)
        owned = session.keys.get(self.key)
        if owned is None or owned.fence != self.fence:
            return False
        del session.keys[self.key], table.owners[self.key]
        return True


class Transfer(Request, frozen=True):
    """Pass a key on to the session of another node. The answer is the new fence, or None if this is refused."""

    key: str
    fence: int
    to: Node

    answer_type: ClassVar[Any] = int | None

    def carry_out(self, grants: Grants, holder: int, now: int) -> int | None:
        table, session = grants.session(holder, self.supervisor, self.number)
        owned = session.keys.get(self.key)
        target = next((each for each in table.sessions.values() if each.node == self.to), None)
        if owned is None or owned.fence != self.fence or target is None or target is session:
            return None
        arrived = Owned(grants.next_fence(now), arrived=True, sender=session.node)
        del session.keys[self.key]
        table.owners[self.key] = target
        target.keys[self.key] = arrived
        return arrived.fence


class SetAlarm(Request, frozen=True):
    """Set the alarm of a key, or clear it. The answer is False if the session does not own the key with this fence."""

    key: str
    at: float | None
    fence: int

    answer_type: ClassVar[Any] = bool

    def carry_out(self, grants: Grants, holder: int, now: int) -> bool:
        table, session = grants.session(holder, self.supervisor, self.number)
        owned = session.keys.get(self.key)
        if owned is None or owned.fence != self.fence:
            return False
        if self.at is None:
            table.alarms.pop(self.key, None)
        elif table.alarms.get(self.key) != self.at:
            table.alarms[self.key] = self.at
            heapq.heappush(table.times, (self.at, self.key))
        return True


class DueAlarms(Request, frozen=True):
    """Find alarms whose time has come, earliest first."""

    until: float
    limit: int

    answer_type: ClassVar[Any] = list[tuple[str, float]]

    def carry_out(self, grants: Grants, holder: int, now: int) -> list[tuple[str, float]]:
        table = grants.table(self.supervisor)
        due: dict[str, float] = {}
        while table.times and table.times[0][0] <= self.until and len(due) < self.limit:
            at, key = heapq.heappop(table.times)
            if table.alarms.get(key) == at:
                due[key] = at
        # They stay until they are cleared.
        for key, at in due.items():
            heapq.heappush(table.times, (at, key))
        return list(due.items())


class ClearAlarm(Request, frozen=True):
    """Clear the alarm of a key, unless it was set to another time."""

    key: str
    at: float

    def carry_out(self, grants: Grants, holder: int, now: int) -> None:
        alarms = grants.table(self.supervisor).alarms
        if alarms.get(self.key) == self.at:
            del alarms[self.key]


class OwnerOf(Request, frozen=True):
    """Find the node that owns a key."""

    key: str

    answer_type: ClassVar[Any] = Node | None

    def carry_out(self, grants: Grants, holder: int, now: int) -> Node | None:
        owner = grants.table(self.supervisor).owners.get(self.key)
        return None if owner is None else owner.node
