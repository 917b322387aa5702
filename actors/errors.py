"""What can go wrong, sorted by who is to blame.

ActorsError
├── CallExit            the other side of a call did not answer
│   ├── NoProcess       ... because it does not exist
│   ├── CallTimeout     ... in time
│   ├── ServerExit      ... because it ended first
│   ├── CallingSelf     ... because it is the caller
│   └── CallCycle       ... because it waits for the caller
├── StartError          a process could not be started
│   └── AlreadyStarted  ... because its name is taken
├── StartIgnored        its init decided not to run
├── NameTaken           your register() found the name in use
├── NoSuchName          your send() named nobody
├── DeadProcess         your link() named a process that has ended
├── NotAProcess         you used a verb that needs a process outside one
├── MailboxBusy         two of your tasks read one mailbox, or a callback reads that of its server
├── UnlinkedMethod      your spawn() would let a method outlive the server it belongs to
├── RuntimeClosed       the runtime no longer takes new processes
├── WrongThread         you used a verb in a thread that is not the runtime's
├── ThreadQueueFull     your thread sent more than the runtime could take
├── ProcessFailed       the process of your as_process or scoped_spawn block ended (in actors.adoption)
├── RegistryError       a registry cannot do what you asked (in actors.registry.registry)
├── NotAnAddress        your call(), send() or monitor() got something that leads to no process
├── NotAsync            your spawn() got something that is no async function
├── NotStarted          you called a server's class, which starts nothing
├── InvalidReturn       your callback returned something that it may not
└── InvalidCallback     your callback is not async, or takes something else

ProcessExit, ProcessKilled are BaseExceptions: they unwind a process and a careless `except Exception` must not
catch them. `NameInUse` is no exception: it is the reason of an AlreadyStarted.
"""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING

from attrs import frozen

from actors.exits import CALLING_SELF, NOPROC, TIMEOUT, Crash, ExitReason, Shutdown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actors.refs import Pid

__all__ = [
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
]


class ActorsError(Exception):
    """Everything that this package raises on purpose and that an application may want to catch."""


def _told(reason: ExitReason) -> str:
    # A crash says more in the words of its exception, and a supervisor that did not boot in those of its child.
    if isinstance(reason, Shutdown) and not isinstance(reason.detail, str):
        return f"Shutdown({reason.detail})"
    return str(reason) if isinstance(reason, Crash | NameInUse) else repr(reason)


class CallExit(ActorsError):
    """A `call` got no answer. `reason` says why; `server`, `request` and `timeout` say of which call."""

    def __init__(self, reason: ExitReason, server: object, request: object, timeout: float) -> None:
        super().__init__(reason, server, request, timeout)
        self.reason = reason
        self.server = server
        self.request = request
        self.timeout = timeout

    def __str__(self) -> str:
        return f"call({self.server!r}, {self.request!r}) got no answer: {_told(self.reason)}"


class NoProcess(CallExit):
    """The server that was called does not exist: a dead pid, or a name that nobody has."""

    def __init__(self, server: object, request: object, timeout: float) -> None:
        super().__init__(NOPROC, server, request, timeout)

    def __str__(self) -> str:
        return f"call({self.server!r}, {self.request!r}): there is no such process"


class CallTimeout(CallExit):
    """The server did not answer in time. It still has the request and may still carry it out."""

    def __init__(self, server: object, request: object, timeout: float) -> None:
        super().__init__(TIMEOUT, server, request, timeout)

    def __str__(self) -> str:
        return (
            f"call({self.server!r}, {self.request!r}) was not answered within {self.timeout:g} s; "
            "the server may still carry it out"
        )


class ServerExit(CallExit):
    """The server ended before it answered; `reason` is its exit reason."""

    def __str__(self) -> str:
        # A crash says what it says; repr would put the exception's arguments in place of its sentence.
        reason = str(self.reason) if isinstance(self.reason, Crash) else repr(self.reason)
        return f"call({self.server!r}, {self.request!r}): the server ended with {reason}"


