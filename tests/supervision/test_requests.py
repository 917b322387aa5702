"""Calls to supervisors: a call that would wait for ever is refused, and any other is answered."""

import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from actors import (
    Crash,
    GenServer,
    Pid,
    Reply,
    Shutdown,
    StartError,
    call,
    is_alive,
    spawn,
    spawn_link,
    stop,
    trap_exits,
    wait_exit,
)
from actors.runtime import Runtime
from supervision import (
    ChildSpec,
    ChildStartFailed,
    DynamicSupervisor,
    SupervisionError,
    Supervisor,
    SupervisorDeadlock,
    child_spec,
    process_spec,
)
from supervision._requests import children_of, kind_of

Question = Callable[[], Awaitable[object]]


class Asks(GenServer[None]):
    """A worker that sends a request when it starts or stops, and records the answer."""

    async def init(
        self,
        *,
        first: Question | None = None,
        last: Question | None = None,
        answers: list[object] | None = None,
    ) -> None:
        trap_exits()
        self.last = last
        self.answers = answers if answers is not None else []
        if first is not None:
            self.answers.append(await first())

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        return Reply(await request())

    async def terminate(self, reason: Any) -> None:
        if self.last is not None:
            try:
                self.answers.append(await self.last())
            except SupervisorDeadlock as error:
                self.answers.append(error)


def asks(**kwargs: Any) -> ChildSpec:
    return child_spec(Asks, id="asks", kwargs=kwargs, shutdown=60.0)


async def which_top() -> object:
    return await Supervisor.which_children("top")


async def test_a_child_that_calls_its_supervisor_in_init_fails_with_the_reason(
    runtime: Runtime,
) -> None:
    with trio.fail_after(1), pytest.raises(StartError) as caught:
        await Supervisor.start([asks(first=which_top)], name="top")
    reason = caught.value.reason
    assert isinstance(reason, Shutdown)
    crash = reason.detail.reason  # type: ignore[attr-defined]
    assert isinstance(crash, Crash)
    error = crash.exception
    assert isinstance(error, SupervisorDeadlock)
    assert (error.id, error.phase) == ("asks", "start")
    assert "handle_continue" in str(error)


async def test_every_request_to_every_kind_of_supervisor_is_checked(
    runtime: Runtime,
) -> None:
    supervisor = await Supervisor.start([], name="top")
    pool = await DynamicSupervisor.start(name="pool")
    questions: list[Question] = [
        which_top,
        lambda: Supervisor.count_children("top"),
        lambda: Supervisor.start_child(supervisor, asks()),
        lambda: Supervisor.restart_child(supervisor, "asks"),
        lambda: Supervisor.terminate_child(supervisor, "asks"),
        lambda: Supervisor.delete_child(supervisor, "asks"),
        lambda: Supervisor.get_childspec(supervisor, "asks"),
    ]
    for question in questions:
        with trio.fail_after(1), pytest.raises(ChildStartFailed, match="neither could continue"):
            await Supervisor.start_child(supervisor, asks(first=question))
    questions = [
        lambda: DynamicSupervisor.which_children(pool),
        lambda: DynamicSupervisor.count_children("pool"),
        lambda: DynamicSupervisor.start_child(pool, asks()),
    ]
    for question in questions:
        with trio.fail_after(1), pytest.raises(StartError, match="neither could continue"):
            await DynamicSupervisor.start_child(pool, asks(first=question))


async def test_a_child_that_calls_its_supervisor_in_terminate_gets_the_error(
    runtime: Runtime,
) -> None:
    answers: list[Any] = []
    supervisor = await Supervisor.start([asks(last=which_top, answers=answers)], name="top")
    with trio.fail_after(1):
        await stop(supervisor)
    [error] = answers
    assert isinstance(error, SupervisorDeadlock)
    assert (error.supervisor, error.phase, error.id) == (supervisor, "stop", "asks")


async def test_a_call_to_a_dynamic_supervisor_that_stops_the_caller_is_refused(
    runtime: Runtime,
) -> None:
    answers: list[Any] = []
    pool = await DynamicSupervisor.start(name="pool")
    spec = asks(last=lambda: DynamicSupervisor.count_children("pool"), answers=answers)
    pids = [await DynamicSupervisor.start_child(pool, spec) for _ in range(3)]
    with trio.fail_after(1):
        await DynamicSupervisor.terminate_child(pool, pids[0])
        await stop(pool)
    assert [type(answer) for answer in answers] == [SupervisorDeadlock] * 3


