"""Applications in a running Trio program: boot, stop, failure. Signals are in tests/integration."""

import logging
from functools import partial
from typing import Any

import pytest
import trio

from actors import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    Crash,
    Fail,
    GenServer,
    NoProcess,
    Pid,
    Shutdown,
    Stop,
    cast,
    current_runtime,
    is_alive,
    kill,
    receive,
    spawn,
    trap_exits,
    whereis,
)
from supervision import (
    ApplicationFailed,
    ApplicationKilled,
    ApplicationStartFailed,
    ChildSpec,
    FailedToStartChild,
    InvalidChildSpec,
    Supervisor,
    open_application,
    process_spec,
    serve,
)
from supervision.applications.application import Application, _open, _Options, _Switch
from tests.supervision.workers import Log, Outcomes, crash, running, settle, worker

BOOM = Crash(RuntimeError("crash"))
quiet = partial(open_application, log=False)


async def test_the_tree_runs_during_the_block_and_stops_in_reverse_after_it(
    log: Log,
) -> None:
    async with quiet([worker("a", log), worker("b", log)]) as application:
        assert log.take() == ["start a", "start b"]
        assert is_alive(await running(application.supervisor, "b"))
        assert application.runtime is current_runtime()
    assert log.take() == ["stop b", "stop a"]


async def test_a_start_function_may_choose_the_strategy_and_the_name(log: Log) -> None:
    async def start() -> Pid:
        children = [worker("a", log), worker("b", log)]
        return await Supervisor.start_link(children, strategy="one_for_all", name="top")

    async with quiet(start) as application:
        assert whereis("top") is application.supervisor
        await crash("top", "b")
        assert log.names("start") == "abab"


async def test_an_error_of_the_block_arrives_as_it_is_after_an_ordered_stop(log: Log) -> None:
    with pytest.raises(ZeroDivisionError):
        async with quiet([worker("a", log), worker("b", log)]):
            raise ZeroDivisionError
    assert log.names("stop") == "ba"


async def test_cancelling_the_block_from_outside_still_stops_in_order(log: Log) -> None:
    with trio.move_on_after(1) as scope:
        async with quiet([worker("a", log, stop_takes=2), worker("b", log, stop_takes=2)]):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert log.names("stop") == "ba"
    assert trio.current_time() - scope.deadline == pytest.approx(4)


