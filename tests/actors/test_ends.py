"""The ends of processes: isolation, groups, interrupts, racing kills, and zombies."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.lowlevel

from actors import (
    KILL,
    KILLED,
    NORMAL,
    SHUTDOWN,
    CallTimeout,
    Crash,
    GenServer,
    NoProcess,
    NoReply,
    NotAProcess,
    ProcessKilled,
    Reply,
    Runtime,
    Sender,
    call,
    cast,
    current_pid,
    current_runtime,
    exit,
    is_alive,
    kill,
    link,
    monitor,
    on_exit,
    open_runtime,
    receive,
    register,
    reply,
    send,
    send_after,
    send_every,
    send_exit,
    spawn,
    spawn_link,
    spawn_monitor,
    trap_exits,
    wait_exit,
    whereis,
)
from tests.actors.helpers import down, idle, in_process, nothing_arrives, reason_of, settle


class Echo(GenServer[None]):
    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        return Reply(request)


# Isolation


class Odd(BaseException):
    """An exception that is neither an error nor an interrupt."""


@pytest.mark.parametrize("error", [ValueError(1), Odd(1), GeneratorExit()], ids=repr)
@in_process()
async def test_no_exception_of_a_process_reaches_another(error: BaseException) -> None:
    async def raises() -> None:
        raise error

    bystander = spawn(idle)
    assert await reason_of(spawn(raises)) == Crash(error)
    assert is_alive(bystander)


@in_process()
async def test_a_leaked_cancellation_is_a_crash_of_one_process() -> None:
    async def leaks_a_cancelled() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                leaked: BaseException = error
        raise leaked

    bystander = spawn(idle)
    reason = await reason_of(spawn(leaks_a_cancelled))
    assert isinstance(reason, Crash)
    assert isinstance(reason.exception, trio.Cancelled)
    await settle()
    assert is_alive(bystander)


# The warning of Trio about the dropped generator.
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@in_process()
async def test_a_process_with_broken_cancel_scopes_does_not_affect_others() -> None:
    @asynccontextmanager
    async def misnested() -> AsyncIterator[None]:
        async with trio.open_nursery():
            yield

    async def confused() -> None:
        async def generate() -> AsyncIterator[int]:
            async with misnested():
                yield 1

        generator = generate()
        await anext(generator)
        # The nursery of the generator is still open when the process ends.

    bystander = spawn(idle)
    reason = await reason_of(spawn(confused))
    assert isinstance(reason, Crash)
    await settle()
    assert is_alive(bystander)
    assert await call(await Echo.start(), "still well?") == "still well?"


# Nurseries in processes


@in_process()
async def test_the_error_of_a_helper_task_is_the_crash_and_not_a_group_of_one() -> None:
    async def helper() -> None:
        raise ValueError(1)

    async def process() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(helper)
            nursery.start_soon(trio.sleep_forever)

    assert await reason_of(spawn(process)) == Crash(ValueError(1))


@in_process()
async def test_an_exit_in_a_helper_task_is_the_exit_of_the_process() -> None:
    async def helper() -> None:
        exit("by the helper")

    async def process() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(helper)
            nursery.start_soon(trio.sleep_forever)

    assert await reason_of(spawn(process)) == "by the helper"


@in_process()
async def test_helper_tasks_end_before_the_runtime_reports_the_end_of_their_process() -> None:
    ended: list[str] = []

    async def helper(name: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(name)

    async def process() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(helper, "a")
            nursery.start_soon(helper, "b")

    pid, ref = spawn_monitor(process)
    await settle()
    kill(pid)
    assert (await down(ref)).reason is KILLED
    assert sorted(ended) == ["a", "b"]


@in_process()
async def test_the_reason_of_the_signal_wins_over_what_unwinding_raises_which_is_reported() -> None:
    reports: list[Any] = []
    current_runtime().telemetry.attach(
        ("actors", "process", "cleanup_failed"), lambda *event: reports.append(event[2])
    )

    async def helper() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError(1)

    async def process() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(helper)
            nursery.start_soon(helper)

    pid, ref = spawn_monitor(process)
    await settle()
    send_exit(pid, "signal")
    assert (await down(ref)).reason == "signal"
    assert [type(report["exception"]) for report in reports] == [ExceptionGroup]


@pytest.mark.parametrize("kind", ["parked", "busy", "in a call", "in a nursery", "not yet run"])
@in_process()
async def test_a_kill_without_a_failing_clean_up_is_not_logged(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = await Echo.start()

    async def process() -> None:
        if kind == "in a call":
            while True:
                await call(server, "?")
        if kind == "in a nursery":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                await receive()
        await receive()

    pid = await Echo.start() if kind == "busy" else spawn(process)
    ref = monitor(pid)
    if kind != "not yet run":
        await trio.lowlevel.checkpoint() if kind == "in a call" else await settle()
    if kind == "busy":
        cast(pid, "work")
    kill(pid)
    assert (await down(ref)).reason is KILLED
    assert caplog.text == ""


# Ctrl-C and SystemExit


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["process", "helper", "server", "clean-up"])
async def test_an_interrupt_in_a_process_ends_the_body_and_is_raised_after_the_shutdown(
    kind: type[BaseException], where: str, caplog: pytest.LogCaptureFixture
) -> None:
    order: list[str] = []

    async def interrupted() -> None:
        await trio.sleep(1)
        raise kind

    def interrupt() -> None:
        raise kind

    async def with_helper() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(interrupted)
            nursery.start_soon(trio.sleep_forever)

    async def with_clean_up() -> None:
        on_exit(interrupt)

    class Server(GenServer[None]):
        async def handle_info(self, message: Any) -> None:
            await interrupted()

        async def terminate(self, reason: Any) -> None:
            order.append("terminate")

    class Tidy(GenServer[None]):
        async def init(self) -> None:
            trap_exits()

        async def terminate(self, reason: Any) -> None:
            order.append(f"tidy {reason!r}")

    with pytest.raises(kind):
        async with open_runtime():
            await Tidy.start()
            match where:
                case "process":
                    spawn(interrupted)
                case "helper":
                    spawn(with_helper)
                case "server":
                    send(await Server.start(), "go")
                case _:
                    spawn(with_clean_up)
            try:
                await trio.sleep_forever()
            finally:
                order.append("body")
    assert order == ["body", "tidy SHUTDOWN"]
    assert "crashed" not in caplog.text


@in_process()
async def test_monitors_see_an_interrupted_process_end_with_shutdown() -> None:
    runtime = current_runtime()
    seen: list[BaseException] = []
    runtime.interrupted = seen.append

    async def interrupted() -> None:
        raise SystemExit(3)

    assert await reason_of(spawn(interrupted)) is SHUTDOWN
    assert [repr(each) for each in seen] == ["SystemExit(3)"]


# Zombies


class Swallower:
    """A process body that swallows its cancellation until `release`, and then calls `afterwards`."""

    def __init__(self, afterwards: Any = None) -> None:
        self.release = trio.Event()
        self.afterwards = afterwards
        self.outcome: Any = None

    async def __call__(self) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await self.release.wait()
                if self.afterwards is not None:
                    await self.attempt()
            raise

    async def attempt(self) -> None:
        try:
            self.outcome = await self.afterwards()
        except BaseException as error:
            self.outcome = error
            if not isinstance(error, Exception):
                raise


@pytest.mark.parametrize("later", [KILL, "enough"])
@in_process()
async def test_the_first_fatal_signal_decides_the_reason_of_a_process_that_unwinds(
    later: Any,
) -> None:
    swallower = Swallower()
    pid, ref = spawn_monitor(swallower)
    await settle()
    send_exit(pid, SHUTDOWN)
    await settle()
    send_exit(pid, later)
    swallower.release.set()
    assert (await down(ref)).reason is SHUTDOWN


@in_process(kill_grace=3)
async def test_a_process_that_unwinds_within_the_grace_is_no_zombie() -> None:
    async def slow() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2.9)

    pid, ref = spawn_monitor(slow)
    await settle()
    began = trio.current_time()
    kill(pid)
    assert is_alive(pid)
    assert (await down(ref)).reason is KILLED
    assert trio.current_time() == pytest.approx(began + 2.9)
    statistics = current_runtime().statistics()
    assert (statistics["zombies_ever"], statistics["timers"]) == (0, 0)


@in_process(kill_grace=3)
async def test_all_other_processes_see_a_zombie_as_dead(caplog: pytest.LogCaptureFixture) -> None:
    trap_exits()
    swallower = Swallower()
    pid = spawn_link(swallower, name="zombie", label="undead")
    ref = monitor(pid)
    send_after(pid, "tick", 100)
    await settle()
    began = trio.current_time()
    send_exit(pid, "please")
    kill(pid)
    messages = [await receive(), await receive()]
    assert trio.current_time() == pytest.approx(began + 3)
    assert {type(message).__name__: message.reason for message in messages} == {
        "Exit": "please",
        "Down": "please",
    }
    assert messages[1].ref is ref
    assert not is_alive(pid)
    assert whereis("zombie") is None
    statistics = current_runtime().statistics()
    assert (statistics["zombies"], statistics["timers"]) == (1, 0)
    with pytest.raises(NoProcess):
        await call(pid, "?")
    assert "does not end" in caplog.text
    assert "await self.release.wait()" in caplog.text  # the line where the process hangs
    swallower.release.set()
    await settle()
    assert current_runtime().statistics()["zombies"] == 0
    await nothing_arrives(10)


VERBS: dict[str, Any] = {
    "send": lambda other: send(other, "from a zombie"),
    "send by name": lambda other: send("other", "from a zombie"),
    "cast": lambda other: cast(other, "from a zombie"),
    "call": lambda other: call(other, "from a zombie"),
    "receive": lambda other: receive(),
    "start": lambda other: Echo.start(),
    "start_link": lambda other: Echo.start_link(),
    "spawn": lambda other: spawn(idle),
    "spawn_link": lambda other: spawn_link(idle),
    "link": link,
    "monitor": monitor,
    "kill": kill,
    "exit": lambda other: exit("again"),
    "register": lambda other: register("name"),
    "whereis": lambda other: whereis("other"),
    "send_after": lambda other: send_after("other", "tick", 1),
    "send_after to a pid": lambda other: send_after(other, "tick", 1),
    "send_every": lambda other: send_every(other, "tick", 1),
    "trap_exits": lambda other: trap_exits(),
    "wait_exit": wait_exit,
    "current_pid": lambda other: current_pid(),
}


@pytest.mark.parametrize("verb", VERBS)
@in_process(kill_grace=1)
async def test_a_zombie_cannot_use_the_runtime(verb: str) -> None:
    heard: list[Any] = []
    runtime = current_runtime()

    async def other() -> None:
        trap_exits()
        while True:
            heard.append(await receive())

    async def act() -> Any:
        result = VERBS[verb](pid)
        return await result if hasattr(result, "__await__") else result

    pid = spawn(other, name="other")
    swallower = Swallower(act)
    zombie = spawn(swallower)
    await settle()
    kill(zombie)
    await trio.sleep(2)
    spawned = runtime.statistics()["spawned"]
    swallower.release.set()
    await settle()
    assert isinstance(swallower.outcome, ProcessKilled)
    assert heard == []
    assert is_alive(pid)
    assert runtime.statistics()["spawned"] == spawned
    assert runtime.statistics()["zombies"] == 0


ALLOWED_WHILE_DYING: dict[str, bool] = {
    "send": True,
    "cast": True,
    "spawn": True,
    "kill": True,
    "whereis": True,
    "call": False,
    "receive": False,
    "start": False,
    "start_link": False,
    "wait_exit": False,
}


@pytest.mark.parametrize(("verb", "allowed"), ALLOWED_WHILE_DYING.items())
@in_process()
async def test_an_unwinding_process_can_call_functions_that_do_not_wait(
    verb: str, allowed: bool
) -> None:
    async def act() -> Any:
        result = VERBS[verb](pid)
        return await result if hasattr(result, "__await__") else result

    pid = spawn(idle, name="other")
    swallower = Swallower(act)
    dying, ref = spawn_monitor(swallower)
    await settle()
    kill(dying)
    swallower.release.set()
    assert (await down(ref)).reason is KILLED
    assert isinstance(swallower.outcome, ProcessKilled) is not allowed


@in_process(kill_grace=1)
async def test_a_blocked_event_loop_makes_no_zombies() -> None:
    """No process can unwind while a task blocks the event loop for longer than the grace."""
    runtime = current_runtime()
    victims = [spawn_monitor(idle) for _ in range(20)]
    await settle()
    for pid, _ in victims:
        kill(pid)
    # The clock jumps as if this step had taken so long.
    trio.lowlevel.current_clock().jump(5)  # type: ignore[attr-defined]
    for _, ref in victims:
        assert (await down(ref)).reason is KILLED
    assert runtime.statistics()["zombies_ever"] == 0


async def test_the_end_of_a_runtime_waits_for_zombies_and_names_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    swallower = Swallower()

    async def release_later() -> None:
        await trio.sleep(100)
        swallower.release.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(release_later)
        async with open_runtime(kill_grace=1):
            spawn(swallower, label="undead")
            await settle()
        assert trio.current_time() == pytest.approx(100)
    assert "Waiting for processes that were killed and do not end: undead" in caplog.text


# Tasks that outlive the process that started them


@in_process()
async def test_a_task_in_another_nursery_is_not_part_of_the_process() -> None:
    server = await Echo.start(name="server")
    outcome: list[Any] = []
    started = trio.Event()

    async def handler() -> None:
        started.set()
        await trio.sleep(1)
        outcome.append(await call("server", "?"))
        outcome.append(await call(server, "?"))
        send(server, "ignored")
        child = spawn(idle)
        info = current_runtime().process_info(child)
        assert info is not None
        outcome.append(info["parent"].number)
        with pytest.raises(NotAProcess):
            current_pid()

    async def starts(nursery: trio.Nursery) -> None:
        nursery.start_soon(handler)
        await started.wait()

    async with trio.open_nursery() as nursery:
        pid = spawn(starts, nursery)
        assert await reason_of(pid) is NORMAL
    assert outcome == ["?", "?", 0]


# Kills in the same turn as another event


@pytest.mark.parametrize("order", ["answer first", "kill first"])
@in_process()
async def test_a_kill_in_the_same_turn_as_an_answer_wins(order: str) -> None:
    got: list[Any] = []
    waiting: list[Sender] = []

    class Defers(GenServer[None]):
        async def handle_call(self, request: Any, sender: Sender) -> Any:
            waiting.append(sender)
            return NoReply()

    server = await Defers.start()

    async def caller() -> None:
        got.append(await call(server, "?"))

    pid, ref = spawn_monitor(caller)
    await settle()
    if order == "answer first":
        assert reply(waiting[0], "answer") is True
        kill(pid)
    else:
        kill(pid)
        assert reply(waiting[0], "answer") is False
    assert (await down(ref)).reason is KILLED
    assert got == []


@pytest.mark.parametrize("order", ["answer first", "time first"])
@in_process()
async def test_the_first_of_an_answer_and_a_timeout_in_the_same_turn_wins(order: str) -> None:
    waiting: list[Sender] = []
    runtime = current_runtime()

    class Defers(GenServer[None]):
        async def handle_call(self, request: Any, sender: Sender) -> Any:
            waiting.append(sender)
            if order == "time first":
                answer_at(began + 1)
            return NoReply()

    def answer_at(deadline: float) -> None:
        runtime.timers.at(deadline, lambda: outcome.append(reply(waiting[0], "answer")))

    outcome: list[Any] = []
    server = await Defers.start()
    began = trio.current_time()
    if order == "answer first":
        answer_at(began + 1)
        assert await call(server, "?", timeout=1) == "answer"
        assert outcome == [True]
    else:
        with pytest.raises(CallTimeout):
            await call(server, "?", timeout=1)
        await settle()
        assert outcome == [False]
    await nothing_arrives(1)
    assert runtime.statistics()["timers"] == 0


@in_process()
async def test_a_server_that_ends_while_its_caller_is_cancelled_leaves_nothing() -> None:
    server = await Echo.start()
    with trio.CancelScope() as scope:
        scope.cancel()
        await call(server, "?")
    assert scope.cancelled_caught
    assert current_runtime().graph.watchers_of(server) == ()
    kill(server)
    await nothing_arrives(1)


async def test_two_runtimes_at_once_are_independent(runtime: Runtime) -> None:
    async with open_runtime() as inner:
        pid = spawn(idle)
        assert inner.processes() == [pid]
        assert runtime.processes() == []
