"""The exceptions of this package, by cause.

ActorsError
├── CallExit            the server of a call did not answer
│   ├── NoProcess       ... because it does not exist
│   ├── CallTimeout     ... in time
│   ├── ServerExit      ... because it ended first
│   ├── CallingSelf     ... because it is the caller
│   └── CallCycle       ... because it waits for the caller
├── StartError          a process could not be started
│   └── AlreadyStarted  ... because its name is taken
├── StartIgnored        the init of a process decided not to run
├── NameTaken           register() found the name in use
├── NoSuchName          send() got a name that no process has
├── DeadProcess         link() or register() got a process that has ended
├── NotAProcess         a function that needs a process was used outside one
├── MailboxBusy         two tasks read one mailbox, or a callback reads its server's mailbox
├── UnlinkedMethod      spawn() would let a method outlive its server
├── RuntimeClosed       the runtime has ended, or there is none
├── WrongThread         a function was used in a thread that is not the runtime's
├── ThreadQueueFull     a thread sent more than the runtime could take
├── ProcessFailed       the process of an as_process or scoped_spawn block ended (in actors.adoption)
├── RegistryError       a registry refused an operation (in actors.registry.registry)
├── NotAnAddress        call(), send() or monitor() got a value that leads to no process
├── NotAsync            spawn() got a value that is not an async function
├── NotStarted          a server's class was called, which starts no process
├── InvalidReturn       a callback returned an invalid value
└── InvalidCallback     a callback is not async, or has the wrong parameters

ProcessExit and ProcessKilled are BaseExceptions: they unwind a process, and a careless `except Exception` must not
catch them. `NameInUse` is not an exception: it is the reason of an AlreadyStarted.

`add_advice` adds a note to exceptions of asyncio, whose own text does not say what to do in a process.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from types import CoroutineType
from typing import Final

import msgspec

from actors.exits import CALLING_SELF, NOPROC, TIMEOUT, Crash, ExitReason, Shutdown
from actors.refs import Address, Pid

__all__ = [
    "ASYNCIO_ADVICE",
    "ActorsError",
    "AlreadyStarted",
    "CallCycle",
    "CallExit",
    "CallTimeout",
    "CallingSelf",
    "DeadProcess",
    "InvalidCallback",
    "InvalidReturn",
    "MailboxBusy",
    "NameInUse",
    "NameTaken",
    "NoProcess",
    "NoSuchName",
    "NotAProcess",
    "NotAnAddress",
    "NotAsync",
    "NotStarted",
    "ProcessExit",
    "ProcessKilled",
    "RuntimeClosed",
    "ServerExit",
    "StartError",
    "StartIgnored",
    "ThreadQueueFull",
    "UnlinkedMethod",
    "WrongThread",
    "add_advice",
]


class ActorsError(Exception):
    """Base of this package's exceptions, except those that must pass through `except Exception`."""


def _in_words(reason: ExitReason) -> str:
    # The text of a crash's exception is clearer than its repr. So is the text of a failed supervisor's detail.
    if isinstance(reason, Shutdown) and not isinstance(reason.detail, str):
        return f"Shutdown({reason.detail})"
    return str(reason) if isinstance(reason, Crash | NameInUse) else repr(reason)


class CallExit(ActorsError):
    """A `call` got no answer.

    Attributes:
        reason: The cause, as an exit reason.
        server: The address that was called.
        request: The request.
        timeout: The time limit of the call, in seconds.
    """

    def __init__(self, reason: ExitReason, server: object, request: object, timeout: float) -> None:
        super().__init__(reason, server, request, timeout)
        self.reason = reason
        self.server = server
        self.request = request
        self.timeout = timeout

    def __str__(self) -> str:
        return f"call({self.server!r}, {self.request!r}) got no answer: {_in_words(self.reason)}"


class NoProcess(CallExit):
    """The called server does not exist: the pid is dead, or no process has the name."""

    def __init__(self, server: object, request: object, timeout: float) -> None:
        super().__init__(NOPROC, server, request, timeout)

    def __str__(self) -> str:
        called = f"call({self.server!r}, {self.request!r})"
        if isinstance(self.server, Pid):
            return f"{called}: this process has ended"
        address = self.server if isinstance(self.server, Address) else Address
        return f"{called}: {address.absence}"


class CallTimeout(CallExit):
    """The server did not answer in time. It still has the request and may still carry it out."""

    def __init__(self, server: object, request: object, timeout: float) -> None:
        super().__init__(TIMEOUT, server, request, timeout)

    def __str__(self) -> str:
        return (
            f"call({self.server!r}, {self.request!r}) got no answer within {self.timeout:g} s; "
            "the server may still carry it out"
        )


