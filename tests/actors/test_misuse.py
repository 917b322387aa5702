"""Every misuse raises an error that names the correction: one test for each message."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import actors
from actors import (
    CallingSelf,
    Crash,
    GenServer,
    InvalidArgument,
    InvalidCallback,
    InvalidReturn,
    NoProcess,
    NoReply,
    NoSuchName,
    Reply,
    Sender,
    as_process,
    call,
    cast,
    current_pid,
    is_alive,
    kill,
    link,
    monitor,
    open_runtime,
    receive,
    register,
    scoped_spawn,
    send,
    send_after,
    send_every,
    send_exit,
    spawn,
    spawn_link,
    spawn_monitor,
    stop,
    unlink,
    wait_exit,
)
from actors.errors import ASYNCIO_ADVICE, add_advice


async def _crash_of(server: type[GenServer[Any]], message: object = "go") -> BaseException:
    async with open_runtime(log=False):
        pid = await server.start()
        cast(pid, message)
        reason = await wait_exit(pid)
    assert isinstance(reason, Crash)
    return reason.exception


async def test_a_server_that_calls_itself_gets_advice_to_call_the_method_or_to_cast() -> None:
    class Narcissus(GenServer[None]):
        async def handle_cast(self, message: Any) -> None:
            await call(current_pid(), "mirror")

    error = await _crash_of(Narcissus)
    assert isinstance(error, CallingSelf)
    assert "call the method directly, or cast()" in str(error)


async def test_an_invalid_result_raises_an_error_with_the_valid_ones() -> None:
    class Tuples(GenServer[None]):
        async def handle_cast(self, message: Any) -> Any:
            return ("noreply", self.state)

    error = await _crash_of(Tuples)
    assert isinstance(error, InvalidReturn)
    assert error.place is not None
    assert str(error) == (
        f"Tuples.handle_cast ({error.place}) returned ('noreply', None); it may return None, NoReply(), "
        "Continue(argument), Within(seconds), Stop(reason)"
    )


async def test_a_call_answered_without_a_result_type_raises_an_error() -> None:
    class Plain(GenServer[None]):
        async def handle_call(self, request: Any, sender: Sender) -> Any:
            return "the answer"

    async with open_runtime(log=False):
        pid = await Plain.start()
        with pytest.raises(Exception, match=r"may return Reply\(value\), NoReply\(\), Stop"):
            await call(pid, "question")


async def test_a_forgotten_await_in_a_callback_raises_an_error_with_its_place() -> None:
    class Forgetful(GenServer[None]):
        async def handle_cast(self, message: Any) -> Any:
            return call("somebody", message)

    error = await _crash_of(Forgetful)
    assert isinstance(error, InvalidReturn)
    assert str(error) == (
        f"Forgetful.handle_cast ({error.place}) returned a coroutine that was not awaited; "
        "write `await` before the call"
    )


@pytest.mark.parametrize(
    "name", ["init", "handle_call", "handle_cast", "handle_info", "handle_continue", "terminate"]
)
def test_a_callback_that_is_not_async_is_refused_where_the_class_is_defined(name: str) -> None:
    def callback(self: object, *args: object) -> NoReply:
        return NoReply()

    with pytest.raises(InvalidCallback) as caught:
        type("Sync", (GenServer,), {name: callback})
    assert str(caught.value) == f"Sync.{name} is not async; write `async def {name}(self, ...)`"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("handle_call", "request, sender"),
        ("handle_cast", "message"),
        ("handle_info", "message"),
        ("handle_continue", "argument"),
        ("terminate", "reason"),
    ],
)
def test_a_callback_with_other_parameters_is_refused_where_the_class_is_defined(
    name: str, arguments: str
) -> None:
    async def takes_nothing(self: object) -> NoReply:
        return NoReply()

    async def takes_anything(*args: object) -> NoReply:
        return NoReply()

    type("Fine", (GenServer,), {name: takes_anything})
    with pytest.raises(InvalidCallback) as caught:
        type("Wrong", (GenServer,), {name: takes_nothing})
    assert str(caught.value) == (
        f"Wrong.{name} cannot be called with ({arguments}); write `async def {name}(self, {arguments})`"
    )


async def test_a_cast_to_a_server_without_handle_cast_names_the_method_to_add() -> None:
    class Deaf(GenServer[None]):
        async def handle_call(self, request: Any, sender: Sender) -> Reply:
            return Reply()

    error = await _crash_of(Deaf)
    assert "has no handle_cast; add one, or use send() and handle_info" in str(error)


async def test_a_call_to_a_server_without_handle_call_names_the_method_to_add() -> None:
    class Deaf(GenServer[None]):
        pass

    async with open_runtime(log=False):
        pid = await Deaf.start()
        with pytest.raises(Exception, match="has no handle_call; add one, or use cast"):
            await call(pid, "question")


async def test_receive_outside_a_process_advises_to_spawn_one() -> None:
    async with open_runtime():
        with pytest.raises(RuntimeError, match=r"works only inside a process.*as_process\(\):"):
            await receive()


async def test_receive_in_a_helper_task_advises_to_send_instead() -> None:
    caught: list[str] = []

    async def process() -> None:
        async def helper() -> None:
            try:
                await receive()
            except RuntimeError as error:
                caught.append(str(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(helper)

    async with open_runtime():
        await wait_exit(spawn(process))
    (message,) = caught
    assert "only the task of <pid 1> itself may receive its messages" in message


async def test_a_message_to_an_unknown_name_advises_to_start_it_first() -> None:
    async with open_runtime():
        with pytest.raises(LookupError, match="no process is registered as 'nobody'; start it"):
            send("nobody", "hello")


def test_a_verb_without_a_runtime_advises_to_open_one() -> None:
    async def nothing() -> None:
        raise AssertionError("not reached")

    with pytest.raises(RuntimeError, match="async with open_runtime"):
        spawn(nothing)


# The function of a process


def _sync() -> None:
    raise AssertionError("not reached")


async def _work() -> None:
    raise AssertionError("not reached")


async def _generates() -> Any:
    yield 1


class _Counter(GenServer[int]):
    async def handle_cast(self, message: Any) -> None:
        raise AssertionError("not reached")


class _Plain:
    pass


_HERE = __file__


def _line(function: Any) -> int:
    return int(function.__code__.co_firstlineno)


NOT_ASYNC = [
    (
        lambda: _sync,
        (
            f"_sync ({_HERE}:{_line(_sync)}), which is not async; write `async def _sync(...)`, or "
            "spawn(run_in_thread, _sync, ...) if it blocks or computes for long"
        ),
    ),
    (
        lambda: functools.partial(_sync),
        (
            f"_sync ({_HERE}:{_line(_sync)}), which is not async; write `async def _sync(...)`, or "
            "spawn(run_in_thread, _sync, ...) if it blocks or computes for long"
        ),
    ),
    (
        lambda: _work(),  # noqa: PLW0108 # to be told from the function itself
        (
            f"the coroutine of _work ({_HERE}:{_line(_work)}), which was not awaited; pass the function itself, and "
            "its arguments after it: {verb}(_work, ...)"
        ),
    ),
    (
        lambda: _Counter,
        "the class _Counter; a server is started with `await _Counter.start_link(...)`",
    ),
    (
        lambda: _Plain,
        "the class _Plain; write {verb}(function, ...) with an async function, or with an async method of an instance",
    ),
    (
        lambda: _generates,
        (
            f"_generates ({_HERE}:{_line(_generates)}), which is an async generator; a process runs an async function "
            "without `yield`"
        ),
    ),
    (
        lambda: None,
        "None, which is not a function; write {verb}(function, ...) with an async function",
    ),
]


@pytest.mark.parametrize("verb", [spawn, spawn_link, spawn_monitor], ids=lambda verb: verb.__name__)
@pytest.mark.parametrize(("make", "said"), NOT_ASYNC)
async def test_spawn_refuses_a_value_that_is_not_an_async_function(
    verb: Callable[..., object], make: Callable[[], Any], said: str
) -> None:
    function = make()
    async with open_runtime() as runtime, as_process():
        with pytest.raises(InvalidArgument) as caught:
            verb(function)
        assert runtime.statistics()["spawned"] == 1
    assert str(caught.value) == f"{verb.__name__}() got " + said.format(verb=verb.__name__)
    assert (caught.value.verb, caught.value.value) == (verb.__name__, function)


async def test_scoped_spawn_refuses_a_value_that_is_not_an_async_function() -> None:
    async with open_runtime():
        with pytest.raises(InvalidArgument, match=r"scoped_spawn\(\) got _sync"):
            async with scoped_spawn(_sync):  # type: ignore[arg-type]
                raise AssertionError("not reached")


async def test_spawn_accepts_a_callable_that_may_return_an_awaitable() -> None:
    ran: list[str] = []

    async def work(name: str) -> None:
        ran.append(name)

    @functools.wraps(work)
    def decorated(name: str) -> Any:
        return work(name)

    def annotated(name: str) -> Awaitable[None]:
        return work(name)

    class Caller:
        def __call__(self, name: str) -> Awaitable[None]:
            return work(name)

        async def method(self, name: str) -> None:
            ran.append(name)

    functions: list[Callable[[str], Awaitable[None]]] = [
        work,
        decorated,
        annotated,
        Caller(),
        Caller().method,
        functools.partial(work),
        lambda name: work(f"{name}"),
    ]
    async with open_runtime():
        for number, function in enumerate(functions):
            await wait_exit(spawn(function, str(number)))
    assert ran == [str(number) for number in range(len(functions))]


async def test_a_crash_names_a_function_that_returned_no_awaitable() -> None:
    async with open_runtime(log=False):
        reason = await wait_exit(spawn(lambda: 7))  # type: ignore[arg-type, return-value]
    assert isinstance(reason, Crash)
    assert isinstance(reason.exception, InvalidArgument)
    assert f"<lambda> ({_HERE}:" in str(reason.exception)
    assert "which returned 7, a value that cannot be awaited" in str(reason.exception)


# Addresses

ADDRESSES = [
    (
        lambda: _Counter,
        (
            "the class _Counter, which is not the name of a process; use the pid that "
            "`await _Counter.start_link(...)` returns, or the process's name"
        ),
    ),
    (
        lambda: _Plain,
        (
            "the class _Plain, which is not a process; write a pid, which spawn() and start_link() return, or a "
            "registered name"
        ),
    ),
    (
        lambda: _Counter(),  # noqa: PLW0108 # to be told from the class
        (
            "an instance of _Counter, which is not a process: a server makes its own instance when it starts; use the "
            "pid that `await _Counter.start_link(...)` returns"
        ),
    ),
    (
        lambda: _Counter.start_link(),  # noqa: PLW0108 # to be told from the method
        (
            "the coroutine of _Counter.start_link, which was not awaited; write `pid = await _Counter.start_link(...)` "
            "and use the pid"
        ),
    ),
    (
        lambda: _work,
        (
            f"the function _work ({_HERE}:{_line(_work)}), which is not a process; write a pid, which spawn() and "
            "start_link() return, or a registered name"
        ),
    ),
]

VERBS: list[tuple[str, Callable[[Any], Any]]] = [
    ("call", lambda address: call(address, "question")),
    ("stop", stop),
    ("cast", lambda address: cast(address, "news")),
    ("send", lambda address: send(address, "news")),
    ("send_after", lambda address: send_after(address, "news", 1)),
    ("send_every", lambda address: send_every(address, "news", 1)),
    ("monitor", monitor),
    ("link", link),
    ("unlink", unlink),
    ("send_exit", lambda address: send_exit(address, "end")),
    ("kill", kill),
    ("wait_exit", wait_exit),
    ("is_alive", is_alive),
    ("register", lambda address: register("name", address)),
]


@pytest.mark.parametrize(("verb", "use"), VERBS, ids=[verb for verb, _ in VERBS])
@pytest.mark.parametrize(("make", "said"), ADDRESSES)
async def test_a_value_that_is_not_an_address_is_refused_where_it_is_used(
    verb: str, use: Callable[[Any], Any], make: Callable[[], Any], said: str
) -> None:
    async with open_runtime(), as_process():
        value = make()
        with pytest.raises(InvalidArgument) as caught:
            result = use(value)
            if inspect.isawaitable(result):
                await result
    assert str(caught.value) == f"{verb}() got {said}"
    assert caught.value.value is value


@pytest.mark.parametrize("verb", [link, unlink, kill, wait_exit, is_alive])
async def test_a_name_in_place_of_a_pid_advises_whereis(verb: Callable[..., Any]) -> None:
    async with open_runtime(), as_process():
        with pytest.raises(
            InvalidArgument, match=r"got 'counter', which is not a pid; whereis\(name\) returns"
        ):
            result = verb("counter")
            if inspect.isawaitable(result):
                await result


async def test_an_invalid_name_raises_an_error() -> None:
    async with open_runtime():
        with pytest.raises(
            InvalidArgument, match=r"\[1\] is not hashable, so it cannot be a name; write a pid"
        ):
            send([1], "news")


async def test_a_class_that_has_been_a_name_is_a_name_like_any_other() -> None:
    async with open_runtime(log=False), as_process():
        pid = await _Counter.start(name=_Counter)
        await stop(_Counter)
        assert not is_alive(pid)
        # As during a restart by a supervisor.
        cast(_Counter, "news")
        monitor(_Counter)
        with pytest.raises(NoProcess):
            await call(_Counter, "question")
        with pytest.raises(NoSuchName):
            send(_Counter, "news")


# Servers


def test_a_constructor_with_arguments_is_refused_where_the_class_is_defined() -> None:
    def constructor(self: object, first: int, step: int = 1) -> None:
        raise AssertionError("not reached")

    with pytest.raises(InvalidCallback) as caught:
        type("Counter", (GenServer,), {"__init__": constructor})
    assert str(caught.value) == (
        f"Counter.__init__ takes (first: 'int', step: 'int' = 1) ({_HERE}:{_line(constructor)}), but a server makes "
        "its instance without arguments; write `async def init(self, first: 'int', step: 'int' = 1)`, which gets the "
        "arguments of start_link"
    )


async def test_a_constructor_from_a_decorator_is_refused_where_the_server_is_started() -> None:
    @attrs.define(slots=False)
    class Counter(GenServer[int]):
        first: int

    async with open_runtime(log=False):
        for start in (Counter.start, Counter.start_link):
            with pytest.raises(InvalidCallback, match="write `async def init"):
                await start(1)


async def test_a_constructor_without_arguments_is_allowed() -> None:
    class Mixin:
        def __init__(self) -> None:
            self.mixed = True

    class Counter(GenServer[int], Mixin):
        def __init__(self, step: int = 1) -> None:
            super().__init__()
            self.step = step

        async def handle_call(self, request: Any, sender: Sender) -> Reply:
            return Reply((self.step, self.mixed))

    assert Counter(2).step == 2
    async with open_runtime():
        assert await call(await Counter.start(), "both") == (1, True)


def test_calling_a_server_class_advises_to_start_it() -> None:
    counter: Any = _Counter
    with pytest.raises(InvalidArgument) as caught:
        counter(1, name="count")
    assert str(caught.value) == (
        "_Counter(1, name='count') makes an instance and starts no process; "
        "write `await _Counter.start_link(1, name='count')`"
    )


async def test_a_debug_build_names_the_line_of_a_start_that_was_not_awaited() -> None:
    async with open_runtime(debug=True):
        pid = _Counter.start_link()
        line = sys._getframe().f_lineno - 1
        with pytest.warns(RuntimeWarning) as caught:
            del pid
    assert sys.get_coroutine_origin_tracking_depth() == 0
    (warning,) = caught
    assert "coroutine 'GenServer.start_link' was never awaited" in str(warning.message)
    assert f'File "{_HERE}", line {line}' in str(warning.message)


# asyncio


async def _sleeps() -> None:
    await asyncio.sleep(1)


async def _has_a_deadline() -> None:
    async with asyncio.timeout(1):
        await trio.lowlevel.checkpoint()


async def _waits_for_a_future() -> None:
    loop = asyncio.new_event_loop()
    try:
        await loop.create_future()
    finally:
        loop.close()


async def _waits_for_a_queue() -> None:
    await asyncio.Queue[int]().get()


async def _is_an_old_library() -> None:
    raise RuntimeError("Timeout context manager should be used inside a task")


async def _waits_in_a_nursery() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_sleeps)
        nursery.start_soon(_sleeps)


@pytest.mark.parametrize(
    "handler",
    [
        _sleeps,
        _has_a_deadline,
        _waits_for_a_future,
        _waits_for_a_queue,
        _is_an_old_library,
        _waits_in_a_nursery,
    ],
)
async def test_the_crash_of_an_asyncio_function_names_its_trio_counterpart(
    handler: Callable[[], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    async with open_runtime():
        await wait_exit(spawn(handler))
    assert "needs the event loop of asyncio, but processes run on Trio" in caplog.text
    assert "docs/howto/use-blocking-and-asyncio-libraries.md" in caplog.text
    assert (Path(actors.__file__).parents[1] / ASYNCIO_ADVICE.rpartition(" ")[2]).is_file()


async def test_another_error_gets_no_advice_on_asyncio(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise RuntimeError("boom")

    async def looks_into_an_empty_queue() -> None:
        asyncio.Queue[int]().get_nowait()

    async with open_runtime():
        await wait_exit(spawn(fails))
        await wait_exit(spawn(looks_into_an_empty_queue))
    assert "boom" in caplog.text
    assert "event loop" not in caplog.text


def test_advice_is_given_once() -> None:
    error = RuntimeError("no running event loop")
    add_advice(error)
    add_advice(error)
    assert error.__notes__ == [ASYNCIO_ADVICE]
