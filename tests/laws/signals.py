"""Invariants of exit signals, and of the actions of a process after a fatal signal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from actors._kernel.runtime import record_of
from actors.exits import KILL, KILLED, NOPROC, NORMAL, SHUTDOWN, ExitReason
from actors.introspection import scan, status_of
from actors.messages import Exit
from actors.refs import Address, Pid, Ref
from actors.registry.registry import Registry
from actors.runtime import Runtime
from supervision.laboratory.chaos.invariants.base import Invariant
from supervision.recording.places import Places

__all__ = ["DeadSendNothing", "ExitSignals"]

_NONE = object()


class ExitSignals(Invariant):
    """Every linked process gets one exit signal with the right reason, and each signal has its documented effect.

    A signal has one of three effects: the process ends with the reason of the first fatal signal, the process gets an
    `Exit` message, or nothing happens. The invariant computes the expected effect itself.
    """

    name: ClassVar[str] = "exit_signals"
    only_messages: ClassVar[Mapping[str, type]] = {"message_sent": Exit, "message_received": Exit}

    # A process must end within its kill grace plus these seconds after a fatal signal.
    grace: ClassVar[float] = 1.0

    def __init__(self) -> None:
        super().__init__()
        self._links: dict[Pid, dict[Pid, None]] = {}
        # The signals that the runtime must send in the step in which a process ends. Maps sender and receiver to the
        # reason.
        self._due: dict[tuple[Pid, Pid], ExitReason] = {}
        # The processes with a name in a registry. A registry that closes may signal them without a link.
        self._keepers: dict[Pid, None] = {}
        self._closing: ExitReason = _NONE
        # The reason and the time of the first fatal signal of each process that has got one.
        self._fates: dict[Pid, tuple[ExitReason, float]] = {}
        # The processes that got a non-fatal signal in this round.
        self._spared: dict[Pid, ExitReason] = {}
        # The `Exit` messages that must arrive in the mailbox of each process.
        self._exits: dict[Pid, list[Exit]] = {}
        # The processes to which the program itself has sent an `Exit` as a message.
        self._forged: dict[Pid, None] = {}

    def attach(self, runtime: Runtime, places: Places | None = None) -> None:
        super().attach(runtime, places)
        for pid in runtime.processes():
            info = runtime.process_info(pid)
            if info is not None:
                self._links[pid] = dict.fromkeys(info["links"])
                self._exits[pid] = [each for each in _messages_of(pid) if _is_counted(each)]

    # Links

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        self._links.setdefault(pid, {})

    def linked(self, pid: Pid, other: Pid) -> None:
        if pid is not other:
            self._links.setdefault(pid, {})[other] = None
            self._links.setdefault(other, {})[pid] = None

    def unlinked(self, pid: Pid, other: Pid, flushed: bool) -> None:
        self._links.get(pid, {}).pop(other, None)
        self._links.get(other, {}).pop(pid, None)
        if flushed:
            self._forget_exit(pid, other)

    def _forget_exit(self, pid: Pid, sender: Pid) -> None:
        expected = self._exits.get(pid, [])
        for index, message in enumerate(expected):
            if message.pid is sender:
                del expected[index]
                return

    def registered(self, pid: Pid, key: object, registry: object) -> None:
        if isinstance(registry, Registry):
            self._keepers[pid] = None

    def registry_closed(self, registry: object) -> None:
        self._closing = registry

    # Signals

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        for peer in self._links.pop(pid, ()):
            others = self._links.get(peer)
            if others is not None:
                others.pop(pid, None)
                self._due[pid, peer] = reason
        fate = self._fates.pop(pid, None)
        if fate is not None and reason is not fate[0] and reason != fate[0]:
            self.violated(
                f"{self.who(pid)} ended with {reason!r}, but its first fatal signal was {fate[0]!r}"
            )
        self._exits.pop(pid, None)
        self._forged.pop(pid, None)
        self._keepers.pop(pid, None)
        self._spared.pop(pid, None)

    def signal_sent(self, sender: Pid, receiver: Pid, reason: ExitReason, linked: bool) -> None:
        info = self.runtime.process_info(receiver)
        if info is None:
            return
        if linked:
            self._check_link(sender, receiver, reason)
        if reason is KILL and not linked:
            self._fates.setdefault(receiver, (KILLED, self.now()))
        elif info["trap_exits"]:
            message = Exit(sender, reason)
            if _is_counted(message):
                self._exits.setdefault(receiver, []).append(message)
            self._spared[receiver] = reason
        elif reason is NORMAL and sender is not receiver:
            self._spared[receiver] = reason
        else:
            self._fates.setdefault(receiver, (reason, self.now()))

    def _check_link(self, sender: Pid, receiver: Pid, reason: ExitReason) -> None:
        expected = self._due.pop((sender, receiver), _NONE)
        if expected is _NONE:
            if self._closing is not _NONE and receiver in self._keepers:
                if reason is NORMAL:
                    self.violated(
                        f"{self.who(receiver)} got NORMAL from a registry that closed; write {SHUTDOWN!r}"
                    )
                return
            self.violated(
                f"{self.who(receiver)} got the exit signal {reason!r} of {self.who(sender)} over a link, "
                "but they are not linked, or it got one before"
            )
        elif reason is not expected and reason != expected:
            self.violated(
                f"{self.who(receiver)} got the exit signal {reason!r} of {self.who(sender)}, which ended with "
                f"{expected!r}"
            )

    # Messages

    def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> None:
        self._forged[receiver] = None

    def message_received(self, pid: Pid, message: Any) -> None:
        if not _is_counted(message) or pid in self._forged:
            return
        expected = self._exits.get(pid, [])
        same = [each for each in expected if each.pid is message.pid]
        # A selective receive may take the second of two signals first.
        for known in same:
            if known.reason is message.reason or known.reason == message.reason:
                expected[:] = [each for each in expected if each is not known]
                return
        if same:
            expected.remove(same[0])
            self.violated(
                f"{self.who(pid)} received {message!r}, but the signal was {same[0].reason!r}"
            )
        else:
            self.violated(f"{self.who(pid)} received {message!r}, but it trapped no such signal")

    # Checks

    def check(self) -> str | None:
        self._closing = _NONE
        if self._due:
            (sender, receiver), reason = next(iter(self._due.items()))
            return (
                f"{self.who(receiver)} is linked to {self.who(sender)}, which ended with {reason!r}, "
                "and got no exit signal"
            )
        if self._spared:
            spared, self._spared = self._spared, {}
            for pid, reason in spared.items():
                if pid not in self._fates and status_of(pid) == "exiting":
                    return f"{self.who(pid)} ends because of the signal {reason!r}, which must not end it"
        return None

    def at_rest(self) -> str | None:
        now, limit = self.now(), self.runtime.kill_grace + self.grace
        problem = self.late_twice(
            {
                pid: f"{self.who(pid)} lives {now - since:g} s after the fatal signal {reason!r}"
                for pid, (reason, since) in self._fates.items()
                if now > since + limit
            }
        )
        if problem is not None:
            return problem
        for pid, expected in self._exits.items():
            if expected and pid not in self._fates and not scan([pid])[0]:
                return f"{self.who(pid)} trapped {expected[0]!r}, and its mailbox is empty"
        return None


def _is_counted(message: Any) -> bool:
    """Return True for an `Exit` that needs a signal. `link` sends one with NOPROC without a signal."""
    return type(message) is Exit and message.reason is not NOPROC


class DeadSendNothing(Invariant):
    """A process sends nothing after its end. After a fatal signal, no `call` returns and lets the process go on.

    The evidence of a returned call is the next callback or call of the process, because a healthy runtime refuses both.
    Other code of the process may send until the process ends: a `finally` block, code in a shielded scope, or code that
    keeps the exception and raises it later. The kill grace limits the time for this.
    """

    name: ClassVar[str] = "dead_send_nothing"

    def __init__(self) -> None:
        super().__init__()
        self._ended: dict[Pid, ExitReason] = {}
        # The processes that have got a fatal signal. If the task of such a process was ready, it takes one more step.
        self._doomed: dict[Pid, None] = {}
        self._callers: dict[object, Pid] = {}
        # The doomed processes with a call that ended after the fatal signal. `call` must raise `ProcessKilled` in them.
        self._called: dict[Pid, None] = {}

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        self._doomed.pop(pid, None)
        self._called.pop(pid, None)
        self._ended[pid] = reason
        if len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def signal_sent(self, sender: Pid, receiver: Pid, reason: ExitReason, linked: bool) -> None:
        if not linked and sender in self._ended:
            self._report(sender, f"sent the exit signal {reason!r} to {self.who(receiver)}")
        info = self.runtime.process_info(receiver)
        if info is None or receiver in self._doomed:
            return
        kills = reason is KILL and not linked
        if kills or (not info["trap_exits"] and (reason is not NORMAL or sender is receiver)):
            self._doomed[receiver] = None

    def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> None:
        if sender is not None and sender in self._ended:
            self._report(sender, f"sent {message!r} to {self.who(receiver)}")

    def call_started(self, caller: Pid | None, server: Pid, call: object, timeout: float) -> None:
        if caller is not None:
            self._callers[call] = caller
            if caller in self._called:
                self._acts(caller, f"calls {self.who(server)}")

    def call_ended(self, call: object, how: str) -> None:
        caller = self._callers.pop(call, None)
        if caller in self._doomed and how != "cancelled":
            self._called[caller] = None

    def callback_started(self, pid: Pid, callback: str, message: Any) -> None:
        if pid in self._called:
            self._acts(pid, f"began {callback} with {message!r}")

    def monitored(self, pid: Pid, ref: Ref, target: Pid | Address[Any] | None) -> None:
        if pid in self._ended:
            who = repr(target) if isinstance(target, Address) else self.who(target)
            self._report(pid, f"monitors {who}")

    def _acts(self, pid: Pid, what: str) -> None:
        self.violated(
            f"{self.who(pid)} {what}, but it got a fatal exit signal before its last call ended; that call must "
            "raise ProcessKilled"
        )

    def _report(self, pid: Pid, what: str) -> None:
        self.violated(f"{self.who(pid)} {what} after its end with {self._ended[pid]!r}")


# The number of ended processes that the invariant remembers.
_REMEMBERED = 1000


def _messages_of(pid: Pid) -> list[Any]:
    """Return the messages in the mailbox of a process, the oldest first. The list is empty if the process has ended."""
    process = record_of(pid)
    return [] if process is None else list(process.mailbox.queue)
