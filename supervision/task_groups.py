"""Waiting for several tasks at once: until all have finished, or for a while.

    pages = await await_many([Task.async_(fetch, url) for url in urls], timeout=30)

For more items than there should be tasks at a time, use `async_stream`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

import trio

from actors.exits import NOPROC
from actors.messages import Down
from actors.process import receive
from actors.refs import Ref
from supervision.child_spec import BRUTAL_KILL
from supervision.task import Exited, Outcome, Task, TaskReply, give_up
from supervision.task_errors import BadTaskOption, TaskExit, TaskTimeout

__all__ = ["await_many", "yield_many"]

T = TypeVar("T")

_ON_TIMEOUT = ("nothing", "ignore", "kill_task")


async def await_many(tasks: Iterable[Task[T]], *, timeout: float = 5.0) -> list[T]:
    """Wait for several tasks, and return their results in the order of the tasks.

        total = sum(await await_many([Task.async_(price, item) for item in basket]))

    Args:
        tasks: all of them started by the current process.
        timeout: in seconds, for all of them together.

    Raises:
        TaskExit: one of them ended without a result; those of the others are given up.
        TaskTimeout: not all have ended in time; the results of all are given up.
        NotTaskOwner: one of them belongs to another process.

    As with one task, giving up stops nobody; an error that is not caught does, over the links. Elixir's
    `Task.await_many`.
    """
    tasks = list(tasks)
    for task in tasks:
        task._check_owner()
        if task._taken:
            raise TaskExit(task, NOPROC)
    waiting = {task.ref: task for task in tasks}
    values: dict[Ref, T] = {}
    deadline = trio.current_time() + timeout
    try:
        while waiting:
            message = await _receive_about(waiting, deadline)
            values[message.ref] = waiting.pop(message.ref)._value(message)
    except trio.TooSlowError:
        raise TaskTimeout(next(iter(waiting.values())), timeout) from None
    finally:
        if waiting:
            await give_up(waiting.values())
    return [values[task.ref] for task in tasks]


async def yield_many(
    tasks: Iterable[Task[T]],
    *,
    limit: int | None = None,
    timeout: float = 5.0,
    on_timeout: Literal["nothing", "ignore", "kill_task"] = "nothing",
) -> list[tuple[Task[T], Outcome[T] | None]]:
    """Wait for several tasks, but not for ever; that one of them fails is no error.

        for task, outcome in await yield_many(tasks, timeout=1, on_timeout="kill_task"):
            match outcome:
                case Ok(value):
                    print(value)
                case Exited(reason):
                    print("failed:", reason)
                case None:
                    print("took too long")

    Args:
        tasks: all of them started by the current process.
        limit: return as soon as so many have ended; None waits for all.
        timeout: in seconds, for all of them together.
        on_timeout: what happens to those that are still running. `"nothing"`: one may wait for them again.
            `"ignore"`: what `Task.ignore` does. `"kill_task"`: what `Task.shutdown("brutal_kill")` does.

    Returns:
        Each task with its outcome, in the order of the tasks; None where it has none.

    Raises:
        NotTaskOwner: one of them belongs to another process.
        BadTaskOption: `on_timeout` or `limit` cannot be.

    Elixir's `Task.yield_many`.
    """
    if on_timeout not in _ON_TIMEOUT:
        raise BadTaskOption(
            f"write one of {', '.join(_ON_TIMEOUT)}", option="on_timeout", value=on_timeout
        )
    if limit is not None and limit < 1:
        raise BadTaskOption("write a number of tasks, from 1", option="limit", value=limit)
    tasks = list(tasks)
    waiting: dict[Ref, Task[T]] = {}
    outcomes: dict[Ref, Outcome[T] | None] = {}
    for task in tasks:
        task._check_owner()
        if task._taken:
            outcomes[task.ref] = Exited(NOPROC)
        else:
            waiting[task.ref] = task
    wanted = len(tasks) if limit is None else limit
    deadline = trio.current_time() + timeout
    try:
        while waiting and len(outcomes) < wanted:
            message = await _receive_about(waiting, deadline)
            outcomes[message.ref] = waiting.pop(message.ref)._outcome(message)
    except trio.TooSlowError:
        pass
    for task in waiting.values():
        if on_timeout == "ignore":
            outcomes[task.ref] = await task.ignore()
        elif on_timeout == "kill_task":
            outcomes[task.ref] = await task.shutdown(BRUTAL_KILL)
    return [(task, outcomes.get(task.ref)) for task in tasks]


async def _receive_about(waiting: Mapping[Ref, object], deadline: float) -> Any:
    return await receive(
        lambda m: (type(m) is TaskReply or type(m) is Down) and m.ref in waiting,
        timeout=max(0.0, deadline - trio.current_time()),
    )
