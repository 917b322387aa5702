"""A `RemoteAddress` carries out `call`, `cast`, `send` and `monitor` itself, and every other function refuses it."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio

from actors import (
    NOCONNECTION,
    NORMAL,
    CallExit,
    CallingSelf,
    CallTimeout,
    Down,
    GenServer,
    InvalidArgument,
    NoProcess,
    Pid,
    ProcessKilled,
    Ref,
    RemoteAddress,
    ServerExit,
    call,
    cancel_timer,
    cast,
    current_pid,
    current_runtime,
    demonitor,
    is_alive,
    kill,
    link,
    monitor,
    on_exit,
    open_runtime,
    register,
    run_in_thread,
    send,
    send_after,
    send_every,
    send_exit,
    send_threadsafe,
    spawn,
    spawn_link,
    stop,
    sys,
    unlink,
    unregister,
    wait_exit,
    whereis,
)
from actors.addresses import RemoteMonitor
from actors.instrumentation.instrument import Instrument
from actors.refs import Address
from actors.servers.gen_server import send_request
from tests.actors.helpers import down, idle, in_process, nothing_arrives, reason_of, settle


class Far(RemoteAddress):
    """An address on a node that a test plays."""

    instead = (
        'only call, cast, send, send_after, send_every and monitor take it; write far.where("x")'
    )

    def __init__(self) -> None:
        self.got: list[tuple[str, Any]] = []
        self.monitors: list[RemoteMonitor] = []
        self.cancelled: list[RemoteMonitor] = []
        self.answers_after = 1.0

    def __repr__(self) -> str:
        return "<far>"

    async def call(self, request: Any, *, timeout: float) -> Any:
        self.got.append(("call", request))
        with trio.move_on_after(timeout):
            await trio.sleep(self.answers_after)
            return ("answer to", request)
        raise CallTimeout(self, request, timeout)

    def cast(self, message: Any) -> None:
        self.got.append(("cast", message))

    def send(self, message: Any) -> None:
        self.got.append(("send", message))

    def monitor(self) -> Ref:
        ref = RemoteMonitor(self, self.cancelled.append)
        self.monitors.append(ref)
        return ref


@in_process()
async def test_call_cast_and_send_reach_the_methods_of_the_address() -> None:
    far = Far()
    assert await call(far, "a", timeout=2) == ("answer to", "a")
    cast(far, "b")
    send(far, "c")
    assert far.got == [("call", "a"), ("cast", "b"), ("send", "c")]


@in_process()
async def test_a_call_passes_its_time_limit_on() -> None:
    with pytest.raises(CallTimeout) as caught:
        await call(Far(), "a", timeout=0.5)
    assert caught.value.timeout == 0.5


async def test_a_task_that_is_no_process_calls_a_remote_address() -> None:
    async with open_runtime():
        assert await call(Far(), "a") == ("answer to", "a")


@in_process()
async def test_a_caller_that_is_killed_during_a_remote_call_gets_no_answer() -> None:
    far = Far()
    ended: list[object] = []

    async def caller() -> None:
        try:
            await call(far, "a")
        except BaseException as error:
            ended.append(type(error))
            raise

    pid = spawn(caller)
    await trio.sleep(0.5)
    kill(pid)
    await wait_exit(pid)
    assert ended == [trio.Cancelled]


@in_process()
async def test_a_kill_has_priority_over_an_answer_that_arrives_with_it() -> None:
    far = Far()
    ended: list[object] = []

    async def caller() -> None:
        with trio.CancelScope(shield=True):  # the answer arrives although the process is dying
            try:
                await call(far, "a")
            except BaseException as error:
                ended.append(type(error))
                raise

    pid = spawn(caller)
    await trio.sleep(0.5)
    kill(pid)
    await wait_exit(pid)
    assert ended == [ProcessKilled]


@in_process()
async def test_timers_send_to_a_remote_address() -> None:
    far = Far()
    send_after(far, "once", 1)
    every = send_every(far, "again", 2)
    await trio.sleep(5)
    cancel_timer(every)
    await trio.sleep(5)
    assert far.got == [("send", "once"), ("send", "again"), ("send", "again")]


async def test_other_threads_hand_messages_over_to_the_thread_of_the_runtime() -> None:
    threads: list[int] = []

    class Where(Far):
        def cast(self, message: Any) -> None:
            super().cast(message)
            threads.append(threading.get_ident())

        def send(self, message: Any) -> None:
            super().send(message)
            threads.append(threading.get_ident())

    far = Where()

    # Without a time limit, because the virtual clock does not wait for threads.
    async with open_runtime() as runtime:

        def in_thread() -> None:
            send(far, 1)
            cast(far, 2)
            send_threadsafe(runtime, far, 3)

        await run_in_thread(in_thread)
        assert far.got == [("send", 1), ("cast", 2), ("send", 3)]
        send_threadsafe(runtime, far, 4)
        await settle()
    assert far.got[3:] == [("send", 4)]
    assert threads == [threading.get_ident()] * 4


async def test_a_message_that_a_remote_address_refuses_is_a_dead_letter_where_nobody_gets_the_error() -> (
    None
):
    class Refuses(Far):
        def send(self, message: Any) -> None:
            raise ValueError(message)

    far = Refuses()
    async with open_runtime() as runtime:
        send_after(far, "timer", 1)
        await trio.sleep(2)
        assert runtime.statistics()["dead_letters"] == 1
        send_threadsafe(runtime, far, "own thread")
        await settle()
        assert runtime.statistics()["dead_letters"] == 2
        await run_in_thread(send, far, "other thread")
        assert runtime.statistics()["dead_letters"] == 3
        with pytest.raises(ValueError, match="direct"):
            send(far, "direct")


@in_process()
async def test_the_down_of_a_remote_address_has_the_address_as_its_name() -> None:
    far = Far()
    ref = monitor(far)
    far.monitors[0].down(None, NOCONNECTION)
    assert await down(ref) == Down(ref, None, NOCONNECTION, far)
    assert not demonitor(ref)
    assert far.cancelled == []


@in_process()
async def test_a_monitor_of_a_remote_address_fires_once() -> None:
    far = Far()
    ref = monitor(far)
    far.monitors[0].down(None, NORMAL)
    far.monitors[0].down(None, NOCONNECTION)
    assert (await down(ref)).reason is NORMAL
    await nothing_arrives()


@in_process()
async def test_demonitor_cancels_a_monitor_of_a_remote_address() -> None:
    far = Far()
    ref = monitor(far)
    assert demonitor(ref)
    assert not demonitor(ref)
    assert far.cancelled == [ref]
    far.monitors[0].down(None, NORMAL)
    await nothing_arrives()


@in_process()
async def test_demonitor_with_flush_takes_the_down_out_of_the_mailbox() -> None:
    far = Far()
    ref = monitor(far)
    far.monitors[0].down(None, NORMAL)
    assert not demonitor(ref, flush=True)
    await nothing_arrives()


@in_process()
async def test_only_the_monitoring_process_can_remove_a_monitor_of_a_remote_address() -> None:
    far = Far()
    ref = monitor(far)

    async def other() -> None:
        assert not demonitor(ref)

    assert await reason_of(spawn(other)) is NORMAL
    assert far.cancelled == []


@in_process()
async def test_the_end_of_the_monitoring_process_cancels_its_monitors_of_remote_addresses() -> None:
    far = Far()

    async def watcher() -> None:
        on_exit(lambda: far.monitors[1].down(None, NORMAL))
        monitor(far)
        monitor(far)
        monitor(far)

    assert await reason_of(spawn(watcher)) is NORMAL
    # The newest clean-up runs first, so the second monitor was removed before the clean-up of the process ran.
    assert set(far.cancelled) == set(far.monitors)
    assert all(not ref.is_active for ref in far.monitors)


@in_process()
async def test_a_remote_monitor_can_watch_a_process_of_its_own_runtime() -> None:
    far, near = Far(), spawn(idle)
    ref = monitor(far)
    current_runtime().graph.watch(near, far.monitors[0])
    kill(near)
    assert (await down(ref)).name is far


@in_process()
async def test_the_information_about_a_process_names_the_remote_addresses_that_it_monitors() -> (
    None
):
    far = Far()
    ref = monitor(far)
    info = current_runtime().process_info(current_pid())
    assert info is not None
    assert info["monitors"] == (far,)
    demonitor(ref)
    info = current_runtime().process_info(current_pid())
    assert info is not None
    assert info["monitors"] == ()


async def test_instruments_see_the_monitor_of_a_remote_address() -> None:
    seen: list[object] = []

    class Eye(Instrument):
        def monitored(self, pid: Pid, ref: Ref, target: Pid | Address[Any] | None) -> None:
            seen.append(("monitored", ref, target))

        def down_sent(self, pid: Pid, ref: Ref) -> None:
            seen.append(("down", ref))

        def demonitored(self, pid: Pid, ref: Ref, flushed: bool) -> None:
            seen.append(("demonitored", ref))

    far = Far()

    async def watcher() -> None:
        monitor(far)
        far.monitors[0].down(None, NORMAL)
        demonitor(monitor(far))

    async with open_runtime() as runtime:
        runtime.add_instrument(Eye())
        await wait_exit(spawn(watcher))
    one, two = far.monitors
    assert seen == [
        ("monitored", one, far),
        ("down", one),
        ("monitored", two, far),
        ("demonitored", two),
    ]


NEEDS_A_PID: list[Callable[[Any], object]] = [
    whereis,
    is_alive,
    link,
    unlink,
    kill,
    wait_exit,
    stop,
    sys.get_state,
    lambda far: send_request(far, "a"),
    lambda far: send_exit(far, NORMAL),
    lambda far: on_exit(print, pid=far),
    lambda far: register("name", far),
    register,
    unregister,
    lambda far: GenServer.start_link(name=far),
    lambda far: spawn_link(idle, name=far),
]


@pytest.mark.parametrize("verb", NEEDS_A_PID)
@in_process()
async def test_a_function_that_needs_a_process_of_this_runtime_refuses_a_remote_address(
    verb: Callable[[Any], Any],
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        result = verb(Far())
        if result is not None:
            await result
    text = str(caught.value)
    assert "got <far>, whose process may run on another node; only call" in text
    assert text.endswith('write far.where("x")')
    assert not text.startswith("call")


def test_errors_of_calls_tell_if_the_request_may_have_run() -> None:
    assert CallExit("lost", "server", "request", 5).may_have_run
    assert CallTimeout("server", "request", 5).may_have_run
    assert ServerExit(NORMAL, "server", "request", 5).may_have_run
    assert not NoProcess("server", "request", 5).may_have_run
    assert not CallingSelf("server", "request", 5).may_have_run
