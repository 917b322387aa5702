"""Invariants of processes: monitors fire once, calls end, and an ended process handles nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any, ClassVar

from attrs import define

from actors.exits import KILL, NORMAL, ExitReason
from actors.messages import Down
from actors.process import is_alive
from actors.refs import Address, Pid, Ref
from supervision.laboratory.chaos.invariants.base import Invariant

__all__ = ["Calls", "DeadHandleNothing", "Monitors"]


@define(eq=False)
class _Watching:
    """A monitor whose `Down` message can still be received."""

    watcher: Pid
    target: Pid | None
    # True for a `RemoteAddress`, whose end this node cannot see.
    is_remote: bool
    sent: bool = False


class Monitors(Invariant):
    """A monitor fires once: when its target ends, or immediately without a target. It never fires after `demonitor`.

    The monitor of a `RemoteAddress` may fire at any time.
    """

    name: ClassVar[str] = "monitors"
    only_messages: ClassVar[Mapping[str, type]] = {"message_sent": Down, "message_received": Down}

    def __init__(self) -> None:
        super().__init__()
        self._monitors: dict[Ref, _Watching] = {}
        self._of: dict[Pid, dict[Ref, None]] = {}
        self._on: dict[Pid, dict[Ref, None]] = {}
        # The monitors whose targets have ended. These monitors must fire in the same step.
        self._due: dict[Ref, None] = {}
        # The monitors whose `Down` the program itself has sent to a process, for example to forward it, with the number
        # of these messages that the process has not received yet.
        self._forwarded: dict[Pid, Counter[Ref]] = {}

    def monitored(self, pid: Pid, ref: Ref, target: Pid | Address[Any] | None) -> None:
        if ref in self._monitors:
            self.violated(f"{self.who(pid)} got {ref!r} for a second monitor")
        is_remote = isinstance(target, Address)
        target = target if isinstance(target, Pid) else None
        self._monitors[ref] = _Watching(pid, target, is_remote)
        self._of.setdefault(pid, {})[ref] = None
        if target is not None and target in self._on:
            self._on[target][ref] = None
        elif not is_remote:
            self._due[ref] = None

    def demonitored(self, pid: Pid, ref: Ref, flushed: bool) -> None:
        watching = self._monitors.get(ref)
        if watching is not None and (flushed or not watching.sent):
            self._forget(ref, watching)

    def down_sent(self, pid: Pid, ref: Ref) -> None:
        watching = self._monitors.get(ref)
        if watching is None:
            self.violated(
                f"the monitor {ref!r} of {self.who(pid)} fires, but it has fired before or was removed"
            )
        elif watching.sent:
            self.violated(
                f"the monitor {ref!r} of {self.who(pid)} on {self.who(watching.target)} fires a second time"
            )
        elif ref not in self._due and not watching.is_remote:
            self.violated(
                f"the monitor {ref!r} of {self.who(pid)} fires, but {self.who(watching.target)} has not ended"
            )
        else:
            watching.sent = True
            self._due.pop(ref, None)

    def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> None:
        # The runtime drops a message to a process that has ended.
        if is_alive(receiver):
            self._forwarded.setdefault(receiver, Counter())[message.ref] += 1

    def message_received(self, pid: Pid, message: Any) -> None:
        # The runtime does not report the `Down` messages that it puts into a mailbox, only those that leave it.
        watching = self._monitors.get(message.ref)
        if watching is None and self._received_forwarded(pid, message.ref):
            return
        if watching is None or not watching.sent:
            self.violated(
                f"{self.who(pid)} received a Down of {message.ref!r}, but that monitor has "
                + ("fired before, or was removed" if watching is None else "not fired")
            )
            return
        self._forget(message.ref, watching)

    def _received_forwarded(self, pid: Pid, ref: Ref) -> bool:
        waiting = self._forwarded.get(pid)
        if not waiting or ref not in waiting:
            return False
        waiting[ref] -= 1
        if not waiting[ref]:
            del waiting[ref]
        if not waiting:
            del self._forwarded[pid]
        return True

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        self._on[pid] = {}

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        self._forwarded.pop(pid, None)
        for ref in self._of.pop(pid, ()):
            watching = self._monitors.pop(ref)
            self._due.pop(ref, None)
            if watching.target is not None and watching.target in self._on:
                self._on[watching.target].pop(ref, None)
        self._due.update(self._on.pop(pid, {}))

    def check(self) -> str | None:
        if not self._due:
            return None
        ref = next(iter(self._due))
        watching = self._monitors[ref]
        return (
            f"{self.who(watching.target)} has ended, and the monitor {ref!r} of {self.who(watching.watcher)} "
            "on it has not fired"
        )

    def _forget(self, ref: Ref, watching: _Watching) -> None:
        del self._monitors[ref]
        self._due.pop(ref, None)
        self._of[watching.watcher].pop(ref, None)
        if watching.target is not None and watching.target in self._on:
            self._on[watching.target].pop(ref, None)


@define(eq=False)
class _Call:
    caller: Pid | None
    server: Pid
    deadline: float


class Calls(Invariant):
    """Every call ends: with a reply, with the end of its server, or at its timeout."""

    name: ClassVar[str] = "calls_end"

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[object, _Call] = {}
        self._living: dict[Pid, None] = {}

    def call_started(self, caller: Pid | None, server: Pid, call: object, timeout: float) -> None:
        deadline = math.inf if timeout == math.inf else self.now() + timeout
        self._calls[call] = _Call(caller, server, deadline)

    def call_ended(self, call: object, how: str) -> None:
        ended = self._calls.pop(call, None)
        if ended is None:
            self.violated(f"a call ended a second time, {how}")
        elif how == "server_ended" and ended.server in self._living:
            self.violated(
                f"the call of {self.who(ended.caller)} to {self.who(ended.server)} ended as if the server had ended, "
                "but it lives"
            )
        elif how == "timeout" and self.now() < ended.deadline:
            self.violated(
                f"the call of {self.who(ended.caller)} to {self.who(ended.server)} timed out "
                f"{ended.deadline - self.now():g} s too early"
            )

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        self._living[pid] = None

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        self._living.pop(pid, None)

    def at_rest(self) -> str | None:
        late: dict[Hashable, str] = {}
        for call in self._calls.values():
            has_ended = call.server not in self._living
            if has_ended or call.deadline <= self.now():
                late[call] = (
                    f"the call of {self.who(call.caller)} to {self.who(call.server)} does not end, although "
                    f"{'its server has ended' if has_ended else 'its timeout is over'}"
                )
        return self.late_twice(late)


class DeadHandleNothing(Invariant):
    """A process that has ended or got a fatal exit signal receives no message and begins no callback."""

    name: ClassVar[str] = "dead_handle_nothing"

    def __init__(self) -> None:
        super().__init__()
        self._living: dict[Pid, None] = {}
        # The reason of the fatal signal of each process that has got one and has not ended yet.
        self._doomed: dict[Pid, ExitReason] = {}

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        self._living[pid] = None

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        self._living.pop(pid, None)
        self._doomed.pop(pid, None)

    def signal_sent(self, sender: Pid, receiver: Pid, reason: ExitReason, linked: bool) -> None:
        if receiver in self._living and self._is_fatal(sender, receiver, reason, linked):
            self._doomed.setdefault(receiver, reason)

    def _is_fatal(self, sender: Pid, receiver: Pid, reason: ExitReason, linked: bool) -> bool:
        if reason is KILL and not linked:
            return True
        info = self.runtime.process_info(receiver)
        if info is None or info["trap_exits"]:
            return False
        return reason is not NORMAL or sender is receiver

    def message_received(self, pid: Pid, message: Any) -> None:
        if pid not in self._living or pid in self._doomed:
            self._report(pid, f"received {message!r}")

    def callback_started(self, pid: Pid, callback: str, message: Any) -> None:
        if pid not in self._living or pid in self._doomed:
            self._report(pid, f"began {callback} with {message!r}")

    def _report(self, pid: Pid, what: str) -> None:
        reason = self._doomed.get(pid)
        since = "its end" if reason is None else f"the fatal exit signal {reason!r}"
        self.violated(f"{self.who(pid)} {what} after {since}")
