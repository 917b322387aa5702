"""Messages that an idle server handles at once, in the task of their sender."""

import gc
import time
import warnings
from collections.abc import Awaitable, Callable
from threading import get_ident
from typing import Any

import pytest
import trio

from actors import (
    KILLED,
    Crash,
    Down,
    Exit,
    GenServer,
    Instrument,
    NoProcess,
    Pid,
    Reply,
    Runtime,
    ServerExit,
    call,
    cast,
    current_pid,
    demonitor,
    is_alive,
    kill,
    link,
    monitor,
    open_runtime,
    receive,
    send,
    spawn,
    spawn_link,
    sys,
    trap_exits,
    unlink,
    wait_exit,
)
from actors._kernel.mailbox import CALLS, NESTED
from actors.servers.gen_server import send_request
from tests.actors.helpers import idle, settle
from tests.actors.steps import counted

LINKED, MONITORED = 0, 1


class Quick(GenServer[list[Any]]):
    """A server that handles a message at once, and lists what it has handled.

    It is linked to one process and monitors another. It sleeps in its own task at "sleep".
    """

    async def init(self, watched: list[Pid]) -> None:
        self.state = []
        self.pid = current_pid()
        SERVERS[self.pid] = self
        trap_exits()
        watched += [spawn_link(idle), spawn(idle)]
        monitor(watched[MONITORED])

    def handle_info_nowait(self, message: Any) -> Any:
        assert current_pid() is self.pid
        if message == "fail":
            raise ValueError("a bug of the server")
        if message == "exit":
            raise SystemExit
        self.state.append(type(message) if isinstance(message, Down | Exit) else message)
        if message == "to itself":
            send(self.pid, "later")
            self.state.append("sent")
        return self._sleep() if message == "sleep" else None

    async def _sleep(self) -> None:
        await trio.sleep(1)
        self.state.append("slept")

    async def handle_cast(self, message: Any) -> None:
        self.state.append(message)

    def handle_call_nowait(self, request: Any, sender: object) -> Any:
        if request == "slow":
            return self._reply_later()
        return Reply((request, current_pid()))

    async def _reply_later(self) -> Reply:
        await trio.sleep(1)
        return Reply("slow")

    async def terminate(self, reason: Any) -> None:
        TERMINATED.append(reason)


TERMINATED: list[Any] = []
SERVERS: dict[Pid, Quick] = {}


async def started(**options: Any) -> tuple[Pid, list[Pid]]:
    watched: list[Pid] = []
    server = await Quick.start(watched, **options)
    await settle()
    return server, watched


def handled(server: Pid) -> list[Any]:
    """The state of the server, without a message to it."""
    return list(SERVERS[server].state)


async def test_an_idle_server_handles_a_message_before_send_returns(runtime: Runtime) -> None:
    server, _ = await started()
    process: Any = server.process
    with counted(process.task) as steps:
        send(server, "a")
        assert handled(server) == ["a"]
        send(server, "b")
        assert handled(server) == ["a", "b"]
        await settle()
    assert steps.count == 0


async def test_the_function_runs_as_the_server(runtime: Runtime) -> None:
    server, _ = await started()
    request = send_request(server, "who")
    assert request.done
    assert request.result() == ("who", server)
    assert await call(server, "who") == ("who", server)


async def test_a_call_that_is_answered_at_once_takes_one_step_of_the_caller() -> None:
    async with open_runtime(debug=False, log=False):
        server, _ = await started()
        with counted() as steps:
            for _ in range(100):
                await call(server, "who")
        assert steps.count <= 100 + 20


async def test_a_request_that_waits_gets_its_answer_later(
    runtime: Runtime, autojump_clock: trio.testing.MockClock
) -> None:
    server, _ = await started()
    request = send_request(server, "slow")
    assert not request.done
    # The server is busy, so this one waits in its mailbox.
    second = send_request(server, "who")
    assert not second.done
    assert await request.wait_result() == "slow"
    assert await second.wait_result() == ("who", server)