class ServerExit(CallExit):
    """The server ended before it answered. `reason` is its exit reason."""

    def __str__(self) -> str:
        return f"call({self.server!r}, {self.request!r}): the server ended with {_in_words(self.reason)}"


class CallingSelf(CallExit):
    """A process called itself, and would wait for its own answer for ever."""

    def __init__(self, server: object, request: object, timeout: float) -> None:
        super().__init__(CALLING_SELF, server, request, timeout)

    def __str__(self) -> str:
        return (
            f"call({self.server!r}, {self.request!r}): a process cannot call itself; "
            "call the method directly, or cast() to be served after the current message"
        )


class CallCycle(CallExit):
    """Processes call each other in a circle, so none of them could ever answer.

    Only debug builds raise this. In other builds the first time limit that runs out ends the circle.

    Attributes:
        chain: The processes of the circle, in the order of their calls. The first process is also the last one.
    """

    def __init__(
        self, chain: Sequence[Pid], server: object, request: object, timeout: float
    ) -> None:
        super().__init__(CALLING_SELF, server, request, timeout)
        self.chain = tuple(chain)

    def __str__(self) -> str:
        circle = " -> ".join(map(repr, self.chain))
        return (
            f"call({self.server!r}, {self.request!r}): a circle of calls, {circle}, in which each waits for the next; "
            "let one of them cast(), or answer with NoReply() and reply() later"
        )


class StartError(ActorsError):
    """A process could not be started.

    Attributes:
        reason: The exit reason of the process, or the argument of `Fail` in its init.
    """

    def __init__(self, reason: ExitReason) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the process did not start: {_in_words(self.reason)}"


class NameInUse(msgspec.Struct, frozen=True):
    """The reason of an AlreadyStarted: `pid` has the name. Erlang's `{already_started, Pid}`."""

    name: object
    pid: Pid

    def __str__(self) -> str:
        return f"the name {self.name!r} is in use by {self.pid!r}"


class AlreadyStarted(StartError):
    """A process has the name already, so no second process was started under it.

        try:
            pid = await Store.start_link(name="store")
        except AlreadyStarted as error:
            pid = error.pid

    Attributes:
        name: The name.
        pid: The process that has it.
        reason: A `NameInUse` with the pid.
    """

    def __init__(self, name: object, pid: Pid) -> None:
        super().__init__(NameInUse(name, pid))
        self.name = name
        self.pid = pid

    def __str__(self) -> str:
        return f"{self.name!r} is already started, as {self.pid!r}"


class StartIgnored(ActorsError):
    """The init of the process returned `Ignore()`. The process does not run, which is not a failure."""


class NameTaken(ActorsError):
    """`register` got a name of another process, or a process that already has a name.

    Attributes:
        name: The name.
        pid: The process that has the name, or the process that already has another name.
    """

    def __init__(self, name: object, pid: Pid, advice: str) -> None:
        super().__init__(name, pid, advice)
        self.name = name
        self.pid = pid

    def __str__(self) -> str:
        return str(self.args[2])


class NoSuchName(ActorsError, LookupError):
    """A message was sent to a name that no process has.

    Attributes:
        name: The name.
    """

    def __init__(self, name: object) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"no process is registered as {self.name!r}; start it first, or send to a pid"


class DeadProcess(ActorsError):
    """`link` or `register` got a process that has ended. A caller of `link` that traps exits gets an `Exit` instead.

    Attributes:
        pid: The process.
    """

    def __init__(self, pid: Pid) -> None:
        super().__init__(pid)
        self.pid = pid

    def __str__(self) -> str:
        return f"{self.pid!r} is not alive"


class NotAProcess(ActorsError, RuntimeError):
    """A function that needs a process was used in a task that is not a process.

    Attributes:
        verb: The function.
    """

    def __init__(self, verb: str) -> None:
        super().__init__(verb)
        self.verb = verb

    def __str__(self) -> str:
        return (
            f"{self.verb} works only inside a process, and this task is not one; "
            "spawn() a process and use it there, or make this task one with `async with as_process():` "
            "(call, cast, send and wait_exit work anywhere in a runtime)"
        )


class MailboxBusy(ActorsError, RuntimeError):
    """`receive` was called by code that may not read the mailbox.

    There are two causes:

    - A helper task called `receive`. Only the process's own task may read its mailbox.
    - A callback of a server called `receive` without a `match`. The server's loop reads the mailbox for all callbacks.

    Attributes:
        pid: The process.
        server: The description of the server; None in a helper task.
    """

    def __init__(self, pid: Pid, server: str | None = None) -> None:
        super().__init__(pid, server)
        self.pid = pid
        self.server = server

    def __str__(self) -> str:
        if self.server is not None:
            return (
                f"receive() in a callback of {self.server} {self.pid!r} would also take messages for the other "
                "callbacks; write `async def handle_info(self, message)` to act on messages, or receive(match) "
                "to wait for one of them"
            )
        return (
            f"only the task of {self.pid!r} itself may receive its messages; "
            "let the helper task send() its results to the process, or spawn() a process for it"
        )


