"""The debug build: it finds violations of each of the seven invariants.

Each test damages a runtime as a mistake in Ashtree would.
"""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from actors import (
    KILL,
    NORMAL,
    Down,
    GenServer,
    Pid,
    Runtime,
    Sender,
    call,
    cast,
    current_pid,
    current_runtime,
    demonitor,
    exit,
    kill,
    link,
    monitor,
    open_runtime,
    receive,
    send,
    send_after,
    spawn,
    trap_exits,
    unlink,
    wait_exit,
)
from actors._checks import CheckedRuntime, InvariantBroken
from actors._kernel.current import Monitor
from actors._kernel.link_graph import LinkGraph
from actors._kernel.mailbox import Mailbox
from actors._kernel.runtime import Process, record_of
from actors._kernel.timer_queue import TimerQueue
from actors.servers import _loop as _server_loop
from tests.actors.helpers import idle, settle


def process(pid: Pid) -> Process:
    found = record_of(pid)
    assert found is not None
    return found


async def broken(number: int, sabotage: Callable[[CheckedRuntime], Any]) -> str:
    """Return the first report about a sabotage. Check that the runtime raises the error at its end."""
    with pytest.raises((InvariantBroken, BaseExceptionGroup)) as caught:
        async with open_runtime(log=False, debug=True) as runtime:
            assert isinstance(runtime, CheckedRuntime)
            try:
                await sabotage(runtime)
            except InvariantBroken:
                pass
            await settle()
    assert any(isinstance(error, InvariantBroken) for error in leaves(caught.value))
    # The damage may cause further reports.
    assert isinstance(runtime, CheckedRuntime)
    first = runtime.breaches[0]
    assert first.number == number, first
    return str(first)


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error]


async def test_1_a_second_end_is_noticed() -> None:
    async def sabotage(runtime: CheckedRuntime) -> None:
        record = process(spawn(idle))
        kill(record.pid)
        await settle()
        runtime.end(record, NORMAL)

    assert "ended a second time" in await broken(1, sabotage)


async def test_1_a_message_to_an_ended_process_is_noticed_even_inside_a_process() -> None:
    async def sabotage(runtime: CheckedRuntime) -> None:
        record = process(spawn(idle))
        kill(record.pid)
        await settle()

        async def sends_past_the_rules() -> None:
            record.mailbox.put("hello")

        # The process keeps the exception inside. The runtime raises it again at its end.
        spawn(sends_past_the_rules)

    assert "'hello' entered the mailbox of <pid 1>" in await broken(1, sabotage)


async def test_1_a_name_that_leads_to_an_ended_process_is_noticed() -> None:
    async def sabotage(runtime: CheckedRuntime) -> None:
        record = process(spawn(idle))
        runtime.names["alias"] = record
        kill(record.pid)
        await settle()
        runtime.verify()

    assert "'alias' leads to" in await broken(1, sabotage)


async def test_2_an_asymmetric_link_is_noticed() -> None:
    async def sabotage(runtime: CheckedRuntime) -> None:
        async def links(other: Pid) -> None:
            link(other)
            assert runtime.graph.links_of(other) == (current_pid(),)
            other.links = None
            runtime.verify()

        spawn(links, spawn(idle))

    assert "has the link between them" in await broken(2, sabotage)


async def test_2_a_link_with_an_ended_process_is_noticed() -> None:
    async def sabotage(runtime: CheckedRuntime) -> None:
        first, second = spawn(idle), spawn(idle)
        kill(first)
        await settle()
        runtime.graph.link(first, second)

    assert "were linked, but one of them has ended" in await broken(2, sabotage)


async def test_3_an_exception_that_reaches_the_nursery_is_noticed() -> None:
    async def sabotage(runtime: CheckedRuntime) -> None:
        def fails(record: Process, error: BaseException) -> Any:
            runtime.end(record, NORMAL)
            return error

        runtime._failed = fails  # type: ignore[assignment]

        async def crashes() -> None:
            raise ValueError

        spawn(crashes)
        await trio.sleep(1)

    assert "reached the nursery" in await broken(3, sabotage)


async def test_3_a_task_without_a_record_is_noticed() -> None:
    async def sabotage(runtime: CheckedRuntime) -> None:
        del runtime.table[spawn(idle)]
        await trio.sleep(1)

    assert "without a record" in await broken(3, sabotage)


async def test_4_a_down_that_a_program_forwards_or_sends_later_breaks_nothing() -> None:
    got: list[Any] = []

    async def collects() -> None:
        while len(got) < 3:
            got.append(await receive())

    async def forwards(other: Pid, target: Pid) -> None:
        ref = monitor(target)
        kill(target)
        down = await receive()
        assert down.ref is ref
        send(other, down)
        send(current_pid(), down)
        send(other, await receive())
        send_after(other, down, 1)

    async with open_runtime(log=False, debug=True):
        spawn(forwards, spawn(collects), target := spawn(idle))
        await trio.sleep(2)
    assert [each.pid for each in got] == [target] * 3


async def test_4_a_monitor_that_does_not_fire_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sabotage(runtime: CheckedRuntime) -> None:
        monkeypatch.setattr(Monitor, "down", lambda *_: None)

        async def watches(pid: Pid) -> None:
            monitor(pid)
            kill(pid)
            await receive()

        spawn(watches, spawn(idle))
        await settle()
        monkeypatch.undo()

    assert "did not fire" in await broken(4, sabotage)


