"""Agents: processes that keep a value, to which their callers apply functions.

    stock = await Agent.start_link(dict)
    await Agent.update(stock, lambda goods: {**goods, "apples": 3})
    await Agent.get(stock, lambda goods: goods["apples"])       # 3

A server decides how its state changes. An agent lets its callers decide: a request is a function, which runs in the
agent's process. Use an agent for a value that a few functions of one module share. If there are rules for the value, or
if it changes without a request, write a `GenServer`, which keeps the rules in one place.

An agent is also a GenServer. Source: Elixir's Agent.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar, final

import msgspec

from actors.errors import InvalidReturn
from actors.exits import NORMAL, ExitReason
from actors.servers import gen_server
from actors.servers.gen_server import GenServer, Sender
from actors.servers.results import Reply

__all__ = ["Agent"]

T = TypeVar("T")


class _Request(msgspec.Struct, frozen=True):
    """A function that the agent applies to its value, with further arguments."""

    kind: str
    function: Callable[..., Any]
    args: tuple[Any, ...]


class Agent(GenServer[Any]):
    """A process that keeps a value. Use it through the static methods.

        counter = await Agent.start_link(lambda: 0, name="counter")
        await Agent.update("counter", lambda count: count + 1)
        await Agent.get_and_update("counter", lambda count: (count, 0))      # 1

    `start_link(function, *args, name=...)` calls `function(*args)` in the new process to make the value, and then
    returns. `start` does the same without a link. If the function raises, the caller gets a StartError and an exit
    signal over the link, as for any init that fails.

    Functions must not be async, because a waiting agent would make all callers wait. The agent runs one function after
    another, so a slow function delays all others. If a function raises, the agent ends, because its value may be
    damaged. The caller gets ServerExit, with the exception in `reason`. If a computation may fail, get the value with
    `get` and compute in the caller.

    `get` does not copy its result. If the function returns a mutable part of the value, the caller and the agent share
    that part. Return only the part that you need.
    """

    @final
    async def init(self, function: Callable[..., Any], *args: Any) -> None:
        self.state = _run(_plain(function), *args)

    @staticmethod
    async def get(agent: object, function: Callable[..., T], *args: Any, timeout: float = 5.0) -> T:
        """Return `function(value, *args)`, computed in the agent.

            total = await Agent.get("counter", lambda count: count)

        Args:
            agent: A pid or a name.
            function: A plain function of the value and `args`. It runs in the agent and must not wait.
            *args: Further arguments of the function.
            timeout: The time limit in seconds.

        Returns:
            The result of the function, without a copy.

        Raises:
            ServerExit: The agent ended before it answered, possibly because the function raised.
            CallTimeout: The agent did not answer in time. The agent will still run the function.
            NoProcess: There is no such agent.
            TypeError: The function is async.
        """
        result: T = await _ask(agent, "get", function, args, timeout)
        return result

    @staticmethod
    async def update(
        agent: object, function: Callable[..., object], *args: Any, timeout: float = 5.0
    ) -> None:
        """Replace the value with `function(value, *args)`, and wait until this is done. Raises the errors of `get`.

            await Agent.update("counter", lambda count, step: count + step, 5)

        Args:
            agent: A pid or a name.
            function: A function of the value and `args`, which returns the new value. It runs in the agent and must not
                wait.
            *args: Further arguments of the function.
            timeout: The time limit in seconds.
        """
        await _ask(agent, "update", function, args, timeout)

    @staticmethod
    async def get_and_update(
        agent: object,
        function: Callable[..., tuple[T, Any]],
        *args: Any,
        timeout: float = 5.0,
    ) -> T:
        """Return one value and store another: `function(value, *args)` returns the answer and the new value.

            ticket = await Agent.get_and_update(queue, lambda next_one: (next_one, next_one + 1))

        Raises the errors of `get`. If the function does not return a pair, the agent ends with InvalidReturn.

        Args:
            agent: A pid or a name.
            function: A function of the value and `args`, which returns a pair. It runs in the agent and must not wait.
            *args: Further arguments of the function.
            timeout: The time limit in seconds.

        Returns:
            The first value of the pair, without a copy.
        """
        result: T = await _ask(agent, "get_and_update", function, args, timeout)
        return result

    @staticmethod
    def cast(agent: object, function: Callable[..., object], *args: Any) -> None:
        """Replace the value with `function(value, *args)`, without waiting. Does nothing if there is no agent.

            Agent.cast("counter", lambda count: count + 1)

        If the agent ends before it runs the function, the change is lost, and the caller gets no error.

        Args:
            agent: A pid or a name.
            function: A function of the value and `args`, which returns the new value. It runs in the agent and must not
                wait.
            *args: Further arguments of the function.

        Raises:
            TypeError: The function is async.
        """
        gen_server.cast(agent, _Request("update", _plain(function), args))

    @staticmethod
    async def stop(
        agent: object, reason: ExitReason = NORMAL, *, timeout: float = math.inf
    ) -> None:
        """Stop the agent, and wait until it has ended; see `actors.servers.gen_server.stop`."""
        await gen_server.stop(agent, reason, timeout=timeout)

    # The agent's side

    @final
    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        if not isinstance(request, _Request):
            return await super().handle_call(request, sender)  # type: ignore[return-value] # it raises
        result = _run(request.function, self.state, *request.args)
        if request.kind == "get":
            return Reply(result)
        if request.kind == "update":
            self.state = result
            return Reply()
        if not isinstance(result, tuple) or len(result) != 2:
            raise InvalidReturn(
                _name(request.function), result, ("a pair: the answer, and the new value",)
            )
        answer, self.state = result
        return Reply(answer)

    @final
    async def handle_cast(self, message: Any) -> None:
        if not isinstance(message, _Request):
            await super().handle_cast(message)
            return
        self.state = _run(message.function, self.state, *message.args)


async def _ask(
    agent: object, kind: str, function: Callable[..., Any], args: tuple[Any, ...], timeout: float
) -> Any:
    return await gen_server.call(agent, _Request(kind, _plain(function), args), timeout=timeout)


def _plain(function: Callable[..., T]) -> Callable[..., T]:
    if inspect.iscoroutinefunction(function):
        raise _waits(function)
    return function


def _run(function: Callable[..., Any], *args: Any) -> Any:
    result = function(*args)
    if inspect.iscoroutine(result):
        result.close()  # the error replaces Python's warning about the coroutine
        raise _waits(function)
    return result


def _waits(function: Callable[..., Any]) -> TypeError:
    return TypeError(
        f"{_name(function)} is async, and an agent does not wait; give it a plain function, or "
        "write a GenServer, whose callbacks may await"
    )


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", function))
