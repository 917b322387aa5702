"""A minimal model of the signal table, without a clock or tasks. It uses only values of actors.

The test tells the model each operation and the moment at which each process ends, because the scheduler decides that.
The model returns the exit reason of each process and the content of each mailbox.
"""

from dataclasses import dataclass, field

from actors import KILL, KILLED, NOPROC, NORMAL
from actors.exits import ExitReason

# A message in a mailbox: ("exit", process, reason), ("down", reference, process, reason) or ("text", text).
Message = tuple[object, ...]


@dataclass
class Modelled:
    """One process."""

    trapping: bool = False
    alive: bool = True
    # Accepted a fatal signal, and why.
    dying: bool = False
    reason: ExitReason = NORMAL
    # In the order in which they were made, which is the order in which they are told.
    links: dict[int, None] = field(default_factory=dict)
    watchers: dict[int, int] = field(default_factory=dict)
    mailbox: list[Message] = field(default_factory=list)


class Model:
    """All processes, by number."""

    def __init__(self) -> None:
        self.processes: list[Modelled] = []
        self.references = 0

    def spawn(self, *, by: int | None = None) -> int:
        self.processes.append(Modelled())
        number = len(self.processes) - 1
        if by is not None:
            self.link(by, number)
        return number

    def link(self, one: int, other: int) -> bool:
        """Link two processes. Return True if it worked. If not, `one` gets an exception."""
        here, there = self.processes[one], self.processes[other]
        if not there.alive:
            if here.trapping:
                here.mailbox.append(("exit", other, NOPROC))
            return here.trapping
        if one != other:
            here.links.setdefault(other)
            there.links.setdefault(one)
        return True

    def unlink(self, one: int, other: int, *, flush: bool) -> None:
        self.processes[one].links.pop(other, None)
        self.processes[other].links.pop(one, None)
        if flush:
            self._flush(one, lambda message: message[:2] == ("exit", other))

    def monitor(self, one: int, other: int) -> int:
        """Make `one` monitor another process. A process does not monitor itself, and gets a reference only."""
        self.references += 1
        if one == other:
            pass
        elif self.processes[other].alive:
            self.processes[other].watchers[self.references] = one
        else:
            self.processes[one].mailbox.append(("down", self.references, other, NOPROC))
        return self.references

    def demonitor(self, one: int, reference: int, *, flush: bool) -> bool:
        """Remove a monitor. Return True if the monitor existed and `one` owned it."""
        removed = False
        for each in self.processes:
            if each.watchers.get(reference) == one:
                del each.watchers[reference]
                removed = True
        if flush:
            self._flush(one, lambda message: message[:2] == ("down", reference))
        return removed

    def _flush(self, one: int, match: object) -> None:
        assert callable(match)
        mailbox = self.processes[one].mailbox
        for message in mailbox:
            if match(message):
                mailbox.remove(message)
                return

    def send(self, other: int, what: object) -> None:
        if self.processes[other].alive:
            self.processes[other].mailbox.append(("text", what))

    def signal(self, sender: int, receiver: int, reason: ExitReason, *, linked: bool) -> None:
        """The table, row by row."""
        process = self.processes[receiver]
        if not process.alive:
            return
        if not linked and reason is KILL:
            self._accept(process, KILLED)
        elif process.trapping:
            process.mailbox.append(("exit", sender, reason))
        elif reason is NORMAL and sender != receiver:
            pass
        else:
            self._accept(process, reason)

    def _accept(self, process: Modelled, reason: ExitReason) -> None:
        if not process.dying:
            process.dying, process.reason = True, reason

    def ended(self, number: int, by_itself: ExitReason) -> ExitReason:
        """Return the exit reason of a process. `by_itself` is its reason without any signal."""
        process = self.processes[number]
        assert process.alive, "a process ended twice"
        process.alive = False
        reason = process.reason if process.dying else by_itself
        for each in self.processes:
            each.watchers = {ref: who for ref, who in each.watchers.items() if who != number}
        for peer in process.links:
            self.processes[peer].links.pop(number)
            self.signal(number, peer, reason, linked=True)
        for reference, owner in process.watchers.items():
            self.processes[owner].mailbox.append(("down", reference, number, reason))
        process.links, process.watchers, process.mailbox = {}, {}, []
        return reason
