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

Source: OTP's gen_server, with three deliberate differences. A callback returns a value of `actors.servers.results` and
not a tuple. An uncaught exception is a crash; OTP's `throw`, which counts as a return, does not exist. The runtime
drops a second answer to the same call.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import lru_cache
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

import msgspec
import trio
from trio.lowlevel import current_task, enable_ki_protection

from actors._calls import (
    CallRequest,
    Cast,
    Ended,
    Request,
    Sender,
    StopRequest,
    SystemRequest,
)
from actors._kernel.current import require_process, require_runtime
from actors._kernel.runtime import Process, acting_process, current_process
from actors._kernel.start import start
from actors.addresses import RemoteAddress
from actors.arguments import check_address, check_pid
from actors.errors import (
    CallExit,
    CallingSelf,
    CallTimeout,
    InvalidArgument,
    InvalidCallback,
    NoProcess,
    ProcessKilled,
    RuntimeClosed,
    ServerExit,
    ThreadQueueFull,
)
from actors.exits import NORMAL, ExitReason
from actors.places import place_of
from actors.refs import Address, Pid, ProcessLike, RuntimeLike
from actors.servers._loop import Loop, ServerStatus, serve
from actors.servers.results import Continue, Fail, Ignore, NoReply, Reply, Stop, Within
from actors.text import brief

__all__ = [
    "CallRequest",
    "Cast",
    "GenServer",
    "Request",
    "Sender",
    "call",
    "cast",
    "label_of",
    "move_to_back",
    "pending_call",
    "reply",
    "send_request",
    "stop",
    "system_call",
]

_CALL_REFUSED = ("actors", "call", "refused")

S = TypeVar("S")
T = TypeVar("T")