async def test_a_chain_of_supervisors_that_wait_for_each_other_is_recognised(
    runtime: Runtime,
) -> None:
    with trio.fail_after(1), pytest.raises(StartError, match="neither could continue"):
        await Supervisor.start(
            [Supervisor.child_spec([asks(first=which_top)], id="middle")], name="top"
        )
    answers: list[Any] = []
    top = await Supervisor.start(
        [Supervisor.child_spec([asks(last=which_top, answers=answers)], id="middle")], name="top"
    )
    with trio.fail_after(1):
        await stop(top)
    [error] = answers
    assert isinstance(error, SupervisorDeadlock)
    assert (error.supervisor, error.id) == (top, "middle")


async def test_a_running_child_may_call_its_supervisor(runtime: Runtime) -> None:
    supervisor = await Supervisor.start([asks()], name="top")
    [info] = await Supervisor.which_children(supervisor)
    with trio.fail_after(1):
        assert await call(info.pid, which_top) == [info]


async def test_a_running_child_may_call_while_a_sibling_starts_or_stops(runtime: Runtime) -> None:
    supervisor = await Supervisor.start([asks()], name="top")
    [info] = await Supervisor.which_children(supervisor)

    async def slow() -> Pid:
        await trio.sleep(1)
        return spawn_link(trio.sleep_forever)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(Supervisor.start_child, supervisor, ChildSpec("slow", slow))
        await trio.sleep(0.5)
        counted = await call(info.pid, lambda: Supervisor.count_children("top"))
    assert counted.active == 2
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Supervisor.terminate_child, supervisor, "slow")
        counted = await call(info.pid, lambda: Supervisor.count_children("top"))
    assert counted.specs == 2


async def test_other_processes_and_plain_tasks_wait_for_a_busy_supervisor(
    runtime: Runtime,
) -> None:
    supervisor = await Supervisor.start([], name="top")
    counts: list[object] = []

    async def slow() -> Pid:
        await trio.sleep(1)
        return spawn_link(trio.sleep_forever)

    async def ask() -> None:
        counts.append((await Supervisor.count_children(supervisor)).active)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(Supervisor.start_child, supervisor, ChildSpec("slow", slow))
        await trio.sleep(0.5)
        nursery.start_soon(ask)
        await wait_exit(spawn(ask))
    assert counts == [1, 1]


async def test_a_child_of_another_supervisor_may_call_this_one_in_its_init(
    runtime: Runtime,
) -> None:
    await Supervisor.start([], name="top")
    answers: list[object] = []
    other = await Supervisor.start([asks(first=which_top, answers=answers)])
    assert is_alive(other)
    assert answers == [[]]


async def test_a_helper_of_a_starting_child_may_call_the_supervisor_above(
    runtime: Runtime,
) -> None:
    counts: list[object] = []

    async def helper() -> None:
        counts.append((await Supervisor.count_children("top")).active)

    class Parent(GenServer[None]):
        async def init(self) -> None:
            spawn(helper)
            await trio.sleep(1)

    await Supervisor.start([Parent], name="top")
    await trio.testing.wait_all_tasks_blocked()
    assert counts == [1]


async def test_nothing_is_kept_about_supervisors_that_have_ended(runtime: Runtime) -> None:
    supervisor = await Supervisor.start([DynamicSupervisor])
    below = next(child.pid for child in children_of(supervisor))
    assert isinstance(below, Pid)
    assert (kind_of(supervisor), kind_of(below)) == ("one_for_one", "dynamic")
    await stop(supervisor)
    assert (kind_of(supervisor), kind_of(below)) == (None, None)
    assert children_of(supervisor) == []


async def test_the_traceback_of_a_refusal_has_no_frames_of_the_supervisor(runtime: Runtime) -> None:
    fixed, pool = await Supervisor.start([]), await DynamicSupervisor.start(max_children=0)
    for refused in (
        Supervisor.terminate_child(fixed, "absent"),
        DynamicSupervisor.start_child(pool, process_spec(trio.sleep_forever)),
    ):
        with pytest.raises(SupervisionError) as caught:
            await refused
        frames = traceback.extract_tb(caught.value.__traceback__)
        assert frames[-1].name == "ask"
