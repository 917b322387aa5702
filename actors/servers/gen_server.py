"""Servers: processes that keep state and answer requests.

    class Counter(GenServer[int]):
        async def init(self, first: int) -> None:
            self.state = first

        async def handle_call(self, request, sender):
            self.state += 1
            return Reply(self.state)

    async with open_runtime():
        counter = await Counter.start_link(0)
        print(await call(counter, "next"))          # 1

The rules are OTP's gen_server's, with three deliberate differences: a result is a value of `actors.servers.results`
and not a tuple; an uncaught exception is a crash like any other (there is no throw that counts as a return); a second
answer to one call is dropped.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import lru_cache
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

import trio
from trio.lowlevel import current_task, enable_ki_protection, wait_task_rescheduled

from actors._kernel.current import require_process, require_runtime
from actors._kernel.runtime import acting_process, current_process
from actors._kernel.start import start
from actors.arguments import check_address, place_of
from actors.errors import (
    CallExit,
    CallingSelf,
    CallTimeout,
    InvalidCallback,
    NoProcess,
    NotStarted,
    ProcessKilled,
    ServerExit,
)
from actors.exits import NORMAL, ExitReason
from actors.refs import Pid, ProcessLike, RuntimeLike
from actors.servers._calls import (
    CallRequest,
    Cast,
    Ended,
    Sender,
    StopRequest,
    SystemRequest,
)
from actors.servers._debug import ServerStatus
from actors.servers._loop import Loop, serve
from actors.servers.results import Continue, Fail, Ignore, NoReply, Reply, Stop, Within

__all__ = ["GenServer", "Sender", "call", "cast", "reply", "stop", "system_call"]

S = TypeVar("S")


class GenServer(Generic[S]):
    """A server. Subclass it, override the callbacks that you need, and start it with `start_link`.

    Every start makes a new instance, in the new process, so whatever the instance holds dies with the process.
    `self.state` is the state in OTP's sense: if a callback fails, it is set back to what it was before the callback
    (by reference: changes inside a mutable state stay), and `terminate` and the crash report see that. Use other
    attributes for what should not be part of it.

    A callback may await whatever it likes; while it does, the server handles nothing else. It must not `receive`.
    """

    lives_in_process: ClassVar[bool] = True
    """Every instance belongs to one process and must not outlive it, so `spawn` refuses its methods."""

    # None until init sets it, so that a server without state need not.
    state: S = None  # type: ignore[assignment]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_server_class(cls)

    if not TYPE_CHECKING:
        # Hidden from type checkers, which know that a server without a constructor takes no arguments.

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            if args or kwargs:
                raise NotStarted(type(self).__name__, args, kwargs)
            super().__init__()

    # Callbacks

    async def init(
        self, *args: Any, **kwargs: Any
    ) -> Continue | Within | Ignore | Fail | Stop | None:
        """Set up the state. `start_link` returns when this has returned.

        Returns:
            None or `Continue(argument)` or `Within(seconds)`: run. `Ignore()`: do not run, StartIgnored at the
            starter. `Fail(reason)`: do not run, StartError at the starter. `Stop(reason)`: end with `reason`, which
            also reaches the starter over the link.
        """
        return None

    async def handle_call(self, request: Any, sender: Sender) -> Reply | NoReply | Stop:
        """Answer a `call`: `Reply(value)`, or `NoReply()` and later `reply(sender, value)`, or `Stop(...)`."""
        raise NotImplementedError(
            f"{type(self).__name__} was called with {request!r} but has no handle_call; add one, or use cast()"
        )

    async def handle_cast(self, message: Any) -> NoReply | Continue | Within | Stop | None:
        """Act on a `cast`. Not to have this and to be sent one is a mistake, and crashes the server."""
        raise NotImplementedError(
            f"{type(self).__name__} was cast {message!r} but has no handle_cast; add one, or use send() and handle_info"
        )

    async def handle_info(self, message: Any) -> NoReply | Continue | Within | Stop | None:
        """Act on anything else: what `send` brought, `Down`, `Exit` of a linked process, `Timeout`.

        Without an override, an event is executed and the message is forgotten: anybody may send anything.
        """
        runtime = require_runtime()
        runtime.telemetry.execute(
            ("actors", "server", "unhandled_info"),
            {},
            {"server": type(self).__name__, "message": message},
        )
        return None

    async def handle_continue(self, argument: Any) -> NoReply | Continue | Within | Stop | None:
        """Act on a `Continue(argument)`, before any message that is waiting."""
        raise NotImplementedError(
            f"{type(self).__name__} returned Continue({argument!r}) but has no handle_continue; add one"
        )

    async def terminate(self, reason: ExitReason) -> None:
        """Clean up; the last thing that the server does.

        Runs when a callback returned `Stop` or failed, when `stop` was used, and, only if the server traps exits,
        when its parent ended or told it to. A server that was started without a link is its own parent.

        It does *not* run when the server is killed, or does not trap exits and is hit by an exit signal, or when init
        failed: what must happen in every case belongs into `on_exit`, or into another process. If it raises, that is
        what the server ends with.
        """

    def format_status(self, status: ServerStatus) -> ServerStatus:
        """Change what `actors.sys.get_status` and crash reports show of this server, to keep secrets out of logs.

            def format_status(self, status):
                status.state = {**status.state, "password": "..."}
                return status

        If it raises, a marker is shown in place of everything that might be secret.
        """
        return status

    # Starting

    @classmethod
    async def start_link(
        cls,
        *args: Any,
        name: object = None,
        label: str | None = None,
        timeout: float = math.inf,
        **kwargs: Any,
    ) -> Pid:
        """Start the server, linked to the current process if there is one, and return its pid when init is done.

        Args:
            *args: for `init`.
            **kwargs: for `init`.
            name: registered before init runs.
            label: how messages about it call it; by default the class's name.
            timeout: seconds that init may take.

        Raises:
            AlreadyStarted: the name is taken, by the process in `pid`.
            StartIgnored: init returned `Ignore()`.
            StartError: init failed, ended or took too long; the process is gone. If it ended with anything but
                `NORMAL` or `Fail`, the link carries that to the caller, and kills it unless it traps exits.
        """
        check_constructor(cls)
        return await start(
            serve,
            (cls, args, kwargs),
            link=True,
            name=name,
            label=label or cls.__name__,
            timeout=timeout,
        )

    @classmethod
    async def start(
        cls,
        *args: Any,
        name: object = None,
        label: str | None = None,
        timeout: float = math.inf,
        **kwargs: Any,
    ) -> Pid:
        """Like `start_link`, without the link. The server is its own parent: an `Exit` from itself stops it."""
        check_constructor(cls)
        return await start(
            serve,
            (cls, args, kwargs),
            link=False,
            name=name,
            label=label or cls.__name__,
            timeout=timeout,
        )

    @classmethod
    def spawn_link(
        cls, *args: Any, name: object = None, label: str | None = None, **kwargs: Any
    ) -> Pid:
        """Start the server, linked to the current process, without waiting for its init.

        Init runs in the first step of the new process; if it fails, or does not want to run, that is the exit of a
        process that was started, and nothing else. For servers that are started by the thousand and whose init does
        nothing that can fail: it saves the starter a wait.
        """
        check_constructor(cls)
        starter = require_process("spawn_link")
        process = starter.runtime.spawn(
            serve,
            (cls, args, kwargs),
            link=True,
            name=name,
            label=label or cls.__name__,
            server=True,
        )
        return process.pid


async def call(server: object, request: Any, *, timeout: float = 5.0) -> Any:
    """Send a request to a server and wait for its answer.

        total = await call(counter, "total")

    Args:
        server: a pid or a name; a name is looked up once, now.
        request: what `handle_call` gets. It is not copied.
        timeout: seconds; `math.inf` waits as long as the server lives.

    Raises:
        NotAnAddress: `server` is a class, a coroutine or something else that is neither a pid nor a name.
        NoProcess: there is no such process.
        CallTimeout: no answer in time. The server is not told and may still carry the request out; a late answer is
            dropped and never reaches the mailbox.
        ServerExit: the server ended first; its reason is in `reason`.
        CallingSelf: the server is the calling process.
        WrongThread: the caller runs in another thread than the runtime.

    All but the first are CallExit. Works in any task of the runtime, under any cancel scope.
    """
    return await _request(CallRequest, server, request, timeout)


# Ctrl-C in the middle would leave a request behind whose answer wakes a task that does not wait.
@enable_ki_protection
async def _request(  # noqa: C901, PLR0912 - one exchange, spelled out for speed
    envelope: type[CallRequest | SystemRequest[Loop]], server: object, request: Any, timeout: float
) -> Any:
    # First of all: a limit that is no number must raise before the server can answer.
    limited = timeout < math.inf
    caller = current_process.get()
    if caller is not None and (caller.dying or caller.dead):
        caller = acting_process()
        if caller is not None:
            caller.check()
    target: ProcessLike | None
    if type(server) is Pid:
        server.runtime.require_thread("call")
        target = server.process
    else:
        target = require_runtime("call").resolve(server)
    if target is None or target is caller:
        await trio.lowlevel.checkpoint()
        raise _refusal(envelope, target, server, request, timeout)
    runtime = target.runtime
    sender = Sender(None if caller is None else caller.pid, target, current_task())
    # Only in debug builds. A helper task that waits does not keep its process from answering.
    chains = None if caller is None else caller.runtime.call_chains
    if chains is not None and caller is not None and caller.task is current_task():
        chains.enter(caller.pid, target.pid, request, timeout)
    else:
        chains = None
    message = envelope(request, sender)
    instruments = runtime.instruments
    timer = None
    runtime.graph.watch(target.pid, sender)
    try:
        for instrument in instruments:
            instrument.call_started(sender.pid, target.pid, sender, timeout)
        if not runtime.guarded or runtime.admit(target.pid, message):
            target.mailbox.put(message)
        if limited:
            timer = runtime.timers.at(trio.current_time() + timeout, sender.expire)
        await wait_task_rescheduled(sender.abort)
    except BaseException:
        # An instrument has raised. An answer, or the end of the server, must not wake a task that does not wait.
        if not sender.done:
            sender.abandon()
        raise
    finally:
        if timer is not None:
            runtime.timers.forget(timer)
        if chains is not None and caller is not None:
            chains.leave(caller.pid)
        for instrument in instruments:
            instrument.call_ended(sender, sender.outcome())
    if caller is not None and caller.dying:
        # Answered and killed in the same turn: the kill wins, as it would in a process that was still waiting.
        raise ProcessKilled(caller.reason)
    if sender.failure is None:
        return sender.value
    raise _call_exit(sender, server, request, timeout)


def _refusal(
    envelope: type[CallRequest | SystemRequest[Loop]],
    target: ProcessLike | None,
    server: object,
    request: Any,
    timeout: float,
) -> CallExit:
    if target is not None:
        return CallingSelf(server, request, timeout)
    if type(server) is not Pid:
        check_address(_verb(envelope, request), server, require_runtime().classes_named)
    return NoProcess(server, request, timeout)


def _call_exit(sender: Sender, server: object, request: Any, timeout: float) -> CallExit:
    # Forgotten: the server's crash knows the server's last request, so they would keep each other alive.
    failure, sender.failure = sender.failure, None
    if isinstance(failure, Ended):
        return ServerExit(failure.reason, server, request, timeout)
    return CallTimeout(server, request, timeout)


def cast(server: object, message: Any) -> None:
    """Send a message to a server's `handle_cast`, and do not wait. A dead or unknown server is no error.

        cast(counter, "reset")

    Works in other threads as `send` does.

    Raises:
        NotAnAddress: `server` is a class, a coroutine or something else that is neither a pid nor a name.
    """
    runtime: RuntimeLike
    target: ProcessLike | None
    if type(server) is Pid:
        runtime = server.runtime
        target = server.process
    else:
        runtime = here = require_runtime()
        target = None
        if get_ident() == here.thread:
            target = here.resolve(server)
            if target is None:
                check_address("cast", server, here.classes_named)
    if get_ident() != runtime.thread:
        runtime.from_threads.put(cast, server, message)
        return
    if target is None:
        runtime.dead_letter(server, message)
        return
    envelope, runtime = Cast(message), target.runtime
    if not runtime.guarded or runtime.admit(target.pid, envelope):
        target.mailbox.put(envelope)


def reply(sender: Sender, value: Any) -> bool:
    """Answer a call for which `handle_call` returned `NoReply()`. Any process may do it, in any thread.

    Returns:
        False if it had been answered before, or nobody waits any more: the value is dropped. In another thread than
        the runtime's, True says no more than that the answer is on its way.
    """
    runtime = sender.server.runtime
    if get_ident() == runtime.thread:
        return sender.answer(value)
    if sender.done:
        return False
    runtime.from_threads.put(sender.answer, value)
    return True


async def system_call(
    server: object, request: Callable[[Loop], Any], *, timeout: float = 5.0
) -> Any:
    """Have a server's own loop answer `request`; what `actors.sys` is made of."""
    return await _request(SystemRequest, server, request, timeout)