async def test_5_a_watcher_of_a_finished_call_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def sabotage(runtime: CheckedRuntime) -> None:
        async def calls(pid: Pid) -> None:
            for _ in range(2):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await call(pid, "?")

        def forget_half(sender: Sender) -> None:
            sender._done = True

        monkeypatch.setattr(Sender, "abandon", forget_half)
        spawn(calls, spawn(idle))

    assert "its previous call is still active" in await broken(5, sabotage)


@pytest.mark.parametrize(
    "callback", ["handle_call", "handle_cast", "handle_info", "handle_continue", "terminate"]
)
async def test_6_a_callback_that_starts_after_a_fatal_signal_is_noticed(callback: str) -> None:
    class Server(GenServer[None]):
        async def handle_cast(self, message: Any) -> None:
            # A loop that does not check for an accepted signal starts the next callback.
            runtime = current_runtime()
            runtime.signal(runtime.pid, current_pid(), KILL, linked=False)
            args = ("message", "sender")[: 2 if callback == "handle_call" else 1]
            call_as_loop(getattr(self, callback), *args)

    # A function of the loop's own module, because only its calls count.
    call_as_loop = eval("lambda callback, *args: callback(*args)", vars(_server_loop))

    async def sabotage(runtime: CheckedRuntime) -> None:
        cast(await Server.start(), "go")

    assert f"{callback} of" in await broken(6, sabotage)


async def test_6_callbacks_that_the_server_itself_calls_while_it_unwinds_are_allowed() -> None:
    done: list[Any] = []

    class Server(GenServer[None]):
        async def handle_cast(self, message: Any) -> None:
            try:
                await trio.sleep_forever()
            finally:
                await self.handle_info("by itself")

        async def handle_info(self, message: Any) -> None:
            done.append(message)

    async with open_runtime(debug=True):
        pid = await Server.start()
        cast(pid, "go")
        await settle()
        kill(pid)
        await wait_exit(pid)
    assert done == ["by itself"]


async def test_6_a_message_that_is_received_after_a_fatal_signal_is_noticed() -> None:
    async def sabotage(runtime: CheckedRuntime) -> None:
        async def receives() -> None:
            send(current_pid(), "hello")
            record = process(current_pid())
            runtime.signal(runtime.pid, record.pid, KILL, linked=False)
            record.mailbox.take(None)

        spawn(receives)

    assert "got 'hello'" in await broken(6, sabotage)


async def test_7_leftovers_of_a_closed_runtime_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop_and_forget_nothing(timers: TimerQueue) -> None:
        timers._stopped = True
        assert timers._scope is not None
        timers._scope.cancel()

    async def sabotage(runtime: CheckedRuntime) -> None:
        monkeypatch.setattr(TimerQueue, "stop", stop_and_forget_nothing)
        send_after("nobody", "tick", 1000)

    assert "'timers': 1" in await broken(7, sabotage)


# Correct programs pass


async def test_a_varied_program_breaks_no_invariant() -> None:
    class Server(GenServer[None]):
        async def handle_info(self, message: Any) -> None:
            exit(message)

    async def lives(number: int) -> None:
        trap_exits(number % 2 == 0)
        pids = [await Server.start_link() for _ in range(3)]
        refs = [monitor(pid) for pid in pids]
        demonitor(refs[0])
        unlink(pids[1])
        send_after(pids[2], "later", 3)
        for pid in pids:
            send(pid, f"end of {number}")
        for ref in refs[1:]:
            await receive(lambda message, ref=ref: isinstance(message, Down) and message.ref is ref)  # type: ignore[misc]

    async with open_runtime(log=False, debug=True) as runtime:
        assert isinstance(runtime, CheckedRuntime)
        for number in range(10):
            spawn(lives, number)
            runtime.verify()
            await trio.lowlevel.checkpoint()
            runtime.verify()
        await trio.sleep(10)
        runtime.verify()
        assert runtime.processes() == []


# The switch


@pytest.mark.parametrize(
    ("variable", "argument", "checked"),
    [
        ("1", None, True),
        ("0", None, False),
        ("", None, False),
        (None, None, False),
        ("1", False, False),
        ("0", True, True),
    ],
)
async def test_the_argument_or_else_the_environment_turns_checks_on(
    variable: str | None, argument: bool | None, checked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASHTREE_DEBUG", raising=False)
    if variable is not None:
        monkeypatch.setenv("ASHTREE_DEBUG", variable)
    async with open_runtime(debug=argument) as runtime:
        assert isinstance(runtime, CheckedRuntime) is checked


async def test_checks_are_on_in_the_tests() -> None:
    async with open_runtime() as runtime:
        assert isinstance(runtime, CheckedRuntime)


async def test_a_runtime_without_checks_uses_the_plain_classes() -> None:
    class Server(GenServer[None]):
        pass

    async with open_runtime(debug=False) as runtime:
        assert type(runtime) is Runtime
        assert type(runtime.graph) is LinkGraph
        record = process(await Server.start())
        assert type(record.mailbox) is Mailbox
        assert "__dict__" not in dir(record)


async def test_a_breach_is_reported_with_the_exception_of_the_body() -> None:
    with pytest.raises(InvariantBroken, match="mistake in Ashtree") as caught:
        async with open_runtime(debug=True) as runtime:
            assert isinstance(runtime, CheckedRuntime)
            runtime.breaches.append(InvariantBroken(7, "a test"))
            raise ValueError("of the body")
    assert isinstance(caught.value.__cause__, ValueError)
