"""Locks for keys. The first task that wants a lock makes it, and the last that leaves it removes it.

First come, first served. The code that took a ticket gives it back, whatever ends that code. The end of the process
gives it back too, because a process that swallows its own death never leaves the code.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import trio

from actors._kernel.runtime import acting_process

__all__ = ["KeyLocks", "Ticket"]


class Ticket:
    """A place in the queue for one lock. The first ticket holds the lock."""

    __slots__ = ("process", "tag", "task", "turn")

    def __init__(self, tag: Hashable) -> None:
        self.tag = tag
        self.process = acting_process()
        self.task = trio.lowlevel.current_task()
        self.turn = trio.Event()


class KeyLocks:
    """The locks of one registry. A key without a holder takes no memory."""

    __slots__ = ("_queues",)

    def __init__(self) -> None:
        # Ordered dicts, because the first of a plain one is slow to find when many before it have been deleted.
        self._queues: dict[Hashable, OrderedDict[Ticket, None]] = {}

    def __len__(self) -> int:
        """Return the number of locks that are held."""
        return len(self._queues)

    def holds(self, tag: Hashable) -> bool:
        """Return True if the current task has the lock."""
        queue = self._queues.get(tag)
        return queue is not None and next(iter(queue)).task is trio.lowlevel.current_task()

    async def acquire(self, tag: Hashable) -> Ticket:
        """Wait for the lock. Always a checkpoint. If it raises, there is nothing to release."""
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
                # Got the lock and was killed in the same turn: the kill wins.
                process.check()
        except BaseException:
            self.release(ticket)
            raise
        return ticket

    def release(self, ticket: Ticket) -> None:
        """Release the lock, or the place in its queue."""
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
            # If a later ticket has left, the first has had its turn already. A second time changes nothing.
            next(iter(queue)).turn.set()
        else:
            del self._queues[ticket.tag]
