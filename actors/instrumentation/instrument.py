"""The interface through which observers, chaos and simulation attach to a runtime.

The runtime calls the methods of an `Instrument` for each event between processes, in order and without delay. The
methods are synchronous and must not block. If a method raises, the observed operation fails, so that a broken observer
is noticed. A runtime without instruments pays one attribute test for each operation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any

from actors._calls import CallRequest, Cast, SystemRequest
from actors.exits import ExitReason
from actors.refs import Address, Pid, Ref, TimerRef

__all__ = ["Instrument", "callback_for", "deliver", "overriding", "payload_of"]


class Instrument:
    """An observer of a runtime. Override the methods that you need; the others do nothing.

        class Spawns(Instrument):
            def process_spawned(self, pid, parent, label):
                print(pid, "from", parent)

        runtime.add_instrument(Spawns())

    The runtime calls the methods synchronously, so they must be quick and must not wait.
    """

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        """Handle a new process, which has not run yet.

        Args:
            pid: The new process.
            parent: The process that started it. If no process did, the pid of the runtime.
            label: The name of the process in messages: its registered name as `repr` shows it, else its label, else the
                name of its function.
        """

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        """Handle the end of a process. Its name is free. Linked and monitoring processes have not been notified yet.

        Args:
            pid: The process that has ended.
            reason: The reason of its end.
        """

    def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> bool | None:
        """Handle a message that is about to enter a mailbox.

        Args:
            sender: The sending process; None for a task that is not a process, and for a timer.
            receiver: The process whose mailbox gets the message.
            message: The message. Calls and casts come in an envelope; `payload_of` returns its content.

        Returns:
            False to drop the message. Any other result lets it pass. The other instruments still see a dropped message.
        """

    def message_received(self, pid: Pid, message: Any) -> None:
        """Handle a message that a process took out of its mailbox.

        Args:
            pid: The process.
            message: The message, in the same form as in `message_sent`.
        """

    def signal_sent(self, sender: Pid, receiver: Pid, reason: ExitReason, linked: bool) -> None:
        """Handle an exit signal that has reached its receiver, before the receiver's exit rules apply.

        Args:
            sender: The process that sent the signal, or the linked process that ended.
            receiver: The process that the signal has reached.
            reason: The reason in the signal.
            linked: True for a signal through a link. False for a signal of `actors.exit`, or of the runtime itself.
        """

    def linked(self, pid: Pid, other: Pid) -> None:
        """Handle a new link between two living processes. Linking twice causes two calls.

        Args:
            pid: The process that made the link. For a process that starts linked, the new process.
            other: The other process.
        """

    def unlinked(self, pid: Pid, other: Pid, flushed: bool) -> None:
        """Handle `unlink`.

        The runtime calls this even if there was no link. The end of a process removes its links without a call of
        `unlinked`.

        Args:
            pid: The process that called `unlink`.
            other: The other process.
            flushed: True if `unlink` also removed every `Exit` of `other` from the mailbox of `pid`.
        """

    def monitored(self, pid: Pid, ref: Ref, target: Pid | Address[Any] | None) -> None:
        """Handle a new monitor.

        Args:
            pid: The monitoring process.
            ref: The reference that the `Down` will carry.
            target: The monitored process; None for a name that no process has. A `RemoteAddress` if the process may run
                on another node, so that the `Down` may arrive at any time.
        """

    def demonitored(self, pid: Pid, ref: Ref, flushed: bool) -> None:
        """Handle the removal of a monitor, which may have fired already.

        Args:
            pid: The process that called `demonitor`.
            ref: The reference of the monitor.
            flushed: True if the call also removes the `Down` of this monitor from the mailbox, if there is one.
        """

    def down_sent(self, pid: Pid, ref: Ref) -> None:
        """Handle a `Down` that is about to enter the mailbox of the monitoring process.

        Args:
            pid: The monitoring process.
            ref: The reference of the monitor.
        """

    def call_started(self, caller: Pid | None, server: Pid, call: object, timeout: float) -> None:
        """Handle a request that is about to enter the mailbox of a living server.

        Args:
            caller: The calling process; None for a task that is not a process.
            server: The process that is called.
            call: An object that identifies this call until `call_ended`.
            timeout: The time limit in seconds.
        """

    def call_ended(self, call: object, how: str) -> None:
        """Handle the end of a call.

        Args:
            call: The object that `call_started` got for this call.
            how: `"answered"`, `"server_ended"`, `"timeout"` or `"cancelled"`.
        """

    def call_answered(self, call: object, value: Any) -> None:
        """Handle the first answer to a call, before the caller runs. The runtime drops later answers to this call.

        Args:
            call: The object that `call_started` got for this call.
            value: The answer.
        """

    def timer_started(self, timer: TimerRef, address: object, interval: float | None) -> None:
        """Handle a new timer of `send_after` or `send_every`.

        If `address` is a pid, the end of that process cancels the timer without a call of `timer_cancelled`.

        Args:
            timer: The timer.
            address: The pid or the name that will get the message.
            interval: The seconds between two messages of `send_every`; None for `send_after`.
        """

    def timer_fired(self, timer: TimerRef) -> None:
        """Handle a timer that is about to send its message. A timer of `send_every` already has its next deadline.

        Args:
            timer: The timer.
        """

    def timer_cancelled(self, timer: TimerRef) -> None:
        """Handle `cancel_timer`. The timer may already have fired.

        Args:
            timer: The timer.
        """

    def registered(self, pid: Pid, key: object, registry: object) -> None:
        """Handle a new name or a new key in a registry.

        If a process starts with a name, the runtime calls this before `process_spawned`. The end of a process removes
        its entries without a call of `unregistered`.

        Args:
            pid: The process that has the name or the key.
            key: The name or the key.
            registry: The registry; None for plain names.
        """

    def unregistered(self, pid: Pid, key: object, registry: object) -> None:
        """Handle the removal of a name, or of one of a process's entries for a key. The process is alive.

        Args:
            pid: The process that had the name or the entry.
            key: The name or the key.
            registry: The registry; None for plain names.
        """

    def registry_closed(self, registry: object) -> None:
        """Handle the end of a registry's owner. The registry has no entries any more.

        Args:
            registry: The registry.
        """

    def callback_started(self, pid: Pid, callback: str, message: Any) -> Awaitable[None] | None:
        """Handle a callback that is about to run. Only this method may delay the process.

            class Slow(Instrument):
                def callback_started(self, pid, callback, message):
                    return trio.sleep(1) if callback == "handle_call" else None

        An exception of this method has the same effect as an exception of the callback. If this method returns an
        awaitable, the process awaits it before the callback. If a fatal exit signal arrives during this wait, the
        callback does not run.

        Args:
            pid: The process whose callback it is.
            callback: For a server `"init"`, `"handle_call"`, `"handle_cast"`, `"handle_info"`, `"handle_continue"` or
                `"terminate"`. For any other process `"run"`, before its function, and `"receive"`, before `receive`
                returns a message. Supervisors and channels are servers.
            message: The argument of the callback: the request of a call, the message of a cast, the reason of a
                terminate. For init and run, the tuple of arguments.

        Returns:
            An awaitable to delay the callback, or None.
        """
        return None


def payload_of(message: Any) -> Any:
    """Return the user's part of a message that `message_sent` sees. Calls and casts come in an envelope."""
    kind = type(message)
    if kind is CallRequest:
        return message.request
    if kind is Cast:
        return message.message
    return message


def callback_for(message: Any) -> str | None:
    """Return the server callback that will get a message of `message_sent`; None for a system request."""
    kind = type(message)
    if kind is CallRequest:
        return "handle_call"
    if kind is Cast:
        return "handle_cast"
    return None if kind is SystemRequest else "handle_info"


def deliver(pid: Pid, message: Any) -> bool:
    """Put a message into a mailbox without asking the instruments, for example a message that one of them has refused.

    Returns:
        False if the process has ended. The message is then a dead letter.
    """
    process = pid.process
    if process is None:
        pid.runtime.dead_letter(pid, message)
        return False
    process.mailbox.put(message)
    return True


def overriding(instruments: Iterable[Instrument], method: str) -> tuple[Instrument, ...]:
    """Return the instruments that override a method. The runtime need not call the others for that event."""
    untouched = getattr(Instrument, method)
    # Compare the object and not its class, because an object may have a method of its own.
    return tuple(
        each
        for each in instruments
        if getattr(getattr(each, method), "__func__", None) is not untouched
    )