async def test_a_request_ends_with_its_server(runtime: Runtime) -> None:
    server, _ = await started()
    request = send_request(server, "slow")
    kill(server)
    with pytest.raises(ServerExit) as caught:
        await request.wait_result()
    assert caught.value.reason is KILLED
    with pytest.raises(NoProcess):
        send_request(server, "slow")


async def test_a_busy_server_handles_later_messages_in_order(
    runtime: Runtime, autojump_clock: trio.testing.MockClock
) -> None:
    server, watched = await started()
    send(server, "sleep")
    send(server, "a")
    cast(server, "b")
    kill(watched[MONITORED])
    await settle()
    send(server, "c")
    assert handled(server) == ["sleep"]
    await trio.sleep(1)
    await settle()
    assert handled(server) == ["sleep", "slept", "a", "b", Down, "c"]


async def test_a_message_of_the_server_to_itself_waits_until_the_first_is_handled(
    runtime: Runtime,
) -> None:
    server, _ = await started()
    send(server, "to itself")
    assert handled(server) == ["to itself", "sent"]
    await settle()
    assert handled(server) == ["to itself", "sent", "later"]


@pytest.mark.parametrize(("which", "kind"), [(LINKED, Exit), (MONITORED, Down)])
async def test_an_end_reaches_an_idle_server_at_once(
    runtime: Runtime, which: int, kind: type
) -> None:
    server, watched = await started()
    process: Any = server.process
    with counted(process.task) as steps:
        kill(watched[which])
        await settle()
        assert handled(server) == [kind]
    assert steps.count == 0


async def test_an_error_crashes_only_the_server_and_runs_terminate(runtime: Runtime) -> None:
    TERMINATED.clear()
    crashes: list[Any] = []
    runtime.telemetry.attach(
        ("actors", "process", "crash"), lambda event, counts, about: crashes.append(about)
    )
    server, watched = await started()
    send(server, "fail")
    reason = await wait_exit(server)
    assert isinstance(reason, Crash)
    assert str(reason.exception) == "a bug of the server"
    assert reason in TERMINATED
    assert [(each["pid"], each["last_message"]) for each in crashes] == [(server, "fail")]
    assert is_alive(watched[MONITORED])


