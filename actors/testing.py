"""Test tools for actors: a finder of messages that were changed after they were sent, and a stand-in for threads.

    async with open_runtime() as runtime:
        with SharedMessages.watch(runtime):
            ...

Erlang copies messages, and Ashtree does not. So a sender must not change a message after sending it. `SharedMessages`
checks this in a test.

`replace_calls` carries out the calls of `asyncio_call` and `blocking_call` in a test without threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from enum import Enum
from types import FunctionType, ModuleType
from typing import Any

import trio
from attrs import frozen

from actors._calls import CallRequest, Cast, SystemRequest
from actors._thread_service import StandIn, stand_in
from actors.errors import ActorsError
from actors.exits import ExitReason
from actors.instrumentation.instrument import Instrument
from actors.refs import Pid, Ref
from actors.runtime import Runtime

__all__ = ["ChangedMessage", "MessageChanged", "SharedMessages", "replace_calls"]

_Picture = dict[str, str]

# The depth of the comparison. No sensible message is deeper.
_DEPTH = 12

# Values of these types are immutable, or shared on purpose.
_WHOLE = (
    *(str, bytes, int, float, complex, bool, type(None), type, range, Enum),
    *(Pid, Ref, Runtime, FunctionType, ModuleType, BaseException),
    *(trio.Event, trio.CancelScope, trio.Nursery),
)


@frozen(kw_only=True)
class ChangedMessage:
    """A message that changed between sending and receiving."""

    sender: str
    """The sender's label and pid; "no process" for a plain task."""
    receiver: str
    """The receiver's label and pid."""
    message: Any
    """The message as it was received."""
    changes: tuple[str, ...]
    """One text for each change, such as "message['count'] was 1, is 2"."""

    def __str__(self) -> str:
        changes = "; ".join(self.changes)
        return f"{self.receiver} received a message that was changed after {self.sender} had sent it: {changes}"


@contextmanager
def replace_calls(function: StandIn) -> Iterator[None]:
    """Let a function of the test carry out `asyncio_call` and `blocking_call`, in the task of the caller, on Trio.

        async def stand_in(function, *args):
            assert function is fetch_price
            await trio.sleep(0.1)                     # takes virtual time
            return 7

        with replace_calls(stand_in):
            await Supervisor.start_link([AsyncioLoop()])
            price = await asyncio_call(fetch_price, "ann")

    An `AsyncioLoop` or a `BlockingPool` whose process starts in the block has no thread. So it works in a simulation,
    where threads do not exist, and with a virtual clock, which does not wait for threads. Names, the limit `max_calls`,
    timeouts, cancellation and the end of the process work as with threads.

    Args:
        function: An async function. It gets the function of a call and its arguments, without the connection of a pool,
            and returns the result or raises. For blocking functions that are quick and need no connection, write
            `return function(*args)`.
    """
    token = stand_in.set(function)
    try:
        yield
    finally:
        stand_in.reset(token)


class MessageChanged(ActorsError, AssertionError):
    """Messages were changed between sending and receiving.

    Attributes:
        messages: A `ChangedMessage` for each changed message.
    """

    def __init__(self, messages: list[ChangedMessage]) -> None:
        super().__init__(messages)
        self.messages = tuple(messages)

    def __str__(self) -> str:
        lines = "\n".join(map(str, self.messages))
        return (
            f"{lines}\nSend a copy or an immutable value, or do not change the message afterwards."
        )


