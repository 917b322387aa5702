"""The start protocol: failures, timeouts, cancellations and kills during a start."""

import functools
from typing import Any

import pytest
import trio

from actors import (
    KILLED,
    NORMAL,
    TIMEOUT,
    AlreadyStarted,
    Continue,
    Crash,
    Exit,
    Fail,
    GenServer,
    Ignore,
    NotAProcess,
    Pid,
    Runtime,
    StartError,
    StartIgnored,
    Stop,
    current_pid,
    current_runtime,
    exit,
    is_alive,
    kill,
    monitor,
    receive,
    register,
    send_exit,
    spawn,
    spawn_monitor,
    trap_exits,
    unregister,
    wait_exit,
    whereis,
)
from tests.actors.helpers import down, in_process, nothing_arrives, reason_of, settle


class Slow(GenServer[None]):
    """A server that sends its pid, and then takes ten seconds for its init."""

    async def init(self, born: list[Pid], first: Any = None, trap: bool = False) -> Any:
        trap_exits(trap)
        born.append(current_pid())
        await trio.sleep(10)
        return first


class Failing(GenServer[None]):
    async def init(self, fail: Any) -> Any:
        return fail()


def raise_error() -> None:
    raise ValueError(1)


# Failed starts


@pytest.mark.parametrize(
    ("fail", "reason"),
    [
        (lambda: Fail("bad"), "bad"),
        (lambda: Stop("bad"), "bad"),
        (lambda: Stop(NORMAL), NORMAL),
        (lambda: exit("bad"), "bad"),
        (raise_error, Crash(ValueError(1))),
    ],
    ids=["Fail", "Stop", "Stop normally", "exit", "error"],
)
@pytest.mark.parametrize("how", ["start", "start_link"])
@in_process()
async def test_a_failed_start_raises_its_reason_and_leaves_nothing(
    fail: Any, reason: Any, how: str
) -> None:
    trap_exits()
    with pytest.raises(StartError) as caught:
        await getattr(Failing, how)(fail, name="server")
    assert caught.value.reason == reason
    assert whereis("server") is None
    assert current_runtime().processes() == [current_pid()]
    await nothing_arrives(1)


@in_process()
async def test_an_invalid_result_of_init_raises_an_error_with_the_valid_ones() -> None:
    with pytest.raises(
        StartError, match=r"Failing\.init \(.*\) returned 'junk'; it may return None, "
    ):
        await Failing.start(lambda: "junk")


@in_process()
async def test_an_ignored_start_raises_start_ignored_and_leaves_nothing() -> None:
    trap_exits()
    with pytest.raises(StartIgnored):
        await Failing.start_link(Ignore, name="server")
    assert whereis("server") is None
    await nothing_arrives(1)


@pytest.mark.parametrize(
    ("fail", "reported"),
    [
        (lambda: Fail("bad"), 0),
        (Ignore, 0),
        (lambda: Stop(NORMAL), 0),
        (lambda: Stop("bad"), 1),
        (raise_error, 1),
    ],
    ids=["Fail", "Ignore", "Stop normally", "Stop", "error"],
)
@in_process()
async def test_only_an_unexpected_failure_of_init_is_reported_as_a_crash(
    fail: Any, reported: int
) -> None:
    reports: list[Any] = []
    current_runtime().telemetry.attach(
        ("actors", "process", "crash"), lambda *event: reports.append(event)
    )
    with pytest.raises((StartError, StartIgnored)):
        await Failing.start(fail)
    assert len(reports) == reported


@in_process()
async def test_a_start_with_a_taken_name_starts_nothing() -> None:
    register("name")
    before = current_runtime().statistics()["spawned"]
    with pytest.raises(AlreadyStarted) as caught:
        await Failing.start_link(lambda: None, name="name")
    assert caught.value.pid is current_pid()
    assert current_runtime().statistics()["spawned"] == before
    unregister("name")
    pid = await Failing.start_link(lambda: None, name="name")
    assert whereis("name") is pid


async def test_plain_tasks_can_start_servers(runtime: Runtime) -> None:
    pid = await Failing.start_link(lambda: None)
    info = runtime.process_info(pid)
    assert info is not None
    assert (info["links"], info["parent"]) == ((), runtime.pid)
    with pytest.raises(StartError):
        await Failing.start_link(lambda: Stop("bad"))
    with pytest.raises(NotAProcess):
        Failing.spawn_link(lambda: None)


# Timeouts


@pytest.mark.parametrize("trap", [False, True])
@in_process()
async def test_a_start_that_takes_too_long_is_killed_and_the_starter_lives(trap: bool) -> None:
    trap_exits(trap)
    born: list[Pid] = []
    began = trio.current_time()
    with pytest.raises(StartError) as caught:
        await Slow.start_link(born, name="slow", timeout=3)
    assert caught.value.reason is TIMEOUT
    assert trio.current_time() == pytest.approx(began + 3)
    assert not is_alive(born[0])
    assert whereis("slow") is None
    await nothing_arrives(20)
    assert current_runtime().statistics()["timers"] == 0


@in_process(kill_grace=2)
async def test_a_start_waits_until_a_child_that_resists_the_kill_is_a_zombie() -> None:
    release = trio.Event()

    class Stubborn(GenServer[None]):
        async def init(self) -> None:
            with trio.CancelScope(shield=True):
                await release.wait()

    began = trio.current_time()
    with pytest.raises(StartError):
        await Stubborn.start_link(name="stubborn", timeout=3)
    assert trio.current_time() == pytest.approx(began + 5)
    assert whereis("stubborn") is None
    release.set()
    await settle()
    assert current_runtime().processes() == [current_pid()]


