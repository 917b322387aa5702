"""The exceptions of this package, by cause.

ActorsError
├── CallExit            the server of a call did not answer
│   ├── NoProcess       ... because it does not exist
│   ├── CallTimeout     ... in time
│   ├── ServerExit      ... because it ended first
│   ├── CallCancelled   ... because code in the asyncio loop of an asyncio_call cancelled it
│   ├── TooManyCalls    ... because the loop or the pool of the call has as many calls as it may have
│   └── CallingSelf     ... because it is the caller, or waits for the caller
├── StartError          a process could not be started
│   └── AlreadyStarted  ... because its name is taken
├── StartIgnored        the init of a process decided not to run
├── NameTaken           register() found the name in use
├── NoSuchName          send() got a name that no process has
├── DeadProcess         link() or register() got a process that has ended
├── NotAProcess         a function that needs a process was used outside one
├── RuntimeClosed       the runtime has ended, or there is none
├── WrongThread         a function was used in a thread that is not the runtime's
├── ThreadQueueFull     a thread sent more than the runtime could take
├── ProcessFailed       the process of an as_process or scoped_spawn block ended (in actors.adoption)
├── RegistryError       a registry refused an operation (in actors.registry.registry)
├── InvalidOperation    a function was called where, or when, it cannot work
├── InvalidArgument     a function got an argument with which it cannot work
├── InvalidOption       an option has an invalid value
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
from typing import Any, Final

import msgspec
import trio

from actors.declared import declared, fixed
from actors.exits import CALLING_SELF, NOPROC, TIMEOUT, Crash, ExitReason, Shutdown
from actors.refs import Address, Pid
from actors.text import brief

__all__ = [
    "ASYNCIO_ADVICE",
    "ActorsError",
    "AlreadyStarted",
    "CallCancelled",
    "CallExit",
    "CallTimeout",
    "CallingSelf",
    "DeadProcess",
    "InvalidArgument",
    "InvalidCallback",
    "InvalidOperation",
    "InvalidOption",
    "InvalidReturn",
    "NameInUse",
    "NameTaken",
    "NoProcess",
    "NoSuchName",
    "NotAProcess",
    "ProcessExit",
    "ProcessKilled",
    "Requested",
    "RuntimeClosed",
    "ServerExit",
    "StartError",
    "StartIgnored",
    "ThreadQueueFull",
    "TooManyCalls",
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


_LATE: Final = "the server may still carry it out"


class Requested(msgspec.Struct, frozen=True):
    """The request of a call that another function than `call` made, for the text of its errors.

    Attributes:
        text: The call as source code.
        absence: The problem if the server does not exist, and the correction.
        late: The state of the request after its timeout.
    """

    text: str
    absence: str
    late: str = _LATE


@declared()
class CallExit(ActorsError):
    """A `call` got no answer.

    Attributes:
        reason: The cause, as an exit reason.
        server: The address that was called.
        request: The request.
        timeout: The time limit of the call, in seconds.
        may_have_run: False if the server has certainly not begun to handle the request, so a caller may repeat it. True
            if the server may have begun.
    """

    # Without an annotation, so that `declared` makes no field of it.
    may_have_run = True

    reason: ExitReason
    server: object
    request: object
    timeout: float

    @property
    def called(self) -> str:
        """The call as source code."""
        if isinstance(self.request, Requested):
            return self.request.text
        return f"call({self.server!r}, {self.request!r})"

    def __str__(self) -> str:
        return f"{self.called} got no answer: {_in_words(self.reason)}"


@declared()
class NoProcess(CallExit):
    """The called server does not exist: the pid is dead, or no process has the name."""

    may_have_run = False
    reason: ExitReason = fixed(NOPROC)

    def __str__(self) -> str:
        if isinstance(self.server, Pid):
            return f"{self.called}: this process has ended"
        if isinstance(self.request, Requested):
            return f"{self.called}: {self.request.absence}"
        address = self.server if isinstance(self.server, Address) else Address
        return f"{self.called}: {address.absence}"


@declared()
class CallTimeout(CallExit, trio.TooSlowError):
    """The server did not answer in time. It still has the request and may still carry it out."""

    reason: ExitReason = fixed(TIMEOUT)

    def __str__(self) -> str:
        late = _LATE if not isinstance(self.request, Requested) else self.request.late
        return f"{self.called} got no answer within {self.timeout:g} s; {late}"


class ServerExit(CallExit):
    """The server ended before it answered. `reason` is its exit reason."""

    def __str__(self) -> str:
        return f"{self.called}: the server ended with {_in_words(self.reason)}"


@declared()
class CallingSelf(CallExit):
    """A process called itself, or processes call each other in a circle, so none of them could ever answer.

    Only debug builds find a circle of several processes. In other builds the first time limit that runs out ends it.

    Attributes:
        chain: The processes of the circle, in the order of their calls. The first process is also the last one. It is
            empty if the process called itself.
    """

    may_have_run = False
    reason: ExitReason = fixed(CALLING_SELF)
    chain: tuple[Pid, ...] = ()

    def __str__(self) -> str:
        if not self.chain:
            return (
                f"{self.called}: a process cannot call itself; "
                "call the method directly, or cast() to be served after the current message"
            )
        circle = " -> ".join(map(repr, self.chain))
        return (
            f"{self.called}: a circle of calls, {circle}, in which each waits for the next; "
            "let one of them cast(), or answer with NoReply() and reply() later"
        )


@declared()
class CallCancelled(CallExit):
    """Code in an asyncio loop cancelled the function of an `asyncio_call`, and not the caller.

    Attributes:
        reason: `"cancelled"`.
    """

    reason: ExitReason = fixed("cancelled")

    def __str__(self) -> str:
        return f"{self.called} was cancelled by code in the loop, and not by its caller"


@declared()
class TooManyCalls(CallExit):
    """The loop of an `asyncio_call`, or the pool of a `blocking_call`, has too many calls. Nothing has run.

    Attributes:
        reason: `"too_many_calls"`.
        limit: The `max_calls` of the loop or the pool.
    """

    may_have_run = False
    reason: ExitReason = fixed("too_many_calls")
    limit: int

    def __str__(self) -> str:
        return (
            f"{self.called} was refused, because {self.limit} calls have no result yet; limit the callers, or raise "
            "max_calls"
        )


@declared()
class StartError(ActorsError):
    """A process could not be started.

    Attributes:
        reason: The exit reason of the process, or the argument of `Fail` in its init.
    """

    reason: ExitReason

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


@declared("{advice}")
class NameTaken(ActorsError):
    """`register` got a name of another process, or a process that already has a name.

    Attributes:
        name: The name.
        pid: The process that has the name, or the process that already has another name.
        advice: The text.
    """

    name: object
    pid: Pid
    advice: str


@declared("no process is registered as {name!r}; start it first, or send to a pid")
class NoSuchName(ActorsError, LookupError):
    """A message was sent to a name that no process has.

    Attributes:
        name: The name.
    """

    name: object


@declared("{pid!r} is not alive")
class DeadProcess(ActorsError):
    """`link` or `register` got a process that has ended. A caller of `link` that traps exits gets an `Exit` instead.

    Attributes:
        pid: The process.
    """

    pid: Pid


@declared(
    "{verb} works only inside a process, and this task is not one; "
    "spawn() a process and use it there, or make this task one with `async with as_process():` "
    "(call, cast, send and wait_exit work anywhere in a runtime)"
)
class NotAProcess(ActorsError, RuntimeError):
    """A function that needs a process was used in a task that is not a process.

    Attributes:
        verb: The function.
    """

    verb: str


class RuntimeClosed(ActorsError, RuntimeError):
    """The runtime has ended, or this task belongs to no runtime."""


@declared(
    "{verb} was used in the thread {thread!r}, which does not run this runtime; send() a message to "
    "a process that does it, or, in a thread that Trio has started, write "
    "trio.from_thread.run_sync({verb}, ...), or trio.from_thread.run for an async function"
)
class WrongThread(ActorsError, RuntimeError):
    """A function was used in a thread that does not run the runtime. Nothing has changed.

    Attributes:
        verb: The name of the function.
        thread: The name of the thread that used it.
    """

    verb: str
    thread: str


@declared(
    "{limit} messages of other threads wait for the runtime, and it has taken none of them for {seconds:g} s; "
    "find the code that blocks its thread with open_runtime(watchdog=0.1)"
)
class ThreadQueueFull(ActorsError, RuntimeError):
    """A thread could not send a message, because too many messages of other threads were waiting.

    Attributes:
        limit: The number of messages that may wait, `open_runtime(max_thread_calls=)`.
        seconds: The time that the thread waited for room, in seconds.
    """

    limit: int
    seconds: float


@declared("{problem}")
class InvalidOperation(ActorsError, RuntimeError):
    """A function was called where, or when, it cannot work, such as `receive` in a helper task of a process.

    Attributes:
        verb: The function.
        problem: The place or the state in words, and the correction.
    """

    verb: str
    problem: str


@declared()
class InvalidArgument(ActorsError, TypeError, ValueError):
    """A function got an argument with which it cannot work, such as a class in place of a pid.

    Attributes:
        verb: The function that was called; None leaves it out of the text.
        value: The argument.
        problem: The argument in words, and the correction.
    """

    verb: str | None
    value: object
    problem: str

    def __str__(self) -> str:
        return self.problem if self.verb is None else f"{self.verb}() got {self.problem}"


class InvalidOption(ActorsError, ValueError):
    """An option has an invalid value.

    Attributes:
        owner: The function or the class that got the option.
        option: The name of the option.
        value: The value.
        expected: The allowed values in words.
    """

    # Not declared, because the repr of an error shows its `args`, and a value may contain a password.

    def __init__(self, owner: str, option: str, value: object, expected: str) -> None:
        # The URL of a server may contain a password.
        has_password = isinstance(value, str) and "://" in value and "@" in value
        shown = "a URL with a password" if has_password else brief(value)
        super().__init__(f"{owner} got {option}={shown}; write {expected}")
        self.owner = owner
        self.option = option
        self.value = value
        self.expected = expected

    def __reduce__(self) -> tuple[Any, ...]:
        # Python's own way calls the class with `args`, which have only the text.
        arguments = (self.owner, self.option, self.value, self.expected)
        return InvalidOption, arguments, vars(self)


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


@declared()
class InvalidCallback(ActorsError, TypeError):
    """A class declares a callback that the server cannot call. The definition of the class raises this error.

    Attributes:
        owner: The class.
        callback: The method.
        arguments: The arguments that the method must accept; None if the mistake is that the method is not async.
        advice: The mistake and its correction, for mistakes other than the arguments of a callback.
    """

    owner: str
    callback: str
    arguments: tuple[str, ...] | None = None
    advice: str | None = None

    def __str__(self) -> str:
        where = f"{self.owner}.{self.callback}"
        if self.advice is not None:
            return f"{where} {self.advice}"
        if self.arguments is None:
            return f"{where} is not async; write `async def {self.callback}(self, ...)`"
        taken = ", ".join(self.arguments)
        return f"{where} cannot be called with ({taken}); write `async def {self.callback}(self, {taken})`"


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
    "function (trio.sleep, trio.fail_after, trio.open_tcp_stream) or a library that works on Trio, or run the function "
    "in an asyncio loop with `await asyncio_call(function, ...)`, of actors.asyncio_loop. See "
    "docs/howto/use-blocking-and-asyncio-libraries.md"
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
    modules = _modules_of(error)
    if "actors.asyncio_loop" in modules:
        # It comes from an asyncio loop.
        return False
    if _is_about_asyncio(str(error)):
        return True
    # Example: AttributeError: 'NoneType' object has no attribute 'create_future', from a queue.
    return bool(modules) and modules[-1].partition(".")[0] == "asyncio"


def _modules_of(error: BaseException) -> list[str]:
    """Return the modules of the error's frames, innermost last. Without asyncio, no frame matters."""
    modules = []
    traceback = error.__traceback__ if "asyncio" in sys.modules else None
    while traceback is not None:
        modules.append(str(traceback.tb_frame.f_globals.get("__name__", "")))
        traceback = traceback.tb_next
    return modules
