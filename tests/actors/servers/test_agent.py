"""Agents where they differ from Elixir's: async functions, and requests that are not functions."""

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
async def test_an_async_function_raises_in_the_caller_and_the_agent_continues(
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
async def test_a_function_that_returns_a_coroutine_ends_the_agent(verb: Callable[..., Any]) -> None:
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
async def test_an_agent_refuses_plain_calls_and_casts_as_any_server_does() -> None:
    pid = await Agent.start(lambda: 42)
    with pytest.raises(ServerExit) as caught:
        await call(pid, "value")
    assert "Agent received the call 'value' but has no handle_call" in str(caught.value.reason)
    other = await Agent.start(lambda: 42)
    ref = monitor(other)
    cast(other, "value")
    assert "Agent received the cast 'value' but has no handle_cast" in str((await down(ref)).reason)


@in_process()
async def test_the_report_of_a_failed_update_shows_the_old_value() -> None:
    seen: list[Any] = []

    class Watched(Agent):
        async def terminate(self, reason: object) -> None:
            seen.append(self.state)

    pid = await Watched.start(lambda: 42)
    with pytest.raises(ServerExit):
        await Agent.get_and_update(pid, lambda value: "no pair")  # type: ignore[return-value, arg-type] # on purpose
    assert seen == [42]