@pytest.mark.parametrize("order", ["ready first", "time first"])
@in_process()
async def test_a_child_that_is_ready_at_the_moment_of_the_timeout_never_half_starts(
    order: str,
) -> None:
    runtime, gate = current_runtime(), trio.Event()

    class Gated(GenServer[None]):
        async def init(self) -> None:
            await gate.wait()

    began = trio.current_time()
    if order == "ready first":
        runtime.timers.at(began + 1, gate.set)
    starting: list[Any] = []

    async def starter() -> None:
        try:
            starting.append(await Gated.start(timeout=1))
        except StartError as error:
            starting.append(error)

    pid = spawn(starter)
    await settle()
    if order == "time first":
        runtime.timers.at(began + 1, gate.set)
    assert await reason_of(pid) is NORMAL
    await settle()
    if isinstance(starting[0], Pid):
        assert is_alive(starting[0])
    else:
        assert starting[0].reason is TIMEOUT
        assert runtime.processes() == [current_pid()]


# The starter is cancelled


@pytest.mark.parametrize("how", ["start", "start_link"])
@pytest.mark.parametrize("trap", [False, True])
@in_process()
async def test_a_start_that_is_cancelled_leaves_nothing_and_the_starter_lives(
    how: str, trap: bool
) -> None:
    trap_exits(trap)
    born: list[Pid] = []
    with trio.move_on_after(3) as scope:
        await getattr(Slow, how)(born, name="slow", timeout=100)
    assert scope.cancelled_caught
    # The process has ended, so its name is free.
    assert not is_alive(born[0])
    assert whereis("slow") is None
    await nothing_arrives(20)
    assert current_runtime().statistics()["timers"] == 0


@in_process()
async def test_a_start_in_a_cancelled_scope_runs_nothing() -> None:
    born: list[Pid] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        await Slow.start_link(born, name="slow")
    assert scope.cancelled_caught
    assert born == []
    assert whereis("slow") is None


@in_process()
async def test_a_child_that_is_ready_at_the_moment_of_a_cancellation_never_half_starts() -> None:
    gate = trio.Event()

    class Gated(GenServer[None]):
        async def init(self) -> None:
            await gate.wait()

    for cancel_first in (False, True):
        gate = trio.Event()
        started: list[Pid] = []
        began = trio.current_time()
        with trio.CancelScope() as scope:
            steps = [gate.set, scope.cancel]
            for step in reversed(steps) if cancel_first else steps:
                current_runtime().timers.at(began + 1, step)
            started.append(await Gated.start_link(name="gated"))
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        await settle()
        assert whereis("gated") is (started[0] if started else None)
        if started:
            ref = monitor(started[0])
            trap_exits()
            kill(started[0])
            await down(ref)
            trap_exits(False)
            await receive(timeout=0)


# The starter ends


@pytest.mark.parametrize("trap", [False, True])
@in_process()
async def test_the_end_of_a_starter_reaches_a_starting_child_over_the_link(
    trap: bool,
) -> None:
    born: list[Pid] = []
    starter = spawn(functools.partial(Slow.start_link, born, None, trap))
    await settle()
    ref = monitor(born[0])
    began = trio.current_time()
    send_exit(starter, "enough")
    assert (await down(ref)).reason == "enough"
    # A child that traps exits finishes its init, and then handles the exit of its parent.
    assert trio.current_time() - began == pytest.approx(10 if trap else 0)


@in_process()
async def test_a_child_without_a_link_survives_the_kill_of_its_starter() -> None:
    born: list[Pid] = []
    starter = spawn(functools.partial(Slow.start, born))
    await settle()
    kill(starter)
    await trio.sleep(20)
    assert is_alive(born[0])
    assert not is_alive(starter)


@in_process()
async def test_a_starter_that_is_killed_when_its_child_is_ready_gets_no_pid() -> None:
    gate, got = trio.Event(), []

    class Gated(GenServer[None]):
        async def init(self) -> None:
            await gate.wait()

    async def starter() -> None:
        got.append(await Gated.start_link(name="gated"))

    pid, ref = spawn_monitor(starter)
    await settle()
    child = whereis("gated")
    assert child is not None

    def ready_then_kill() -> None:
        gate.set()
        kill(pid)

    current_runtime().timers.at(trio.current_time() + 1, ready_then_kill)
    assert (await down(ref)).reason is KILLED
    assert got == []
    await settle()
    assert not is_alive(child)


@in_process()
async def test_a_child_that_is_killed_while_it_starts_is_a_failed_start() -> None:
    trap_exits()
    born: list[Pid] = []

    async def killer() -> None:
        await trio.sleep(1)
        kill(born[0])

    spawn(killer)
    with pytest.raises(StartError) as caught:
        await Slow.start_link(born)
    assert caught.value.reason is KILLED
    await nothing_arrives(1)


@in_process()
async def test_a_child_that_is_ready_and_dies_at_once_has_started() -> None:
    class Fleeting(GenServer[None]):
        async def init(self) -> Continue:
            return Continue()

        async def handle_continue(self, argument: Any) -> Stop:
            return Stop("short")

    trap_exits()
    pid = await Fleeting.start_link()
    assert await receive() == Exit(pid, "short")


# Without waiting


@in_process()
async def test_spawn_link_does_not_wait_and_a_failed_init_is_an_exit() -> None:
    trap_exits()
    pid = Failing.spawn_link(lambda: Stop("bad"), name="server")
    assert whereis("server") is pid
    assert await receive() == Exit(pid, "bad")
    pid = Failing.spawn_link(Ignore)
    assert await receive() == Exit(pid, NORMAL)
    pid = Failing.spawn_link(lambda: None)
    kill(pid)
    assert await wait_exit(pid) is KILLED