class UnlinkedMethod(ActorsError, TypeError):
    """`spawn` got a method of a server or a channel, which would continue after the end of its process.

    Attributes:
        verb: `spawn` or `spawn_monitor`.
        method: The name of the method, with its class.
        place: The file and line of the method.
    """

    def __init__(self, verb: str, method: str, place: str) -> None:
        super().__init__(verb, method, place)
        self.verb = verb
        self.method = method
        self.place = place

    def __str__(self) -> str:
        owner, _, name = self.method.rpartition(".")
        return (
            f"{self.verb}(self.{name}) would keep {self.method} ({self.place}) running after its {owner} has ended; "
            f"write spawn_link(self.{name}), which ends with it, or send_every(current_pid(), message, seconds) and "
            "handle_info"
        )


class RuntimeClosed(ActorsError, RuntimeError):
    """The runtime has ended, or this task belongs to no runtime."""


class WrongThread(ActorsError, RuntimeError):
    """A function was used in a thread that does not run the runtime. Nothing has changed.

    Attributes:
        verb: The name of the function.
        thread: The name of the thread that used it.
    """

    def __init__(self, verb: str, thread: str) -> None:
        super().__init__(verb, thread)
        self.verb = verb
        self.thread = thread

    def __str__(self) -> str:
        return (
            f"{self.verb} was used in the thread {self.thread!r}, which does not run this runtime; send() a message to "
            "a process that does it, or, in a thread that Trio has started, write "
            f"trio.from_thread.run_sync({self.verb}, ...), or trio.from_thread.run for an async function"
        )