async def test_children_that_do_not_stop_within_the_deadline_are_killed(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    slow = worker("slow", log, shutdown=100.0, stop_takes=50.0)
    with caplog.at_level(logging.CRITICAL):
        async with quiet([worker("a", log), slow], shutdown_deadline=3.0):
            began = trio.current_time()
    assert trio.current_time() - began == pytest.approx(3.0)
    assert log.names("stop") == ""


# Start failures


async def test_a_child_that_does_not_start_is_named_and_the_others_are_stopped(log: Log) -> None:
    children = [worker("a", log), worker("b", log, outcomes=Outcomes(Fail("port 80 is taken")))]
    with pytest.raises(ApplicationStartFailed) as caught:
        async with quiet(children):
            pytest.fail("the block must not run")
    assert str(caught.value) == "the application did not start: child 'b' failed: port 80 is taken"
    assert caught.value.reason == Shutdown(FailedToStartChild("b", "port 80 is taken"))
    assert log.take() == ["start a", "stop a"]


async def test_a_child_deep_down_that_does_not_start_is_named_with_the_way_to_it(log: Log) -> None:
    broken = worker("b", log, outcomes=Outcomes(ValueError("broken")))
    with pytest.raises(
        ApplicationStartFailed, match="child 'b' of 'web' failed: ValueError: broken"
    ):
        async with quiet([Supervisor.child_spec([broken], id="web")]):
            pytest.fail("the block must not run")


async def test_a_start_function_that_raises_is_a_failed_start() -> None:
    async def start() -> Pid:
        raise OSError("no route")

    with pytest.raises(ApplicationStartFailed) as caught:
        async with quiet(start):
            pytest.fail("the block must not run")
    assert caught.value.reason == Crash(OSError("no route"))


async def test_invalid_children_are_refused_as_by_any_supervisor(log: Log) -> None:
    with pytest.raises(InvalidChildSpec):
        async with quiet([worker("a", log), worker("a", log)]):
            pytest.fail("the block must not run")
    with pytest.raises(InvalidChildSpec):
        async with quiet([object()]):  # type: ignore[list-item]
            pytest.fail("the block must not run")
    assert log == []


# The end of the top supervisor


async def test_wait_fails_when_the_top_supervisor_gives_up_and_names_the_child(
    log: Log,
) -> None:
    with pytest.raises(ApplicationFailed) as caught:
        async with quiet([worker("a", log)]) as application:
            for _ in range(3):
                await crash(application.supervisor, "a")
            cast(await running(application.supervisor, "a"), BOOM.exception)
            await application.wait()
    assert str(caught.value) == (
        "the application failed: its top supervisor gave up after 3 restarts within 5 s; "
        "child 'a' ended again: RuntimeError: crash"
    )
    assert (caught.value.reason, caught.value.id) == (SHUTDOWN, "a")


async def test_wait_names_the_child_below_that_was_the_cause(log: Log) -> None:
    low = Supervisor.child_spec([worker("a", log)], id="low", max_restarts=0)

    async def start() -> Pid:
        return await Supervisor.start_link([low], max_restarts=0)

    with pytest.raises(ApplicationFailed) as caught:
        async with quiet(start) as application:
            await crash(await running(application.supervisor, "low"), "a")
            await application.wait()
    assert str(caught.value) == (
        "the application failed: its top supervisor gave up after 0 restarts within 5 s; child 'low' ended again: "
        "it gave up after 0 restarts within 5 s; child 'a' ended again: RuntimeError: crash"
    )
    assert caught.value.id == "low"


async def test_wait_fails_also_when_the_top_supervisor_gave_up_before_it_was_called(
    log: Log,
) -> None:
    async def start() -> Pid:
        return await Supervisor.start_link([worker("a", log)], max_restarts=0)

    with pytest.raises(ApplicationFailed, match="gave up"):
        async with quiet(start) as application:
            await crash(application.supervisor, "a")
            assert not is_alive(application.supervisor)
            await trio.sleep(5)
            await application.wait()


async def test_a_supervisor_below_that_gives_up_is_not_the_end(log: Log) -> None:
    spec = Supervisor.child_spec([worker("a", log)], id="low", max_restarts=0)
    async with quiet([spec]) as application:
        await crash(await running(application.supervisor, "low"), "a")
        with trio.move_on_after(5) as scope:
            await application.wait()
        assert scope.cancelled_caught


async def test_wait_fails_when_the_top_supervisor_is_killed(log: Log) -> None:
    with pytest.raises(ApplicationFailed) as refused:
        async with quiet([worker("a", log)]) as application:
            kill(application.supervisor)
            await application.wait()
    assert refused.value.reason is KILLED


async def test_a_supervisor_below_that_gave_up_is_not_blamed_for_the_end_of_the_top(
    log: Log,
) -> None:
    spec = Supervisor.child_spec([worker("a", log)], id="low", max_restarts=0)
    with pytest.raises(ApplicationFailed, match="KILLED") as caught:
        async with quiet([spec]) as application:
            await crash(await running(application.supervisor, "low"), "a")
            kill(application.supervisor)
            await application.wait()
    assert caught.value.id is None


async def test_a_top_supervisor_that_shuts_down_with_its_significant_child_is_no_failure(
    log: Log,
) -> None:
    job = worker("job", log, restart="transient", significant=True)

    async def start() -> Pid:
        return await Supervisor.start_link([job], auto_shutdown="any_significant")

    async with quiet(start) as application:
        cast(await running(application.supervisor, "job"), Stop(NORMAL))
        await application.wait()
    assert log.take() == ["start job", "stop job"]


async def test_stop_ends_every_wait_and_nothing_stops_before_the_block_is_left(log: Log) -> None:
    async with quiet([worker("a", log)]) as application:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(application.wait)
            nursery.start_soon(application.wait)
            await settle()
            application.stop()
        await application.wait()
        assert log.names("stop") == ""
    assert log.names("stop") == "a"


async def test_kill_ends_every_process_at_once_and_runs_no_terminate(log: Log) -> None:
    async with quiet([worker("a", log), worker("b", log)]) as application:
        stranger = spawn(receive)
        application.kill()
        await application.wait()
        await settle()
        assert not is_alive(stranger)
        assert application.runtime.processes() == []
    assert log.names("stop") == ""


# serve


async def test_serve_returns_when_the_top_supervisor_ends_cleanly_and_calls_on_started(
    log: Log,
) -> None:
    job = worker("job", log, restart="temporary", significant=True)
    tops: list[Pid] = []

    async def start() -> Pid:
        return await Supervisor.start_link([job], auto_shutdown="all_significant")

    async def finish() -> None:
        await settle()
        assert log.names("start") == "job"
        kill(await running(tops[0], "job"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve, start, on_started=tops.append, signals=(), log=False))
        nursery.start_soon(finish)
    assert len(tops) == 1


async def test_serve_stops_in_order_when_it_is_cancelled(log: Log) -> None:
    with trio.move_on_after(1):
        await serve([worker("a", log), worker("b", log)], signals=(), log=False)
    assert log.names("stop") == "ba"


async def test_an_error_of_on_started_stops_the_application_in_order(log: Log) -> None:
    def broken(top: Pid) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await serve([worker("a", log)], on_started=broken, signals=(), log=False)
    assert log.names("stop") == "a"


# The switch that signals press


class SlowToStart(GenServer[None]):
    async def init(self, seconds: float) -> None:
        trap_exits()
        await trio.sleep(seconds)


def pressed_while_starting(switch: _Switch, times: list[float]) -> Any:
    """Run an application whose second child takes ten seconds to start, with signals at these times."""

    async def press() -> None:
        for time in times:
            await trio.sleep_until(time)
            switch.press(2)

    async def top() -> Pid:
        trio.lowlevel.spawn_system_task(press)
        children = [
            process_spec(trio.sleep_forever, id="first"),
            ChildSpec("slow", SlowToStart.start_link, (10.0,)),
        ]
        return await Supervisor.start_link(children)

    return _open(switch, _Options(top, 20.0, 5.0, False, None))


async def test_a_signal_during_the_start_lets_it_finish_and_then_stops() -> None:
    began = trio.current_time()
    switch = _Switch(20.0)
    async with pressed_while_starting(switch, [began + 1]) as application:
        assert isinstance(application, Application)
        assert trio.current_time() - began == pytest.approx(10)
        await application.wait()
    assert trio.current_time() - began == pytest.approx(10)
    assert switch.killed_by is None


async def test_a_signal_before_the_start_lets_it_start_and_then_stops() -> None:
    began = trio.current_time()
    switch = _Switch(20.0)
    switch.press(2)
    async with pressed_while_starting(switch, []) as application:
        await application.wait()
    assert trio.current_time() - began == pytest.approx(10)


async def test_a_start_after_a_signal_has_the_shutdown_deadline() -> None:
    began = trio.current_time()
    switch = _Switch(3.0)
    with pytest.raises(ApplicationStartFailed, match="a signal came before it had started"):
        async with pressed_while_starting(switch, [began + 1]):
            pytest.fail("the block must not run")
    assert trio.current_time() - began == pytest.approx(4)


async def test_a_second_signal_during_the_start_kills_at_once() -> None:
    began = trio.current_time()
    switch = _Switch(20.0)
    with pytest.raises(ApplicationKilled):
        async with pressed_while_starting(switch, [began + 1, began + 2]):
            pytest.fail("the block must not run")
    assert trio.current_time() - began == pytest.approx(2)


async def test_nothing_of_an_application_outlives_its_block(log: Log) -> None:
    async with quiet([worker("a", log)]) as application:
        supervisor = application.supervisor
    assert not is_alive(supervisor)
    assert application.runtime.statistics()["processes"] == 0
    assert application.runtime.statistics()["timers"] == 0
    with pytest.raises(NoProcess):
        await Supervisor.which_children(supervisor)