class CallingSelf(CallExit):
    """A process called itself, and would have waited for an answer that only it could give."""

    def __init__(self, server: object, request: object, timeout: float) -> None:
        super().__init__(CALLING_SELF, server, request, timeout)

    def __str__(self) -> str:
        return (
            f"call({self.server!r}, {self.request!r}): a process cannot call itself; "
            "call the method directly, or cast() to be served after the current message"
        )


class CallCycle(CallExit):
    """Processes call each other in a circle, and each waits for an answer that only its caller could allow.

    Found in debug builds; without them the first of the calls to run out of time ends it.
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
    """A process could not be started; `reason` is its exit reason, or what its init gave to `Fail`."""

    def __init__(self, reason: ExitReason) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the process did not start: {_told(self.reason)}"


@frozen
class NameInUse:
    """Why a process did not start: `pid` has its name. Erlang's `{already_started, Pid}`."""

    name: object
    pid: Pid

    def __str__(self) -> str:
        return f"the name {self.name!r} is in use by {self.pid!r}"


class AlreadyStarted(StartError):
    """The name is taken by `pid`, so no second process was started under it.

        try:
            pid = await Store.start_link(name="store")
        except AlreadyStarted as error:
            pid = error.pid

    Fields: `name`; `pid`, the process that has it; `reason`, a `NameInUse` of both.
    """

    def __init__(self, name: object, pid: Pid) -> None:
        super().__init__(NameInUse(name, pid))
        self.name = name
        self.pid = pid

    def __str__(self) -> str:
        return f"{self.name!r} is already started, as {self.pid!r}"


class StartIgnored(ActorsError):
    """The process's init returned `Ignore()`: it is not running, and that is not an error of its own."""


class NameTaken(ActorsError):
    """`register` was given a name that another process has, or a process that has a name already."""

    def __init__(self, name: object, pid: Pid, advice: str) -> None:
        super().__init__(name, pid, advice)
        self.name = name
        self.pid = pid

    def __str__(self) -> str:
        return str(self.args[2])


class NoSuchName(ActorsError, LookupError):
    """Nobody is registered under the name that a message was sent to."""

    def __init__(self, name: object) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"no process is registered as {self.name!r}; start it first, or send to a pid"


class DeadProcess(ActorsError):
    """`link` or `register` was given a process that has ended. A trapping caller of `link` gets an `Exit` instead."""

    def __init__(self, pid: Pid) -> None:
        super().__init__(pid)
        self.pid = pid

    def __str__(self) -> str:
        return f"{self.pid!r} is not alive"


class NotAProcess(ActorsError, RuntimeError):
    """A verb that needs a mailbox was used in a task that is not a process."""

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
    """`receive` was called where somebody else reads the mailbox.

    In a helper task of a process: only the process's own task reads it. Or without a match in a callback of a server:
    its loop reads it, for all callbacks. `server` is what that server is called, None for the first case.
    """

    def __init__(self, pid: Pid, server: str | None = None) -> None:
        super().__init__(pid, server)
        self.pid = pid
        self.server = server

    def __str__(self) -> str:
        if self.server is not None:
            return (
                f"receive() in a callback of {self.server} {self.pid!r} would take any message, those for the other "
                "callbacks too; write `async def handle_info(self, message)` to act on messages, or receive(match) "
                "to wait for one of them"
            )
        return (
            f"only the task of {self.pid!r} itself may receive its messages; "
            "let the helper task send() what it finds to the process, or spawn() a process for it"
        )


class UnlinkedMethod(ActorsError, TypeError):
    """`spawn` was given a method of a server or a channel, which would go on when that has ended.

    `verb` is `spawn` or `spawn_monitor`; `method` is the method's name, with its class.
    """

    def __init__(self, verb: str, method: str, place: str) -> None:
        super().__init__(verb, method, place)
        self.verb = verb
        self.method = method
        self.place = place

    def __str__(self) -> str:
        owner, _, name = self.method.rpartition(".")
        return (
            f"{self.verb}(self.{name}) would run {self.method} ({self.place}) on when its {owner} has ended; write "
            f"spawn_link(self.{name}), which ends with it, or send_every(current_pid(), message, seconds) and "
            "handle_info"
        )


