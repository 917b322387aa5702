"""Waiting for several tasks at once: until all have finished, or for a while.

    pages = await await_many([Task.async_(fetch, url) for url in urls], timeout=30)

For more items than there should be tasks at a time, use `async_stream`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, Literal, TypeVar, final

import trio

from actors.exits import NOPROC
from actors.messages import Down
from actors.process import is_alive, receive
from actors.refs import Ref
from supervision.child_spec import BRUTAL_KILL
from supervision.tasks.errors import BadTaskOption, TaskExit, TaskTimeout
from supervision.tasks.task import Exited, Outcome, Task, TaskReply, give_up

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
    ends = _Ends(tasks, timeout)
    values: dict[Ref, T] = {}
    try:
        while ends.waiting:
            task, message = await ends.next()
            values[task.ref] = task._value(message)
    except trio.TooSlowError:
        raise TaskTimeout(next(iter(ends.waiting.values())), timeout) from None
    finally:
        if ends.waiting:
            await give_up(ends.waiting.values())
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
        on_timeout: what happens to those that are still running, those whose results were given up included.
            `"nothing"`: one may wait for them again. `"ignore"`: what `Task.ignore` does. `"kill_task"`: what
            `Task.shutdown("brutal_kill")` does.

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
    for task in tasks:
        task._check_owner()
    outcomes: dict[Ref, Outcome[T] | None] = {
        task.ref: Exited(NOPROC) for task in tasks if task._taken
    }
    ends = _Ends([task for task in tasks if not task._taken], timeout)
    wanted = len(tasks) if limit is None else limit
    try:
        while ends.waiting and len(outcomes) < wanted:
            task, message = await ends.next()
            outcomes[task.ref] = task._outcome(message)
    except trio.TooSlowError:
        pass
    if on_timeout != "nothing":
        given_up = [task for task in tasks if task._taken and task.pid and is_alive(task.pid)]
        for task in (*given_up, *ends.waiting.values()):
            outcome = await (
                task.ignore() if on_timeout == "ignore" else task.shutdown(BRUTAL_KILL)
            )
            outcomes.setdefault(task.ref, outcome)
    return [(task, outcomes.get(task.ref)) for task in tasks]


@final
class _Ends(Generic[T]):
    """The messages about several tasks, as they come."""

    __slots__ = ("_deadline", "_lost", "waiting")

    def __init__(self, tasks: Iterable[Task[T]], timeout: float) -> None:
        self._deadline = trio.current_time() + timeout
        # The tasks of which nothing was heard yet.
        self.waiting = {task.ref: task for task in tasks}
        # Those among them of which no message can enter the mailbox any more. It may be there, or the owner has
        # received it by itself; then waiting for it would be in vain.
        self._lost = {ref: None for ref, task in self.waiting.items() if not task._is_awaited()}

    async def next(self) -> tuple[Task[T], Any]:
        """Return the next task that has ended, and a message about it.

        Raises:
            trio.TooSlowError: the time is up.
        """
        left = 0.0 if self._lost else max(0.0, self._deadline - trio.current_time())
        try:
            message = await receive(self._concerns, timeout=left)
        except trio.TooSlowError:
            if not self._lost:
                raise
            ref = next(iter(self._lost))
            message = Down(ref, self.waiting[ref].pid, NOPROC)
        self._lost.pop(message.ref, None)
        return self.waiting.pop(message.ref), message

    def _concerns(self, message: object) -> bool:
        return (type(message) is TaskReply or type(message) is Down) and message.ref in self.waiting
