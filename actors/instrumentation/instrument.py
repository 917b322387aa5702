"""The seam at which observers, chaos and simulation attach to a runtime.

An `Instrument` is told of everything that happens between processes, in order, as it happens. The methods are called
synchronously and must not block; one that raises takes down the operation that it observes, so that a broken checker
cannot pass unnoticed. A runtime without instruments pays one attribute test for each operation.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from actors.exits import ExitReason
from actors.refs import Pid, Ref
from actors.servers._calls import CallRequest, Cast, SystemRequest

__all__ = ["Instrument", "callback_for", "deliver", "payload_of"]


class Instrument:
    """Override what you want to see; the rest does nothing.

    class Births(Instrument):
        def process_spawned(self, pid, parent, label):
            print(pid, "from", parent)

    runtime.add_instrument(Births())
    """

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        """A process was made; it has not run yet."""

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        """A process ended: its name is free, and its links and monitors are about to be told."""

    def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> bool | None:
        """A message is about to enter a mailbox. Return False to take it out of the world."""

    def message_received(self, pid: Pid, message: Any) -> None:
        """A process took a message out of its mailbox."""

    def signal_sent(self, sender: Pid, receiver: Pid, reason: ExitReason, linked: bool) -> None:
        """An exit signal reached its receiver, which has not judged it yet."""

    def monitored(self, pid: Pid, ref: Ref, target: Pid | None) -> None:
        """A process monitors another one; with None, a name that nobody has. `ref` is what its `Down` will carry."""

    def demonitored(self, pid: Pid, ref: Ref, flushed: bool) -> None:
        """A process took a monitor back, which may have fired already; with `flushed`, its `Down` message too."""

    def down_sent(self, pid: Pid, ref: Ref) -> None:
        """A `Down` message is about to enter the mailbox of the process that had monitored."""

    def call_started(self, caller: Pid | None, server: Pid, call: object, timeout: float) -> None:
        """A request is about to enter the mailbox of a living server; `call` stands for it until it ends.

        `caller` is None for a task that is no process; `timeout` is in seconds.
        """

    def call_ended(self, call: object, how: str) -> None:
        """A caller waits no more: `"answered"`, `"server_ended"`, `"timeout"`, or `"cancelled"` while it waited."""

    def registered(self, pid: Pid, key: object, registry: object) -> None:
        """A process was given a name, or a key in a registry; `registry` is None for plain names.

        A name that a process is started with is told of before its spawning. An entry vanishes with its process, of
        which nothing is told here.
        """

    def unregistered(self, pid: Pid, key: object, registry: object) -> None:
        """A living process lost a name, or one of the entries that it had for a key."""

    def registry_closed(self, registry: object) -> None:
        """A registry lost all of its entries, because its owner has ended."""

    def shown(self, pid: Pid, thing: Any) -> None:
        """A process shows something of its own: what, and what may be done with it, is between it and who looks."""

    def callback_started(self, pid: Pid, callback: str, message: Any) -> Awaitable[None] | None:
        """A callback of a process is about to run. The one method that may fail, or hold up, what it observes.

            class Slow(Instrument):
                def callback_started(self, pid, callback, message):
                    return trio.sleep(1) if callback == "handle_call" else None

        It is called inside of what guards the callback: what it raises is as if the callback had raised it, and what
        it returns is awaited, in the process, before the callback runs. A process that has accepted a fatal exit
        signal meanwhile does not run the callback.

        Args:
            pid: whose callback.
            callback: of a server `"init"`, `"handle_call"`, `"handle_cast"`, `"handle_info"`, `"handle_continue"` or
                `"terminate"`; of any other process `"run"`, before its function, and `"receive"`, when it has taken a
                message and has not got it yet. Supervisors and channels are servers.
            message: what the callback is called with: the request of a call, the message of a cast, the reason of a
                terminate; of init and run, a tuple of the arguments.
        """
        return None


def payload_of(message: Any) -> Any:
    """What somebody has sent, of a message as `message_sent` sees it: around calls and casts there is an envelope."""
    kind = type(message)
    if kind is CallRequest:
        return message.request
    if kind is Cast:
        return message.message
    return message


def callback_for(message: Any) -> str | None:
    """Which callback of a server a message is for, as `message_sent` sees it; None for what no callback ever gets."""
    kind = type(message)
    if kind is CallRequest:
        return "handle_call"
    if kind is Cast:
        return "handle_cast"
    return None if kind is SystemRequest else "handle_info"


def deliver(pid: Pid, message: Any) -> bool:
    """Put a message into a mailbox without asking any instrument: one that `message_sent` has refused, for example.

    Returns:
        False if the process has ended. The message is a dead letter then.
    """
    process = pid.process
    if process is None:
        pid.runtime.dead_letter(pid, message)
        return False
    process.mailbox.put(message)
    return True