class GenServer(Generic[S]):
    """A server. Subclass it, override the callbacks that you need, and start it with `start_link`.

    Every start makes a new instance in the new process, so the instance's data ends with the process. `self.state` is
    the state in OTP's sense. If a callback fails, the server restores the `self.state` from before the callback, for
    `terminate` and the crash report. It restores only this reference. Changes inside a mutable state and changes of
    other attributes stay.

    A callback may await anything. While a callback waits, the server handles no other message. A callback must not call
    `receive` without a `match`.
    """

    lives_in_process: ClassVar[bool] = True
    """True, because every instance belongs to one process. So `spawn` refuses methods of the instance."""

    # The default is None, so that a server without state need not set it.
    state: S = None  # type: ignore[assignment]

    begins_at_once: ClassVar[bool] = False
    """True if a message to an idle server of this class need not wait for the server's own task.

    `handle_info_nowait` or `handle_call_nowait` then handle it in the task of the sender.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_server_class(cls)
        # A subclass that overrides only `handle_info` gets every message there.
        if _overrides_only(cls, "handle_info"):
            cls.handle_info_nowait = GenServer.handle_info_nowait  # type: ignore[method-assign]
        if _overrides_only(cls, "handle_call"):
            cls.handle_call_nowait = GenServer.handle_call_nowait  # type: ignore[method-assign]
        cls.begins_at_once = (
            cls.handle_info_nowait is not GenServer.handle_info_nowait
            or cls.handle_call_nowait is not GenServer.handle_call_nowait
        )

    if not TYPE_CHECKING:
        # Type checkers do not see this, so they report arguments in a call of the constructor.

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            if args or kwargs:
                raise _not_started(type(self), args, kwargs)
            super().__init__()

    # Callbacks

    async def init(
        self, *args: Any, **kwargs: Any
    ) -> Continue | Within | Ignore | Fail | Stop | None:
        """Set up the state. `start_link` returns after `init` has returned.

            class Counter(GenServer[int]):
                async def init(self, first: int) -> None:
                    self.state = first

            counter = await Counter.start_link(7)

        Args:
            *args: The positional arguments of the start.
            **kwargs: Its keyword arguments.

        Returns:
            With None, `Continue(argument)` or `Within(seconds)`, the server runs. With `Ignore()`, it ends, and the
            starter gets StartIgnored. With `Fail(reason)`, it ends, and the starter gets StartError. With
            `Stop(reason)`, it ends, and the link sends `reason` to the starter.
        """
        return None

    async def handle_call(self, request: Any, sender: Sender, /) -> Reply | NoReply | Stop:
        """Answer a `call`: `Reply(value)`, or `NoReply()` and later `reply(sender, value)`, or `Stop(...)`.

        Args:
            request: The request, as the caller passed it.
            sender: The caller. Keep it for `reply` if you return `NoReply()`.

        Returns:
            `Reply(value)` answers. `NoReply()` leaves the answer to `reply`. `Stop(...)` ends the server.
        """
        raise NotImplementedError(
            f"{type(self).__name__} received the call {request!r} but has no handle_call; add one, or use cast()"
        )

    async def handle_cast(self, message: Any, /) -> NoReply | Continue | Within | Stop | None:
        """Handle a `cast`. A server that does not override this method crashes when it gets a cast.

        Args:
            message: The message, as the sender passed it.

        Returns:
            With None or `NoReply()`, the server goes on. The other results have the same meaning as from `init`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} received the cast {message!r} but has no handle_cast; add one, "
            "or use send() and handle_info"
        )

    async def handle_info(self, message: Any, /) -> NoReply | Continue | Within | Stop | None:
        """Handle any other message: a message of `send`, a `Down`, an `Exit` of a linked process, or a `Timeout`.

        Without an override, the server emits an event and drops the message, because any process may send anything.

        Args:
            message: The message.

        Returns:
            As from `handle_cast`.
        """
        runtime = require_runtime()
        runtime.telemetry.execute(
            ("actors", "server", "unhandled_info"),
            {},
            {"server": type(self).__name__, "message": message},
        )
        return None

    def handle_info_nowait(self, message: Any, /) -> Any:
        """Begin to handle a message for `handle_info`, in the task of its sender if this server is idle.

        Only Ashtree's own servers override this method and `handle_call_nowait`. The server calls them for every
        message, whether the server was idle or the message has waited in the mailbox. `current_pid()` is the server in
        both cases.

        Args:
            message: The message.

        Returns:
            The result that `handle_info` would return, or a coroutine that returns it. The server awaits the coroutine
            in its own task, before it takes another message. By default the coroutine is `handle_info`.
        """
        return self.handle_info(message)

    def handle_call_nowait(self, request: Any, sender: Sender, /) -> Any:
        """Begin to handle a call for `handle_call`, as `handle_info_nowait` begins to handle a message."""
        return self.handle_call(request, sender)

    async def handle_continue(self, argument: Any, /) -> NoReply | Continue | Within | Stop | None:
        """Handle a `Continue(argument)`, before any waiting message.

        Args:
            argument: The argument of the `Continue`.

        Returns:
            As from `handle_cast`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} returned Continue({argument!r}) but has no handle_continue; add one"
        )

    async def terminate(self, reason: ExitReason, /) -> None:
        """Clean up. This is the last callback of the server.

        `terminate` runs after a callback returned `Stop` or failed, and after a call of `stop`. If the server traps
        exits, it also runs when the parent ended or told the server to stop. A server that a process started without a
        link is its own parent.

        `terminate` does *not* run when the server is killed, when an exit signal ends a server that does not trap
        exits, or when init failed. Treat it as best-effort clean-up. Put clean-up that must happen in `on_exit`, or in
        another process. If `terminate` raises, the exception becomes the server's exit reason.

        Args:
            reason: The exit reason of the server.
        """

    def format_status(self, status: ServerStatus) -> ServerStatus:
        """Change the status of this server in `actors.sys.get_status` and crash reports, to keep secrets out of logs.

            def format_status(self, status):
                status.state = {**status.state, "password": "..."}
                return status

        If this method raises, a marker replaces everything that might be secret.

        Args:
            status: The status. You may change it.

        Returns:
            The status to show.
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
        """Start the server, linked to the current process if there is one, and return its pid after init.

        Args:
            *args: The arguments of `init`.
            **kwargs: The keyword arguments of `init`.
            name: The process's name, registered before init runs.
            label: The process's description in messages; by default the class's name. If `name` is an address with a
                key, such as `registry.via(42)`, the key follows: `Auction 42`.
            timeout: The seconds that init may take.

        Raises:
            AlreadyStarted: Another process, `error.pid`, has the name.
            StartIgnored: Init returned `Ignore()`.
            StartError: Init failed, ended or took too long, and the process is gone. Unless the process ended with
                `NORMAL` or `Fail`, the link sends its exit reason to the caller. A caller that does not trap exits then
                ends too.
        """
        check_constructor(cls)
        label = label or label_of(cls.__name__, name)
        return await start(
            serve, (cls, args, kwargs), link=True, name=name, label=label, timeout=timeout
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
        """Start the server without a link, otherwise like `start_link`.

        If a process starts the server, the server is its own parent: an `Exit` from itself stops it.
        """
        check_constructor(cls)
        label = label or label_of(cls.__name__, name)
        return await start(
            serve, (cls, args, kwargs), link=False, name=name, label=label, timeout=timeout
        )

    @classmethod
    def spawn_link(
        cls, *args: Any, name: object = None, label: str | None = None, **kwargs: Any
    ) -> Pid:
        """Start the server, linked to the current process, without waiting for its init.

        Init runs in the first step of the new process. If init fails or returns `Ignore()`, the process ends, and the
        starter gets no error. Use this to start thousands of servers whose init cannot fail.

        Args:
            *args: The arguments of `init`.
            name: The server's name, registered before its first step.
            label: The server's description in messages.
            **kwargs: Keyword arguments of `init`.

        Returns:
            The pid, before init has run.

        Raises:
            AlreadyStarted: The name is taken. Nothing was started.
            NotAProcess: The caller is not a process.
        """
        check_constructor(cls)
        starter = require_process("spawn_link")
        process = starter.runtime.spawn(
            serve,
            (cls, args, kwargs),
            link=True,
            name=name,
            # Without the call for a server without a name, because a crowd of channels starts here.
            label=label or (cls.__name__ if name is None else label_of(cls.__name__, name)),
            server=True,
        )
        return process.pid


async def call(server: object, request: Any, *, timeout: float = 5.0) -> Any:
    """Send a request to a server and wait for its answer.

        total = await call(counter, "total")

    You may use `call` in any task of the runtime and under any cancel scope.

    Args:
        server: A pid or a name. `call` looks a name up once, immediately.
        request: The request that `handle_call` gets, without a copy.
        timeout: The time limit in seconds; `math.inf` waits as long as the server lives.

    Returns:
        The value of the server's reply, without a copy.

    Raises:
        InvalidArgument: `server` is a class, a coroutine or another value that is neither a pid nor a name.
        NoProcess: There is no such process.
        CallTimeout: The server did not answer in time. The server may still carry out the request. A late answer never
            reaches the mailbox; `statistics()["late_answers"]` counts it.
        ServerExit: The server ended before it answered. `reason` is its exit reason.
        CallingSelf: The server is the calling process.
        WrongThread: The caller does not run in the runtime's thread.

    All of these except InvalidArgument and WrongThread are subclasses of CallExit.
    """
    if type(server) is not Pid and isinstance(server, RemoteAddress):
        return await _remote_call(server, request, timeout)
    return await _request(CallRequest, server, request, timeout)


async def _remote_call(server: RemoteAddress, request: Any, timeout: float) -> Any:
    require_runtime("call")
    caller = current_process.get()
    if caller is not None and (caller.dying or caller.dead):
        caller = acting_process()
        if caller is not None:
            caller.check()
    answer = await server.call(request, timeout=timeout)
    if caller is not None:
        # If an answer and a kill arrive in the same turn, the kill has priority, as in a local call.
        caller.check()
    return answer


class PendingCall(msgspec.Struct, frozen=True):
    """A call whose answer a task waits for. `pending_call` returns it."""

    server: object
    """The address that was called."""
    request: Any
    """The request."""


def pending_call(task: trio.lowlevel.Task) -> PendingCall | None:
    """Return the call that a task waits for; None if it waits for something else, or does not wait."""
    waits_for = task.custom_sleep_data
    return waits_for if type(waits_for) is PendingCall else None


# Without this, Ctrl-C in the middle could leave a request whose answer wakes a task that no longer waits.
@enable_ki_protection
async def _request(  # noqa: C901, PLR0912 - one exchange, spelled out for speed
    envelope: type[CallRequest | SystemRequest[Loop]], server: object, request: Any, timeout: float
) -> Any:
    # A timeout that is not a number must raise here, before the server can answer.
    limited = timeout < math.inf
    caller = current_process.get()
    if caller is not None and (caller.dying or caller.dead):
        caller = acting_process()
        if caller is not None:
            caller.check()
    target = _target(server, caller)
    if target is None or target is caller:
        await trio.lowlevel.checkpoint()
        raise _refusal(envelope, target, server, request, timeout)
    runtime = target.runtime
    task = current_task()
    sender = Sender(None if caller is None else caller.pid, target, task)
    # Only debug builds have chains. Skip helper tasks, because their process can still answer while they wait.
    chains = None if caller is None else caller.runtime.call_chains
    if chains is not None and caller is not None and caller.task is task:
        chains.enter(caller.pid, target.pid, request, timeout)
    else:
        chains = None
    instruments = runtime.instruments
    timer = None
    try:
        sender.send(envelope(request, sender), timeout)
        if sender.done:
            # The server has answered at once. A cancelled caller gets no answer, as after any other wait.
            await trio.lowlevel.checkpoint()
        else:
            if limited:
                timer = runtime.timers.at(trio.current_time() + timeout, sender.expire)
            # Trio forgets this as soon as the task runs again.
            task.custom_sleep_data = PendingCall(server, request)
            await sender.wait()
    except BaseException:
        # An instrument raised. An answer, or the end of the server, must not wake a task that does not wait.
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
        # If an answer and a kill arrive in the same turn, the kill has priority, as in every other wait.
        raise ProcessKilled(caller.reason)
    if sender.answered:
        return sender.value
    failure = sender.take_failure()
    if isinstance(failure, Ended):
        raise ServerExit(failure.reason, server, request, timeout)
    raise CallTimeout(server, request, timeout)


def _target(server: object, caller: Process | None) -> ProcessLike | None:
    if type(server) is Pid:
        server.runtime.require_thread("call")
        return server.process
    if caller is None:
        runtime = require_runtime("call")
    else:
        runtime = caller.runtime
        if get_ident() != runtime.thread:
            runtime.require_thread("call")
    return None if isinstance(server, RemoteAddress) else runtime.resolve(server)


@enable_ki_protection
def send_request(server: object, request: Any) -> Request:
    """Send a request to a server as `call` does, and return without waiting for the answer.

        request = send_request(pool, StartDynamicChild(spec))
        answer = request.result() if request.done else await request.wait_result()

    A server that is idle may have answered already: see `GenServer.handle_call_nowait`. The answer has no time limit.

    Args:
        server: A pid or a name.
        request: The request.

    Raises:
        InvalidArgument, NoProcess, CallingSelf, WrongThread: As from `call`.
    """
    caller = current_process.get()
    if caller is not None and caller.dead:
        caller = acting_process()
    target = _target(server, caller)
    if target is None or target is caller:
        if isinstance(server, RemoteAddress):
            check_pid("send_request", server)
        raise _refusal(CallRequest, target, server, request, math.inf)
    sent = Request(None if caller is None else caller.pid, target, server, request)
    sent.send(CallRequest(request, sent), math.inf)
    return sent


def _overrides_only(cls: type, callback: str) -> bool:
    """Return True if a class, or a base that comes first, overrides a callback without its `_nowait` form."""
    for each in cls.__mro__:
        if f"{callback}_nowait" in vars(each):
            return False
        if callback in vars(each):
            return True
    return False


def _not_started(cls: type, args: tuple[object, ...], kwargs: dict[str, object]) -> InvalidArgument:
    given = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
    call = f"{cls.__name__}({', '.join(given)})"
    start = f"{cls.__name__}.start_link({', '.join(given)})"
    return InvalidArgument(
        None,
        args or kwargs,
        f"{call} makes an instance and starts no process; write `await {start}`",
    )


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
    runtime: RuntimeLike = server.runtime if type(server) is Pid else require_runtime()
    if envelope is CallRequest and runtime.telemetry.handlers(_CALL_REFUSED):
        caller = current_process.get()
        about = {"pid": None if caller is None else caller.pid, "address": server}
        runtime.telemetry.execute(_CALL_REFUSED, {}, {**about, "request": request})
    return NoProcess(server, request, timeout)


def move_to_back(match: Callable[[Any], bool]) -> None:
    """Move the waiting messages that `match` accepts behind all other messages of the current server.

        move_to_back(lambda message: type(message) is Request)   # first the messages that `init` has sent to itself

    Only Ashtree's own servers use it. Call it in a callback, while no `receive` of the same process is in progress: a
    `receive` remembers how many messages it has looked at, so it would miss messages that have moved.

    The messages that `match` accepts keep their order, and so do the others. So if `match` accepts either all messages
    of a sender or none, the messages of each sender still arrive in the order of sending. Later messages come last, as
    usual.

    Args:
        match: A predicate. It must not raise, send or wait.
    """
    require_process("move_to_back").mailbox.move_to_back(match)


def cast(server: object, message: Any) -> None:
    """Send a message to a server's `handle_cast`, without waiting. A dead or unknown server causes no error.

        cast(counter, "reset")

    Works in other threads as `send` does.

    Raises:
        InvalidArgument: `server` is a class, a coroutine or another value that is neither a pid nor a name.
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
            if isinstance(server, RemoteAddress):
                server.cast(message)
                return
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
    """Answer a call for which `handle_call` returned `NoReply()`. Works in any process and in any thread.

    Args:
        sender: The caller, as `handle_call` got it.
        value: The answer.

    Returns:
        False if the call already had an answer or has ended; the runtime then drops the value. If the caller has given
        up, the runtime also emits the event `("actors", "call", "late_answer")`. In a thread other than the runtime's,
        True only means that the answer is on its way. There, the runtime does not count a late answer if the
        runtime has ended or if its queue is full.

    Raises:
        ThreadQueueFull: The caller is in another thread, the call still waits, and the queue was full for 30 seconds.
    """
    runtime = sender.server.runtime
    if get_ident() == runtime.thread:
        return sender.answer(value)
    if sender.done:
        if sender.awaits_late_answer:
            # The runtime drops the answer, so the thread does not wait. The count alone is not worth an error.
            runtime.from_threads.put_nowait(sender.answer, value)
        return False
    try:
        runtime.from_threads.put(sender.answer, value)
    except (RuntimeClosed, ThreadQueueFull):
        # The call may have ended meanwhile. The answer is then late, and a late answer is not an error.
        if not sender.done:
            raise
        return False
    return True


async def system_call(
    server: object, request: Callable[[Loop], Any], *, timeout: float = 5.0
) -> Any:
    """Send a request that the server's loop answers without a callback. The functions of `actors.sys` use this."""
    return await _request(SystemRequest, server, request, timeout)


async def stop(server: object, reason: ExitReason = NORMAL, *, timeout: float = math.inf) -> None:
    """Stop a server, and wait until it has ended with `reason`. The server runs its `terminate`.

    Args:
        server: A pid or a name.
        reason: The exit reason of the server.
        timeout: The time limit in seconds; `math.inf` waits as long as the server lives.

    Raises:
        NoProcess: There is no such process.
        CallTimeout: The server has not ended in time. The server may still end later.
        ServerExit: The server ended with another reason.
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


# The callbacks and their arguments. None for init, because each class chooses its arguments.
_CALLBACKS: Final[dict[str, tuple[str, ...] | None]] = {
    "init": None,
    "handle_call": ("request", "sender"),
    "handle_cast": ("message",),
    "handle_info": ("message",),
    "handle_continue": ("argument",),
    "terminate": ("reason",),
}


def label_of(owner: str, name: object) -> str:
    """Return the default label of a server: its class, and the key of its address in a registry.

    Args:
        owner: The name of the class.
        name: The name of the process; None without one.
    """
    key = getattr(name, "key", None) if isinstance(name, Address) else None
    if key is None:
        return owner
    is_plain = isinstance(key, str) and key.isprintable() and len(key) <= 80
    return f"{owner} {key if is_plain else brief(key)}"


def check_server_class(cls: type) -> None:
    """Refuse a class whose callbacks or constructor the server cannot call.

    Raises:
        InvalidCallback: A callback is not async or takes other arguments, or `__init__` needs arguments.
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
    """Refuse a class that needs arguments to make an instance.

    Raises:
        InvalidCallback: The `__init__` of the class needs arguments.
    """
    needed = _needed(cls.__init__)
    if needed is not None:
        place = place_of(cls.__init__)
        where = "" if place is None else f" ({place})"
        raise InvalidCallback(
            cls.__name__,
            "__init__",
            advice=(
                f"takes ({needed}){where}, but a server makes its instance without arguments; "
                f"write `async def init(self, {needed})`, which gets the arguments of start_link"
            ),
        )


# A cache, because every start calls this, with few different constructors.
@lru_cache(maxsize=256)
def _needed(constructor: Any) -> str | None:
    """Return the parameters of a constructor that needs arguments; None if it needs none."""
    signature = inspect.signature(constructor)
    try:
        signature.bind(None)  # self
    except TypeError:
        return ", ".join([str(each) for each in signature.parameters.values()][1:])
    return None


def _takes(callback: Any, count: int) -> bool:
    code = getattr(callback, "__code__", None)
    if code is not None and code.co_argcount == count + 1 and not code.co_kwonlyargcount:
        # This is enough for most callbacks. `inspect.signature` would slow the import of each server class down.
        return True
    try:
        inspect.signature(callback).bind(*[None] * (count + 1))  # and self
    except TypeError:
        return False
    return True
