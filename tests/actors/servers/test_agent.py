"""Agents where they differ from Elixir's: functions that are async, and requests that are none."""

from collections.abc import Callable
from typing import Any

import pytest

from actors import Agent, ServerExit, StartError, call, cast, monitor
from tests.actors.helpers import down, in_process


async def wait(value: int) -> int:
    return value


VERBS: dict[str, Callable[..., Any]] = {
    "get": Agent.get,
    "update": Agent.update,
    "get_and_update": Agent.get_and_update,
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=list(VERBS))
@in_process()
async def test_an_async_function_is_the_callers_mistake_and_not_the_agents_end(
    verb: Callable[..., Any],
) -> None:
    pid = await Agent.start_link(lambda: 42)
    with pytest.raises(TypeError, match=r"wait is async, and an agent does not wait"):
        await verb(pid, wait)
    with pytest.raises(TypeError, match=r"give it a plain function, or write a GenServer"):
        Agent.cast(pid, wait)
    assert await Agent.get(pid, lambda value: value) == 42


@pytest.mark.parametrize("verb", VERBS.values(), ids=list(VERBS))
@in_process()
async def test_a_coroutine_is_no_value(verb: Callable[..., Any]) -> None:
    pid = await Agent.start(lambda: 42)
    with pytest.raises(ServerExit) as caught:
        await verb(pid, lambda value: wait(value + 1))
    assert "is async, and an agent does not wait" in str(caught.value.reason)


@in_process()
async def test_an_agent_does_not_start_with_a_coroutine() -> None:
    with pytest.raises(StartError, match=r"wait is async"):
        await Agent.start(wait, 1)
    with pytest.raises(StartError, match=r"is async, and an agent does not wait"):
        await Agent.start(lambda: wait(1))


@in_process()
async def test_what_is_no_function_of_the_value_is_refused_as_by_any_server() -> None:
    pid = await Agent.start(lambda: 42)
    with pytest.raises(ServerExit) as caught:
        await call(pid, "value")
    assert "Agent was called with 'value' but has no handle_call" in str(caught.value.reason)
    other = await Agent.start(lambda: 42)
    ref = monitor(other)
    cast(other, "value")
    assert "Agent was cast 'value' but has no handle_cast" in str((await down(ref)).reason)


@in_process()
async def test_an_update_that_fails_leaves_the_value_as_it_was_for_the_report() -> None:
    seen: list[Any] = []

    class Watched(Agent):
        async def terminate(self, reason: object) -> None:
            seen.append(self.state)

    pid = await Watched.start(lambda: 42)
    with pytest.raises(ServerExit):
        await Agent.get_and_update(pid, lambda value: "no pair")  # type: ignore[return-value, arg-type] # on purpose
    assert seen == [42]