@pytest.mark.parametrize("which", [LINKED, MONITORED])
async def test_an_error_does_not_interrupt_the_end_that_caused_it(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    server, watched = await started()

    def fail(self: Quick, message: Any) -> None:
        raise ValueError("no such end")

    monkeypatch.setattr(Quick, "handle_info_nowait", fail)
    ends: list[Any] = []

    async def collect(pid: Pid) -> None:
        monitor(pid)
        down = await receive()
        ends.append((down.pid, down.reason))

    spawn(collect, watched[which])
    spawn(collect, server)
    await settle()
    kill(watched[which])
    await settle()
    (first, reason), (second, crash) = ends
    assert (first, reason) == (watched[which], KILLED)
    assert second is server
    assert str(crash.exception) == "no such end"


async def test_an_interrupt_reaches_the_runtime_and_not_the_sender() -> None:
    sent = False
    with pytest.raises(SystemExit):
        async with open_runtime():
            server, _ = await started()
            send(server, "exit")
            sent = True
            await trio.sleep_forever()
    assert sent


async def test_a_suspended_server_handles_messages_after_it_resumes(runtime: Runtime) -> None:
    server, _ = await started()
    await sys.suspend(server)
    send(server, "a")
    await settle()
    assert handled(server) == []
    await sys.resume(server)
    await settle()
    assert handled(server) == ["a"]


async def test_a_server_that_waits_inside_a_callback_handles_nothing(runtime: Runtime) -> None:
    class Waits(Quick):
        async def _sleep(self) -> None:
            await receive(lambda message: message == "go on")

    watched: list[Pid] = []
    server = await Waits.start(watched)
    await settle()
    send(server, "sleep")
    await settle()
    send(server, "a")
    assert handled(server) == ["sleep"]
    send(server, "go on")
    await settle()
    assert handled(server) == ["sleep", "a"]


async def test_a_dying_server_handles_nothing(runtime: Runtime) -> None:
    server, _ = await started()
    kill(server)
    send(server, "a")
    await settle()
    assert SERVERS[server].state == []


async def test_a_server_that_is_killed_does_not_finish_the_message(
    runtime: Runtime, autojump_clock: trio.testing.MockClock
) -> None:
    server, _ = await started()
    send(server, "sleep")
    kill(server)
    await trio.sleep(2)
    assert SERVERS[server].state == ["sleep"]


class Nests(GenServer[None]):
    """A server that begins with a coroutine in a coroutine, and that first kills itself or writes to itself."""

    def handle_info_nowait(self, message: Any) -> Any:
        if message == "kill":
            kill(current_pid())
        elif message == "to itself":
            send(current_pid(), "later")
        return self._outer(self._inner())

    async def _outer(self, inner: Awaitable[None]) -> None:
        await inner

    async def _inner(self) -> None:
        await trio.sleep(1)


@pytest.mark.parametrize("message", ["kill", "to itself", "other"])
async def test_a_server_that_is_killed_leaves_no_coroutine_unawaited(
    runtime: Runtime, message: str
) -> None:
    server = await Nests.start()
    await settle()
    # Without wakes, a message of the server to itself leaves its task asleep.
    runtime.wake_batches.left = 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        send(server, message)
        kill(server)
        await settle()
        gc.collect()
    assert not is_alive(server)
    assert [str(each.message) for each in caught] == []


async def test_the_exit_of_the_parent_stops_the_server(runtime: Runtime) -> None:
    async def parent(pids: list[Pid]) -> None:
        pids.append(await Quick.start_link([]))
        await receive()

    pids: list[Pid] = []
    starter = spawn(parent, pids)
    await settle()
    send(starter, "end")
    await settle()
    assert not is_alive(pids[0])


async def test_a_subclass_that_overrides_the_async_callback_gets_every_message(
    runtime: Runtime,
) -> None:
    class Slow(Quick):
        async def handle_info(self, message: Any) -> None:
            self.state.append(("slow", message))

    watched: list[Pid] = []
    server = await Slow.start(watched)
    await settle()
    send(server, "a")
    await settle()
    assert await sys.get_state(server) == [("slow", "a")]


class Notes:
    """A part of a server, which handles messages and calls in the task of the server."""

    state: list[Any]

    async def handle_info(self, message: Any) -> None:
        self.state.append(("noted", message))

    async def handle_call(self, request: Any, sender: object) -> Reply:
        return Reply(("noted", request))


async def test_the_async_callback_of_a_base_class_before_the_server_gets_every_message(
    runtime: Runtime,
) -> None:
    class Noted(Notes, Quick):
        pass

    watched: list[Pid] = []
    server = await Noted.start(watched)
    await settle()
    send(server, "a")
    assert await call(server, "b") == ("noted", "b")
    assert await sys.get_state(server) == [("noted", "a")]


async def test_a_message_of_a_thread_is_handled_at_once_in_the_thread_of_the_runtime(
    runtime: Runtime,
) -> None:
    threads: list[int] = []

    class Where(Quick):
        def handle_info_nowait(self, message: Any) -> None:
            assert current_pid() is self.pid
            threads.append(get_ident())

    watched: list[Pid] = []
    server = await Where.start(watched)
    await settle()
    await trio.to_thread.run_sync(send, server, "a")
    await settle()
    assert threads == [get_ident()]


async def test_a_turn_allows_a_bounded_number_of_messages_at_once(runtime: Runtime) -> None:
    server, _ = await started()
    for number in range(2 * CALLS):
        send(server, number)
    at_once = len(handled(server))
    assert CALLS // 2 <= at_once <= CALLS
    await settle()
    assert handled(server) == list(range(2 * CALLS)), "the others came later, in order"
    send(server, "more")
    assert handled(server)[-1] == "more"


class Passes(GenServer[int]):
    """A server that counts its messages, and sends each of them to the next server while it handles the message."""

    async def init(self, following: Pid | None) -> None:
        self.state, self.following = 0, following

    def handle_info_nowait(self, message: Any) -> None:
        self.state += 1
        if self.following is not None:
            send(self.following, message)


async def test_a_long_chain_of_idle_servers_passes_a_message_on(runtime: Runtime) -> None:
    last = first = await Passes.start(None)
    chain = [last]
    for _ in range(999):
        first = await Passes.start(first)
        chain.append(first)
    await settle()
    send(first, "a")
    await settle()
    assert [await sys.get_state(pid) for pid in chain] == [1] * 1000


async def test_the_servers_inside_each_other_are_few(runtime: Runtime) -> None:
    depths: list[int] = []

    class Deep(Passes):
        def handle_info_nowait(self, message: Any) -> None:
            depths.append(runtime.wake_batches.nested)
            super().handle_info_nowait(message)

    first: Pid | None = None
    for _ in range(3 * NESTED):
        first = await Deep.start(first)
    await settle()
    send(first, "a")
    await settle()
    assert len(depths) == 3 * NESTED
    assert max(depths) == NESTED
    assert runtime.wake_batches.nested == 0


class PingPong(GenServer[int]):
    """A server that returns a message to the other player."""

    async def init(self) -> None:
        self.state = 0
        self.other: Pid | None = None

    def handle_info_nowait(self, message: Any) -> None:
        if isinstance(message, Pid):
            self.other = message
        elif self.state < 1000:
            self.state += 1
            send(self.other, message)


async def test_two_idle_servers_that_answer_each_other_take_turns(runtime: Runtime) -> None:
    one, other = await PingPong.start(), await PingPong.start()
    send(one, other)
    send(other, one)
    await settle()
    send(one, "ball")
    at_once = await sys.get_state(one)
    assert at_once < 1000, "the first send must not play the whole game"
    await settle()
    assert await sys.get_state(one) == 1000


async def test_the_time_of_a_message_counts_for_the_server() -> None:
    class Busy(Quick):
        def handle_info_nowait(self, message: Any) -> None:
            began = time.monotonic()
            while time.monotonic() - began < 0.02:
                pass

    async with open_runtime(counts_run_time=True) as runtime:
        server = await Busy.start([])
        await settle()

        async def sends() -> None:
            send(server, "a")
            await receive()

        sender = spawn(sends)
        await settle()
        of_server, of_sender = runtime.process_info(server), runtime.process_info(sender)
        assert of_server is not None
        assert of_sender is not None
        assert of_server["run_time"] >= 0.02
        assert 0 <= of_sender["run_time"] < of_server["run_time"]


# With instruments


class Seen(Instrument):
    """Lists the events, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> None:
        self.events.append(("sent", sender, receiver))

    def message_received(self, pid: Pid, message: Any) -> None:
        self.events.append(("received", pid, type(message).__name__))

    def callback_started(self, pid: Pid, callback: str, message: Any) -> None:
        self.events.append((callback, pid))

    def call_started(self, caller: Pid | None, server: Pid, call: object, timeout: float) -> None:
        self.events.append(("call", server))

    def call_answered(self, call: object, value: Any) -> None:
        self.events.append(("answered", value))

    def call_ended(self, call: object, how: str) -> None:
        self.events.append(("ended", how))


async def scenario(server: Pid, watched: list[Pid]) -> None:
    send(server, "a")
    await call(server, "who")
    send_request(server, "who").result()
    kill(watched[MONITORED])
    await settle()
    kill(watched[LINKED])
    await settle()


@pytest.mark.parametrize("debugged", [False, True])
async def test_an_instrument_or_a_trace_sees_the_messages_and_changes_no_step(
    debugged: bool,
) -> None:
    async def run(*, watches: bool) -> tuple[int, list[Any], list[Any]]:
        seen = Seen()
        async with open_runtime() as runtime:
            server, watched = await started()
            if watches:
                runtime.add_instrument(seen)
            if debugged and watches:
                await sys.log(server, 10)
                seen.events.clear()
            process: Any = server.process
            with counted(process.task) as steps:
                await scenario(server, watched)
                state = handled(server)
            return steps.count, state, list(seen.events)

    plain, watched = await run(watches=False), await run(watches=True)
    assert plain[:2] == watched[:2] == (0, ["a", Down, Exit])
    names = [event[0] for event in watched[2] if event[0] != "run"]
    assert names == [
        *("sent", "received", "handle_info"),
        *("call", "sent", "received", "handle_call", "answered", "ended"),
        *("call", "sent", "received", "handle_call", "answered", "ended"),
        *("received", "handle_info", "received", "handle_info"),
    ]


async def test_the_log_of_a_server_has_the_messages_that_it_handles_at_once(
    runtime: Runtime,
) -> None:
    server, _ = await started()
    await sys.log(server, 10)
    send(server, "a")
    events = await sys.get_log(server)
    assert [(each.kind, each.what) for each in events] == [("in", "a"), ("noreply", ["a"])]


async def test_an_instrument_may_drop_a_message(runtime: Runtime) -> None:
    class Drops(Instrument):
        def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> bool:
            return bool(message != "a")

    server, _ = await started()
    runtime.add_instrument(Drops())
    send(server, "a")
    send(server, "b")
    assert handled(server) == ["b"]


async def test_an_instrument_may_delay_a_message_and_the_later_ones_wait(
    runtime: Runtime, autojump_clock: trio.testing.MockClock
) -> None:
    class Delays(Instrument):
        def callback_started(self, pid: Pid, callback: str, message: Any) -> Awaitable[None] | None:
            return trio.sleep(1) if message == "a" else None  # noqa: ASYNC105 - the process awaits it

    server, _ = await started()
    seen = Seen()
    runtime.add_instrument(Delays())
    runtime.add_instrument(seen)
    send(server, "a")
    send(server, "b")
    assert handled(server) == []
    await trio.sleep(1.5)
    assert handled(server) == ["a", "b"]
    assert [event[0] for event in seen.events] == [
        *("sent", "received", "sent"),
        *("handle_info", "received", "handle_info"),
    ]


async def test_an_instrument_may_kill_the_server_before_the_message(runtime: Runtime) -> None:
    class Kills(Instrument):
        def callback_started(self, pid: Pid, callback: str, message: Any) -> None:
            if message == "a":
                kill(pid)

    server, _ = await started()
    runtime.add_instrument(Kills())
    send(server, "a")
    await settle()
    assert not is_alive(server)
    assert SERVERS[server].state == []


class Remover(GenServer[list[Any]]):
    """A server that runs a function at its first message, and lists the messages and the result of the function."""

    async def init(self, prepare: Callable[[], Any], then: Callable[[Any], Any]) -> None:
        trap_exits()
        self.state = []
        self.kept = prepare()
        self.then: Callable[[Any], Any] | None = then

    def handle_info_nowait(self, message: Any) -> None:
        self.state.append(type(message))
        then, self.then = self.then, None
        if then is not None:
            self.state.append(then(self.kept))

    async def handle_call(self, request: Any, sender: object) -> Reply:
        return Reply(self.state)


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("debug", [False, True])
async def test_a_monitor_that_is_removed_during_the_end_of_its_process_does_not_fire(
    flush: bool, debug: bool
) -> None:
    async with open_runtime(debug=debug):
        target = spawn(idle)

        def prepare() -> Any:
            link(target)
            return monitor(target), monitor(target)

        server = await Remover.start(prepare, lambda refs: demonitor(refs[1], flush=flush))
        await settle()
        kill(target)
        await settle()
        # The server handled the Exit at once, before the end reached its monitors.
        assert await call(server, "state") == [Exit, True, Down]


@pytest.mark.parametrize("debug", [False, True])
async def test_a_link_that_is_removed_during_the_end_of_its_process_sends_no_signal(
    debug: bool,
) -> None:
    async with open_runtime(debug=debug):
        target = spawn(idle)
        others: list[Pid] = []

        def prepare() -> None:
            link(target)

        first = await Remover.start(prepare, lambda _: send(others[0], "unlink"))
        others.append(await Remover.start(prepare, lambda _: unlink(target)))
        await settle()
        kill(target)
        await settle()
        # The first server handled its Exit at once, before the signal reached the other server.
        assert await call(first, "state") == [Exit, None]
        assert await call(others[0], "state") == [str, None]