async def stop(server: object, reason: ExitReason = NORMAL, *, timeout: float = math.inf) -> None:
    """Ask a server to stop, and wait until it has ended with `reason`. Its `terminate` runs.

    Raises:
        NoProcess: there is no such process.
        CallTimeout: it has not ended in time; it goes on with what it does and may still stop.
        ServerExit: it ended, but with another reason.
    """
    try:
        await _request(SystemRequest, server, StopRequest(reason), timeout)
    except ServerExit as error:
        if error.reason != reason:
            raise ServerExit(error.reason, server, "stop", timeout) from None
    except CallTimeout:
        raise CallTimeout(server, "stop", timeout) from None
    except NoProcess:
        raise NoProcess(server, "stop", timeout) from None


def _verb(envelope: type[CallRequest | SystemRequest[Loop]], request: Any) -> str:
    if envelope is CallRequest:
        return "call"
    return "stop" if isinstance(request, StopRequest) else "actors.sys"


# With their arguments; those of init are the class's own.
_CALLBACKS: Final[dict[str, tuple[str, ...] | None]] = {
    "init": None,
    "handle_call": ("request", "sender"),
    "handle_cast": ("message",),
    "handle_info": ("message",),
    "handle_continue": ("argument",),
    "terminate": ("reason",),
}