class ThreadQueueFull(ActorsError, RuntimeError):
    """A thread could not send a message, because too many messages of other threads were waiting.

    Attributes:
        limit: The number of messages that may wait, `open_runtime(max_thread_calls=)`.
        seconds: The time that the thread waited for room, in seconds.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        super().__init__(limit, seconds)
        self.limit = limit
        self.seconds = seconds

    def __str__(self) -> str:
        return (
            f"{self.limit} messages of other threads wait for the runtime, and it has taken none of them for "
            f"{self.seconds:g} s; find the code that blocks its thread with open_runtime(watchdog=0.1)"
        )


class NotAnAddress(ActorsError, TypeError):
    """A function that takes a pid or a name got another value, such as a class. The text names the correction.

    Attributes:
        verb: The function that was called; None leaves it out of the text.
        value: The value that it got as the address.
    """

    def __init__(self, verb: str | None, value: object, advice: str) -> None:
        super().__init__(verb, value, advice)
        self.verb = verb
        self.value = value

    def __str__(self) -> str:
        advice = str(self.args[2])
        return advice if self.verb is None else f"{self.verb}() got {advice}"


class NotAsync(ActorsError, TypeError):
    """A function that starts a process got a value that is not an async function. The text names the correction.

    Attributes:
        verb: The function that was called.
        value: The value that it got as the function.
    """

    def __init__(self, verb: str, value: object, advice: str) -> None:
        super().__init__(verb, value, advice)
        self.verb = verb
        self.value = value

    def __str__(self) -> str:
        return f"{self.verb}() got {self.args[2]}"


class InvalidReturn(ActorsError, TypeError):
    """A callback returned an invalid value. The server crashes with this error.

    Attributes:
        callback: The callback, with its class.
        got: The value that it returned.
        expected: The values that it may return.
        problem: The reason why an otherwise valid value is wrong here, and the correction; None for other values.
        place: The file and line of the callback, such as `vault.py:7`; None if they are unknown.
        forgot_await: True if the callback returned a coroutine without awaiting it.
    """

    def __init__(
        self,
        callback: str,
        got: object,
        expected: Sequence[str],
        problem: str | None = None,
        place: str | None = None,
    ) -> None:
        super().__init__(callback, got, tuple(expected), problem, place)
        self.place = place
        self.problem = problem
        self.callback = callback
        self.got = got
        self.expected = tuple(expected)
        self.forgot_await = isinstance(got, CoroutineType)
        if isinstance(got, CoroutineType):
            # This error replaces Python's warning about the coroutine.
            got.close()

    def __str__(self) -> str:
        who = self.callback if self.place is None else f"{self.callback} ({self.place})"
        if self.forgot_await:
            return f"{who} returned a coroutine that was not awaited; write `await` before the call"
        kind = type(self.got)
        if kind.__name__.endswith("Reply") and not kind.__module__.startswith("actors."):
            return (
                f"{who} returned a {kind.__name__} of {kind.__module__}, which is another class; "
                "write `from actors import Reply` to answer a call"
            )
        if self.problem is not None:
            return f"{who} returned {self.got!r} {self.problem}"
        return f"{who} returned {self.got!r}; it may return {', '.join(self.expected)}"


class InvalidCallback(ActorsError, TypeError):
    """A class declares a callback that the server cannot call. The definition of the class raises this error.

    Attributes:
        owner: The class.
        callback: The method.
        arguments: The arguments that the method must accept; None if the mistake is that the method is not async.
        advice: The mistake and its correction, for mistakes other than the arguments of a callback.
    """

    def __init__(
        self,
        owner: str,
        callback: str,
        arguments: tuple[str, ...] | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(owner, callback, arguments)
        self.owner = owner
        self.callback = callback
        self.arguments = arguments
        self.advice = advice

    def __str__(self) -> str:
        where = f"{self.owner}.{self.callback}"
        if self.advice is not None:
            return f"{where} {self.advice}"
        if self.arguments is None:
            return f"{where} is not async; write `async def {self.callback}(self, ...)`"
        taken = ", ".join(self.arguments)
        return f"{where} cannot be called with ({taken}); write `async def {self.callback}(self, {taken})`"


class NotStarted(ActorsError, TypeError):
    """A server's class was called with the arguments of `start_link`. That makes an instance and starts no process.

    Attributes:
        owner: The class.
        args_given: The positional arguments.
        kwargs_given: The keyword arguments.
    """

    def __init__(self, owner: str, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        super().__init__(owner, args, kwargs)
        self.owner = owner
        self.args_given = args
        self.kwargs_given = kwargs

    def __str__(self) -> str:
        given = [repr(each) for each in self.args_given]
        given += [f"{name}={value!r}" for name, value in self.kwargs_given.items()]
        call = f"({', '.join(given)})"
        return (
            f"{self.owner}{call} makes an instance and starts no process; "
            f"write `await {self.owner}.start_link{call}`"
        )


class ProcessExit(BaseException):
    """Raised by `exit` to end the current process with `reason`.

    This is a BaseException, so `except Exception` does not catch it. In the same way, Elixir's `rescue` does not catch
    an exit.

    Attributes:
        reason: The exit reason of the process.
    """

    def __init__(self, reason: ExitReason) -> None:
        super().__init__(reason)
        self.reason = reason


class ProcessKilled(BaseException):
    """Raised by functions of this package to unwind a process that has accepted a fatal exit signal."""


# Exceptions of asyncio

ASYNCIO_ADVICE: Final = (
    "This code needs the event loop of asyncio, but processes run on Trio, which has none. Use Trio's own "
    "function (trio.sleep, trio.fail_after, trio.open_tcp_stream) or a library that works on Trio, or run a blocking "
    "library with `await trio.to_thread.run_sync(function, ...)`. See docs/howto/use-blocking-and-asyncio-libraries.md"
)
"""The note that `add_advice` adds."""

# A tuple, because `isinstance` takes several times as long with a union, and this runs for each crash.
_TYPES_OF_ASYNCIO: Final = (RuntimeError, TypeError, AttributeError)
_is_about_asyncio: Final = re.compile(
    "no running event loop"
    "|no current event loop"
    "|should be used inside a task"
    "|library written for some other framework like asyncio"
).search


def add_advice(error: BaseException) -> None:
    """Add a note to an exception that an asyncio function raised because Trio runs the program.

    It adds the note at most once, and also looks into exception groups.
    """
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            add_advice(part)
    elif _needs_asyncio(error) and ASYNCIO_ADVICE not in getattr(error, "__notes__", ()):
        error.add_note(ASYNCIO_ADVICE)


def _needs_asyncio(error: BaseException) -> bool:
    if type(error).__name__ == "AsyncLibraryNotFoundError":  # of sniffio, which may be absent
        return True
    if not isinstance(error, _TYPES_OF_ASYNCIO):
        return False
    if _is_about_asyncio(str(error)):
        return True
    return "asyncio" in sys.modules and _raised_by_asyncio(error)


def _raised_by_asyncio(error: BaseException) -> bool:
    # Example: AttributeError: 'NoneType' object has no attribute 'create_future', from a queue.
    traceback = error.__traceback__
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    module = str(traceback.tb_frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] == "asyncio"