class SharedMessages(Instrument):
    """An instrument for tests that compares every received message with its content at the time of sending.

        shared = SharedMessages()
        runtime.add_instrument(shared)
        ...
        shared.check()

    It compares messages of `send` and `cast`, and requests of `call`. It compares lists, dicts, sets, deques and the
    attributes of other objects, to a depth of twelve. It ignores answers of calls, messages of the runtime itself,
    changes that were reverted, and changes after the receipt.

    Attributes:
        changed: The changed messages, in the order of their receipt.
    """

    def __init__(self) -> None:
        self.changed: list[ChangedMessage] = []
        # For each receiver, the pictures of the messages by their ids. The entries refer to the messages, so that the
        # ids stay unique. There is a list of pictures, because a process may send one object several times.
        self._sent: dict[Pid, dict[int, tuple[Any, list[tuple[str, _Picture]]]]] = {}

    @classmethod
    @contextmanager
    def watch(cls, runtime: Runtime) -> Iterator[SharedMessages]:
        """Watch a runtime while the body runs. At the end, raise MessageChanged if a message was changed.

        Args:
            runtime: The runtime whose messages to watch.

        Yields:
            The instrument that compares the messages.
        """
        shared = cls()
        remove = runtime.add_instrument(shared)
        try:
            yield shared
        finally:
            remove()
        shared.check()

    def check(self) -> None:
        """Raise MessageChanged if any message was changed so far."""
        if self.changed:
            raise MessageChanged(self.changed)

    def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> None:
        """Remember the content of a message."""
        picture = _picture(message)
        if len(picture) == 1 and type(_content(message)) in _WHOLE:
            return
        _, pictures = self._sent.setdefault(receiver, {}).setdefault(id(message), (message, []))
        pictures.append((_who(sender), picture))

    def message_received(self, pid: Pid, message: Any) -> None:
        """Compare a received message with its content at the time of sending."""
        waiting = self._sent.get(pid, {})
        _, pictures = waiting.get(id(message), (None, []))
        if not pictures:
            return
        sender, before = pictures.pop(0)
        if not pictures:
            del waiting[id(message)]
        changes = tuple(_differences(before, _picture(message)))
        if changes:
            self.changed.append(
                ChangedMessage(
                    sender=sender, receiver=_who(pid), message=_content(message), changes=changes
                )
            )

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        """Drop the pictures of messages that the ended process will never receive."""
        self._sent.pop(pid, None)


def _who(pid: Pid | None) -> str:
    if pid is None:
        return "no process"
    process = pid.process
    return repr(pid) if process is None else f"{process.describe()} {pid!r}"


def _content(message: Any) -> Any:
    """Return the user's part of a message, without its envelope."""
    kind = type(message)
    if kind is CallRequest or kind is SystemRequest:
        return message.request
    return message.message if kind is Cast else message


def _picture(message: Any) -> _Picture:
    picture: _Picture = {}
    _draw(picture, "message", _content(message), _DEPTH, ())
    return picture


def _draw(picture: _Picture, path: str, value: Any, depth: int, inside: tuple[int, ...]) -> None:
    if isinstance(value, _WHOLE):
        picture[path] = repr(value) if isinstance(value, _WHOLE[:10]) else f"{type(value).__name__}"
        return
    picture[path] = type(value).__name__
    if depth == 0 or id(value) in inside:
        return
    inside = (*inside, id(value))
    if isinstance(value, Mapping):
        for key, item in list(value.items()):
            _draw(picture, f"{path}[{key!r}]", item, depth - 1, inside)
    elif isinstance(value, list | tuple | deque):
        for index, item in enumerate(value):
            _draw(picture, f"{path}[{index}]", item, depth - 1, inside)
    elif isinstance(value, AbstractSet):
        picture[path] = f"{{{', '.join(sorted(map(repr, value)))}}}"
    elif isinstance(value, bytearray):
        picture[path] = repr(value)
    else:
        for name, item in _attributes(value):
            _draw(picture, f"{path}.{name}", item, depth - 1, inside)


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    yield from list(getattr(value, "__dict__", {}).items())
    for cls in type(value).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            # Skip slots with two leading underscores, which Python stores under other names.
            if not name.startswith("__") and hasattr(value, name):
                yield name, getattr(value, name)


def _differences(before: _Picture, after: _Picture) -> Iterator[str]:
    for path, was in before.items():
        if path not in after:
            yield f"{path} was {was}, is gone"
        elif after[path] != was:
            yield f"{path} was {was}, is {after[path]}"
    for path, value in after.items():
        if path not in before:
            yield f"{path} is new, {value}"
