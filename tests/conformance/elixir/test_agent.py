"""Elixir's agent_test, and the promises of its documentation."""

import operator
from typing import Any

import pytest
import trio

from actors import (
    Agent,
    CallTimeout,
    Crash,
    InvalidReturn,
    ServerExit,
    StartError,
    current_pid,
    is_alive,
    kill,
    monitor,
    spawn_monitor,
    sys,
    whereis,
)
from supervision import Supervisor, child_spec
from tests.actors.helpers import down, in_process, settle


@in_process()
async def test_an_agent_is_supervised_like_any_server() -> None:
    spec = child_spec(Agent, lambda: 42, kwargs={"name": "answer"})
    assert spec.id == "answer"
    assert child_spec(Agent, lambda: 42).id == "Agent"
    await Supervisor.start_link([spec])
    assert await Agent.get("answer", lambda value: value) == 42
    await Agent.update("answer", lambda value: 0)
    first = whereis("answer")
    assert first is not None
    ref = monitor(first)
    kill(first)
    await down(ref)
    await settle()
    assert await Agent.get("answer", lambda value: value) == 42


@in_process()
async def test_an_agent_works_with_lambdas() -> None:
    pid = await Agent.start_link(dict)
    await Agent.update(pid, lambda value: value | {"hello": "world"})
    assert await Agent.get(pid, lambda value: value["hello"]) == "world"
    assert await Agent.get_and_update(pid, lambda value: (value.get("hello"), {})) == "world"
    assert await Agent.get(pid, lambda value: value) == {}
    Agent.cast(pid, lambda value: value | {"hello": "again"})
    assert await sys.get_state(pid) == {"hello": "again"}
    ref = monitor(pid)
    await Agent.stop(pid)
    assert (await down(ref)).pid is pid


def pair(value: int, change: int) -> tuple[int, int]:
    return value, value + change


@in_process()
async def test_a_named_agent_works_with_functions_of_a_module() -> None:
    pid = await Agent.start(operator.add, 20, 1, name="number")
    assert whereis("number") is pid
    assert await Agent.get("number", operator.mul, 2) == 42
    await Agent.update("number", operator.sub, 1)
    Agent.cast("number", operator.mul, 2)
    assert await Agent.get_and_update("number", pair, 2) == 40
    assert await Agent.get("number", abs) == 42
    await Agent.stop("number")
    assert whereis("number") is None


@in_process()
async def test_functions_run_in_the_agent_one_after_another() -> None:
    pid = await Agent.start_link(current_pid)
    assert await Agent.get(pid, lambda value: (value, current_pid())) == (pid, pid)
    await Agent.update(pid, lambda value: [])
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(Agent.update, pid, lambda value, new: [*value, new], number)
    assert sorted(await Agent.get(pid, lambda value: value)) == list(range(20))


def fail(*args: object) -> Any:
    raise KeyError("asked to")


@pytest.mark.parametrize("verb", [Agent.get, Agent.update, Agent.get_and_update])
@in_process()
async def test_a_function_that_raises_ends_the_agent_and_the_call(verb: Any) -> None:
    pid = await Agent.start(lambda: 42)
    ref = monitor(pid)
    with pytest.raises(ServerExit) as caught:
        await verb(pid, fail)
    assert caught.value.reason == (await down(ref)).reason == Crash(KeyError("asked to"))


@in_process()
async def test_a_cast_function_that_raises_ends_the_agent() -> None:
    pid = await Agent.start(lambda: 42)
    ref = monitor(pid)
    Agent.cast(pid, fail)
    assert (await down(ref)).reason == Crash(KeyError("asked to"))
    Agent.cast(pid, fail)


@pytest.mark.parametrize("result", [42, (1, 2, 3), [1, 2], None])
@in_process()
async def test_get_and_update_requires_a_pair(result: Any) -> None:
    pid = await Agent.start(lambda: 42)
    with pytest.raises(ServerExit) as caught:
        await Agent.get_and_update(pid, lambda value: result)
    reason = caught.value.reason
    assert isinstance(reason, Crash)
    assert isinstance(reason.exception, InvalidReturn)
    assert reason.exception.got == result
    assert "it may return a pair: the answer, and the new value" in str(reason.exception)


@in_process()
async def test_an_update_that_timed_out_still_happens() -> None:
    pid = await Agent.start_link(lambda: 0)
    await sys.suspend(pid)
    with pytest.raises(CallTimeout):
        await Agent.update(pid, lambda value: value + 1, timeout=1)
    await sys.resume(pid)
    assert await Agent.get(pid, lambda value: value) == 1


@in_process()
async def test_an_agent_whose_first_function_fails_does_not_start() -> None:
    with pytest.raises(StartError) as caught:
        await Agent.start(fail)
    assert caught.value.reason == Crash(KeyError("asked to"))

    async def start_linked() -> None:
        await Agent.start_link(fail)

    _, ref = spawn_monitor(start_linked)
    assert (await down(ref)).reason == Crash(KeyError("asked to"))


@in_process()
async def test_start_returns_when_the_value_is_ready() -> None:
    made: list[int] = []
    pid = await Agent.start_link(made.append, 1)
    assert made == [1]
    assert is_alive(pid)