def check_server_class(cls: type) -> None:
    """Refuse a class whose callbacks or constructor the server cannot call.

    Raises:
        InvalidCallback: the first of them.
    """
    for name, arguments in _CALLBACKS.items():
        callback = vars(cls).get(name)
        if callback is None:
            continue
        if not inspect.iscoroutinefunction(callback):
            raise InvalidCallback(cls.__name__, name)
        if arguments is not None and not _takes(callback, len(arguments)):
            raise InvalidCallback(cls.__name__, name, arguments)
    check_constructor(cls)


def check_constructor(cls: Any) -> None:
    """Refuse a class that cannot be made without arguments.

    Raises:
        InvalidCallback: its `__init__` needs some.
    """
    needed = _needed(cls.__init__)
    if needed is not None:
        raise InvalidCallback(
            cls.__name__,
            "__init__",
            advice=(
                f"takes ({needed}){place_of(cls.__init__)}, but a server makes its instance without arguments; "
                f"write `async def init(self, {needed})`, which gets the arguments of start_link"
            ),
        )


# Asked at every start, for few constructors.
@lru_cache(maxsize=256)
def _needed(constructor: Any) -> str | None:
    """The parameters of a constructor that cannot be called without arguments; None if it can."""
    signature = inspect.signature(constructor)
    try:
        signature.bind(None)  # self
    except TypeError:
        return ", ".join([str(each) for each in signature.parameters.values()][1:])
    return None


def _takes(callback: Any, count: int) -> bool:
    try:
        inspect.signature(callback).bind(*[None] * (count + 1))  # and self
    except TypeError:
        return False
    return True
