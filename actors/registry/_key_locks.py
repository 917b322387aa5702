"""Locks that are made when somebody wants them and forgotten when nobody does: one for each key.

First come, first served. A ticket is given back by the code that took it, however that code is left; and, because a
process that swallows its own death never leaves it, by the end of the process as well.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import trio

from actors._kernel.runtime import acting_process

__all__ = ["KeyLocks", "Ticket"]


class Ticket:
    """A place in the queue for one lock; the first has the lock."""

    __slots__ = ("process", "tag", "task", "turn")

    def __init__(self, tag: Hashable) -> None:
        self.tag = tag
        self.process = acting_process()
        self.task = trio.lowlevel.current_task()
        self.turn = trio.Event()


class KeyLocks:
    """The locks of one registry. A key that nobody holds or waits for takes no room."""

    __slots__ = ("_queues",)

    def __init__(self) -> None:
        # Ordered dicts, because the first of a plain one is slow to find when many before it have been deleted.
        self._queues: dict[Hashable, OrderedDict[Ticket, None]] = {}

    def __len__(self) -> int:
        """How many locks are held."""
        return len(self._queues)

    def holds(self, tag: Hashable) -> bool:
        """Whether the current task has the lock."""
        queue = self._queues.get(tag)
        return queue is not None and next(iter(queue)).task is trio.lowlevel.current_task()

    async def acquire(self, tag: Hashable) -> Ticket:
        """Wait for the lock. Always a checkpoint; if it raises, there is nothing to release."""
        ticket = Ticket(tag)
        process = ticket.process
        self._queues.setdefault(tag, OrderedDict())[ticket] = None
        if process is not None:
            if process.cleanups is None:
                process.cleanups = {}
            process.cleanups[ticket] = lambda: self._leave(ticket)
        try:
            if next(iter(self._queues[tag])) is ticket:
                await trio.lowlevel.checkpoint()
            else:
                await ticket.turn.wait()
            if process is not None:
                # Given the lock and killed in the same turn: the kill wins.
                process.check()
        except BaseException:
            self.release(ticket)
            raise
        return ticket

    def release(self, ticket: Ticket) -> None:
        """Give the lock, or the place in its queue, back."""
        process = ticket.process
        if process is not None and process.cleanups is not None:
            process.cleanups.pop(ticket, None)
        self._leave(ticket)

    def _leave(self, ticket: Ticket) -> None:
        queue = self._queues.get(ticket.tag)
        if queue is None or ticket not in queue:
            return
        del queue[ticket]
        if queue:
            # If somebody behind it has left, the first has had its turn already; once more changes nothing.
            next(iter(queue)).turn.set()
        else:
            del self._queues[ticket.tag]
