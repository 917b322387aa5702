"""Agents: processes that keep a value, and do with it what others tell them.

    stock = await Agent.start_link(dict)
    await Agent.update(stock, lambda goods: {**goods, "apples": 3})
    await Agent.get(stock, lambda goods: goods["apples"])       # 3

A server knows what may be done with its state; an agent lets everybody say so: a request is a function, which runs in
the agent's process. That is right for a value that a few functions of one module share. As soon as there are rules
about the value, or something happens by itself, write a `GenServer`: the rules then stand in one place.

The rules are those of Elixir's Agent, which is a GenServer, as this one is.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar, final

from attrs import frozen

from actors.errors import InvalidReturn
from actors.exits import NORMAL, ExitReason
from actors.servers import gen_server
from actors.servers.gen_server import GenServer, Sender
from actors.servers.results import Reply

__all__ = ["Agent"]

T = TypeVar("T")


@frozen
class _Request:
    """A function for the agent to run on its value, with further arguments."""

    kind: str
    function: Callable[..., Any]
    args: tuple[Any, ...]


class Agent(GenServer[Any]):
    """A process that keeps a value. Everything is said to it through the static methods.

        counter = await Agent.start_link(lambda: 0, name="counter")
        await Agent.update("counter", lambda count: count + 1)
        await Agent.get_and_update("counter", lambda count: (count, 0))      # 1

    `start_link(function, *args, name=...)` (and `start`, without the link) makes the value, in the new process, with
    `function(*args)`, and returns when that is done; what it raises is a StartError, and reaches the caller over the
    link as the failure of any init does.

    Functions are plain ones: an agent that waited would make everybody wait. They run one after another, in the agent,
    so a slow one holds up all others; and what one raises ends the agent, because nobody knows any more what the value
    is worth. The caller gets ServerExit, with the exception in its `reason`. To let a mistake be the caller's alone,
    take the value out with `get` and compute with it there.

    What `get` returns is not copied: a mutable value that is returned as a whole is shared, which is what agents are
    there to avoid. Return what is needed of it.
    """

    @final
    async def init(self, function: Callable[..., Any], *args: Any) -> None:
        self.state = _run(_plain(function), *args)

    @staticmethod
    async def get(agent: object, function: Callable[..., T], *args: Any, timeout: float = 5.0) -> T:
        """Return `function(value, *args)`, computed in the agent.

        Args:
            agent: a pid or a name.
            function: a plain function of the value.
            *args: further arguments for it.
            timeout: seconds to wait for the answer.

        Raises:
            ServerExit: the agent ended first, maybe because the function raised.
            CallTimeout: no answer in time. The agent will still run the function.
            NoProcess: there is no such agent.
            TypeError: the function is async.
        """
        result: T = await _ask(agent, "get", function, args, timeout)
        return result

    @staticmethod
    async def update(
        agent: object, function: Callable[..., object], *args: Any, timeout: float = 5.0
    ) -> None:
        """Replace the value with `function(value, *args)`, and wait until it is done. Raises what `get` does."""
        await _ask(agent, "update", function, args, timeout)

    @staticmethod
    async def get_and_update(
        agent: object,
        function: Callable[..., tuple[T, Any]],
        *args: Any,
        timeout: float = 5.0,
    ) -> T:
        """Do both in one step: `function(value, *args)` returns what to answer and the new value.

            ticket = await Agent.get_and_update(queue, lambda next_one: (next_one, next_one + 1))

        Raises what `get` does. A function that does not return a pair ends the agent with InvalidReturn.
        """
        result: T = await _ask(agent, "get_and_update", function, args, timeout)
        return result

    @staticmethod
    def cast(agent: object, function: Callable[..., object], *args: Any) -> None:
        """Replace the value with `function(value, *args)` some time soon. Never waits; an unknown agent is no error."""
        gen_server.cast(agent, _Request("update", _plain(function), args))

    @staticmethod
    async def stop(
        agent: object, reason: ExitReason = NORMAL, *, timeout: float = math.inf
    ) -> None:
        """Ask the agent to stop, and wait until it has; as `actors.servers.gen_server.stop`."""
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
        result.close()  # it would warn that it was never awaited, beside this error
        raise _waits(function)
    return result


def _waits(function: Callable[..., Any]) -> TypeError:
    return TypeError(
        f"{_name(function)} is async, and an agent does not wait; give it a plain function, or "
        "write a GenServer, whose callbacks may await"
    )


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", function))
