"""What is used wrongly answers with what to write instead: one test for each message."""

from __future__ import annotations

from typing import Any

import pytest

from actors import (
    CallingSelf,
    Crash,
    GenServer,
    InvalidCallback,
    InvalidReturn,
    NoReply,
    Reply,
    Sender,
    call,
    cast,
    current_pid,
    open_runtime,
    receive,
    send,
    spawn,
    wait_exit,
)


async def _crash_of(server: type[GenServer[Any]], message: object = "go") -> BaseException:
    async with open_runtime(log=False):
        pid = await server.start()
        cast(pid, message)
        reason = await wait_exit(pid)
    assert isinstance(reason, Crash)
    return reason.exception


async def test_a_server_that_calls_itself_is_told_to_call_the_method_or_to_cast() -> None:
    class Narcissus(GenServer[None]):
        async def handle_cast(self, message: Any) -> None:
            await call(current_pid(), "mirror")

    error = await _crash_of(Narcissus)
    assert isinstance(error, CallingSelf)
    assert "call the method directly, or cast()" in str(error)


async def test_a_wrong_return_value_is_told_what_may_be_returned() -> None:
    class Tuples(GenServer[None]):
        async def handle_cast(self, message: Any) -> Any:
            return ("noreply", self.state)

    error = await _crash_of(Tuples)
    assert isinstance(error, InvalidReturn)
    assert str(error) == (
        "Tuples.handle_cast returned ('noreply', None); it may return None, NoReply(), "
        "Continue(argument), Within(seconds), Stop(reason)"
    )


async def test_a_call_that_is_not_answered_by_a_result_is_told_so() -> None:
    class Plain(GenServer[None]):
        async def handle_call(self, request: Any, sender: Sender) -> Any:
            return "the answer"

    async with open_runtime(log=False):
        pid = await Plain.start()
        with pytest.raises(Exception, match=r"may return Reply\(value\), NoReply\(\), Stop"):
            await call(pid, "question")


async def test_a_forgotten_await_in_a_callback_is_told_where_it_is_missing() -> None:
    class Forgetful(GenServer[None]):
        async def handle_cast(self, message: Any) -> Any:
            return call("somebody", message)

    error = await _crash_of(Forgetful)
    assert isinstance(error, InvalidReturn)
    assert str(error) == (
        "Forgetful.handle_cast returned a coroutine that was not awaited; "
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
def test_a_callback_that_takes_something_else_is_refused_where_the_class_is_defined(
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


async def test_a_cast_to_a_server_without_handle_cast_is_told_what_to_add() -> None:
    class Deaf(GenServer[None]):
        async def handle_call(self, request: Any, sender: Sender) -> Reply:
            return Reply()

    error = await _crash_of(Deaf)
    assert "has no handle_cast; add one, or use send() and handle_info" in str(error)


async def test_a_call_to_a_server_without_handle_call_is_told_what_to_add() -> None:
    class Deaf(GenServer[None]):
        pass

    async with open_runtime(log=False):
        pid = await Deaf.start()
        with pytest.raises(Exception, match="has no handle_call; add one, or use cast"):
            await call(pid, "question")


async def test_receive_outside_a_process_is_told_to_spawn_one() -> None:
    async with open_runtime():
        with pytest.raises(RuntimeError, match=r"works only inside a process.*as_process\(\):"):
            await receive()


async def test_receive_in_a_helper_task_is_told_to_send_instead() -> None:
    import trio

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


async def test_a_message_to_an_unknown_name_is_told_to_start_it_first() -> None:
    async with open_runtime():
        with pytest.raises(LookupError, match="no process is registered as 'nobody'; start it"):
            send("nobody", "hello")


def test_a_verb_without_a_runtime_is_told_to_open_one() -> None:
    async def nothing() -> None:
        raise AssertionError("not reached")

    with pytest.raises(RuntimeError, match="async with open_runtime"):
        spawn(nothing)