class RuntimeClosed(ActorsError, RuntimeError):
    """The runtime is over, or there is none here."""


class WrongThread(ActorsError, RuntimeError):
    """A verb was used in a thread that does not run the runtime. Nothing has changed.

    Attributes:
        verb: what was used.
        thread: the name of the thread that used it.
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
    """A thread sent something while too much from other threads waited already. Nothing was sent.

    Attributes:
        limit: how much may wait, `open_runtime(max_thread_calls=)`.
        seconds: how long the thread waited for room.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        super().__init__(limit, seconds)
        self.limit = limit
        self.seconds = seconds

    def __str__(self) -> str:
        return (
            f"{self.limit} messages of other threads wait for the runtime, and it has taken none of them for "
            f"{self.seconds:g} s; find what blocks its thread with open_runtime(watchdog=0.1)"
        )


class NotAnAddress(ActorsError, TypeError):
    """A verb that takes a pid or a name got something else, such as a class. The text says what to write instead.

    Attributes:
        verb: the function that was called; None if it does not matter.
        value: what it got as the address.
    """

    def __init__(self, verb: str | None, value: object, advice: str) -> None:
        super().__init__(verb, value, advice)
        self.verb = verb
        self.value = value

    def __str__(self) -> str:
        advice = str(self.args[2])
        return advice if self.verb is None else f"{self.verb}() got {advice}"


class NotAsync(ActorsError, TypeError):
    """A verb that starts a process got something else than an async function. The text says what to write instead.

    Attributes:
        verb: the function that was called.
        value: what it got as the function.
    """

    def __init__(self, verb: str, value: object, advice: str) -> None:
        super().__init__(verb, value, advice)
        self.verb = verb
        self.value = value

    def __str__(self) -> str:
        return f"{self.verb}() got {self.args[2]}"


class InvalidReturn(ActorsError, TypeError):
    """A callback returned something that it may not; the server stops with this as its crash."""

    def __init__(self, callback: str, got: object, expected: Sequence[str]) -> None:
        super().__init__(callback, got, tuple(expected))
        self.callback = callback
        self.got = got
        self.expected = tuple(expected)
        self.forgot_await = isinstance(got, CoroutineType)
        if isinstance(got, CoroutineType):
            # It will never run, and this error says so better than the warning that it would give when it is thrown
            # away.
            got.close()

    def __str__(self) -> str:
        if self.forgot_await:
            return f"{self.callback} returned a coroutine that was not awaited; write `await` before the call"
        kind = type(self.got)
        if kind.__name__.endswith("Reply") and not kind.__module__.startswith("actors."):
            return (
                f"{self.callback} returned a {kind.__name__} of {kind.__module__}, which is another class; "
                "write `from actors import Reply` to answer a call"
            )
        return f"{self.callback} returned {self.got!r}; it may return {', '.join(self.expected)}"


class InvalidCallback(ActorsError, TypeError):
    """A class of yours declares a callback that cannot be called as one. Raised where the class is defined.

    Attributes:
        owner: the class.
        callback: its method.
        arguments: what it cannot be called with; None if it is not async.
        advice: what is wrong and what to write instead, where that is not about the arguments of a callback.
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
    """A server's class was called, with the arguments of `start_link`; that makes an instance and starts no process.

    Attributes:
        owner: the class.
        args_given: the positional arguments.
        kwargs_given: the keyword arguments.
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

    A BaseException, so that `except Exception` does not catch it: in Erlang, too, a rescue does not catch an exit.
    """

    def __init__(self, reason: ExitReason) -> None:
        super().__init__(reason)
        self.reason = reason


class ProcessKilled(BaseException):
    """Raised in a process that has accepted a fatal exit signal, where the runtime itself was being waited for."""
