"""Functions that inspect or suspend a running server. The server needs no extra callback.

    print(await sys.get_state(counter))
    await sys.suspend(counter)

They work on every `GenServer`, including supervisors, agents and channels. Each function sends a request, which waits
in the server's mailbox. Each function raises the errors of `actors.call`: NoProcess if there is no such server,
ServerExit if it ended before it answered, and CallTimeout if it stayed busy too long. After a CallTimeout the server
still carries out the request. Source: OTP's `sys`.

Use them only for debugging. If other processes need a part of the state, add a request to `handle_call`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import trio

from actors.arguments import check_number
from actors.exits import NORMAL, ExitReason
from actors.servers._loop import (
    DONE,
    Debug,
    DebugEvent,
    Hook,
    Loop,
    ServerStatistics,
    ServerStatus,
    SystemFailure,
)
from actors.servers.gen_server import stop, system_call

__all__ = [
    "DONE",
    "DebugEvent",
    "ServerStatistics",
    "ServerStatus",
    "get_log",
    "get_state",
    "get_statistics",
    "get_status",
    "install",
    "log",
    "remove",
    "replace_state",
    "resume",
    "statistics",
    "suspend",
    "terminate",
    "trace",
]


async def get_state(server: object, *, timeout: float = 5.0) -> Any:
    """Return the state of a server: the object itself, not a copy.

        count = await sys.get_state(counter)

    Args:
        server: A pid or a name.
        timeout: The time limit in seconds.

    Raises:
        CallExit: The server did not answer, as for `actors.call`.
    """
    return await _ask(server, lambda loop: loop.server.state, timeout)


async def replace_state(
    server: object, function: Callable[[Any], Any], *, timeout: float = 5.0
) -> Any:
    """Replace a server's state with `function(state)`, and return the new state.

        await sys.replace_state(counter, lambda count: 0)

    The function runs in the server. If it raises, `replace_state` raises the exception, and the state does not change.

    Args:
        server: A pid or a name.
        function: A function of the old state, which returns the new state.
        timeout: The time limit in seconds.

    Returns:
        The new state: the object itself, not a copy.

    Raises:
        CallExit: The server did not answer, as for `actors.call`. After a CallTimeout, the server may still change its
            state.
    """

    def replace(loop: Loop) -> Any:
        loop.server.state = function(loop.server.state)
        return loop.server.state

    return await _ask(server, replace, timeout)


async def get_status(server: object, *, timeout: float = 5.0) -> ServerStatus:
    """Return the status of a server, redacted by its `format_status`.

    Args:
        server: A pid or a name.
        timeout: The time limit in seconds.

    Raises:
        CallExit: The server did not answer, as for `actors.call`.
    """
    status: ServerStatus = await _ask(server, lambda loop: loop.status(), timeout)
    return status


async def suspend(server: object, *, timeout: float = 5.0) -> None:
    """Stop a server from handling messages. It keeps them in its mailbox, and answers only requests of this module.

        await sys.suspend(counter)
        await sys.replace_state(counter, lambda count: 0)
        await sys.resume(counter)

    Calls to a suspended server time out, but it still carries them out after `resume`. The end of its parent still ends
    the server. A second `suspend` has no effect.

    Args:
        server: A pid or a name.
        timeout: The time limit in seconds.

    Raises:
        CallExit: The server did not answer, as for `actors.call`.
    """
    await _ask(server, Loop.suspend, timeout)


async def resume(server: object, *, timeout: float = 5.0) -> None:
    """Make a suspended server handle messages again. Does nothing to any other server.

    Args:
        server: A pid or a name.
        timeout: The time limit in seconds.

    Raises:
        CallExit: The server did not answer, as for `actors.call`.
    """
    await _ask(server, Loop.resume, timeout)


async def statistics(server: object, on: bool, *, timeout: float = 5.0) -> None:
    """Turn the statistics of a server on, from zero, or off.

    Args:
        server: A pid or a name.
        on: True starts to count, and False stops.
        timeout: The time limit in seconds.
    """

    def switch(debug: Debug) -> None:
        if on:
            debug.count_from(trio.current_time())
        else:
            debug.since = None

    await _change(server, switch, timeout)


async def get_statistics(server: object, *, timeout: float = 5.0) -> ServerStatistics | None:
    """Return a server's counters since its statistics were turned on; None if they are off.

    Args:
        server: A pid or a name.
        timeout: The time limit in seconds.
    """

    def read(loop: Loop) -> ServerStatistics | None:
        return None if loop.debug is None else loop.debug.statistics(trio.current_time())

    found: ServerStatistics | None = await _ask(server, read, timeout)
    return found


async def log(server: object, size: int | None = 10, *, timeout: float = 5.0) -> None:
    """Make a server keep its last `size` events; None turns the log off. `get_log` returns the events.

    Args:
        server: A pid or a name.
        size: The number of events to keep; None stops the log.
        timeout: The time limit in seconds.

    Raises:
        InvalidOption: `size` is below 1.
        CallExit: The server did not answer, as for `actors.call`.
    """
    if size is not None:
        check_number(
            "log", "size", size, "a number of events, 1 or more, or None for no log", least=1
        )

    def switch(debug: Debug) -> None:
        debug.log = None if size is None else deque(debug.log or (), maxlen=size)

    await _change(server, switch, timeout)


async def get_log(server: object, *, timeout: float = 5.0) -> list[DebugEvent]:
    """Return the events that a server has kept, oldest first, redacted by its `format_status`.

    Args:
        server: A pid or a name.
        timeout: The time limit in seconds.
    """
    events: list[DebugEvent] = await _ask(server, lambda loop: loop.status().log, timeout)
    return events


async def trace(
    server: object, out: Callable[[str], object] | None = print, *, timeout: float = 5.0
) -> None:
    """Make a server call `out` with a line for each event; None turns the trace off.

    Args:
        server: A pid or a name.
        out: A function that gets each line; None stops the trace.
        timeout: The time limit in seconds.
    """

    def switch(debug: Debug) -> None:
        debug.trace = out

    await _change(server, switch, timeout)


async def install(
    server: object, key: object, hook: Hook, state: Any = None, *, timeout: float = 5.0
) -> None:
    """Make a server call `hook(state, event)` for every event.

    Args:
        server: A pid or a name.
        key: The name of the hook, for `remove`. The new hook replaces a hook with the same key.
        hook: A function that returns its next state, or `DONE` to remove itself. The server also removes a hook that
            raises.
        state: The first state of the hook.
        timeout: The time limit in seconds.
    """

    def add(debug: Debug) -> None:
        debug.hooks[key] = (hook, state)

    await _change(server, add, timeout)


async def remove(server: object, key: object, *, timeout: float = 5.0) -> None:
    """Remove a hook. Does nothing if there is none.

    Args:
        server: A pid or a name.
        key: The name of the hook, as for `install`.
        timeout: The time limit in seconds.
    """
    await _change(server, lambda debug: debug.hooks.pop(key, None), timeout)


async def terminate(server: object, reason: ExitReason = NORMAL, *, timeout: float = 5.0) -> None:
    """Stop a server, suspended or not. Its `terminate` runs. See `actors.stop`."""
    await stop(server, reason, timeout=timeout)


async def _ask(server: object, request: Callable[[Loop], Any], timeout: float) -> Any:
    answer = await system_call(server, request, timeout=timeout)
    if isinstance(answer, SystemFailure):
        raise answer.error
    return answer


async def _change(server: object, change: Callable[[Debug], object], timeout: float) -> None:
    """Change the debug options of a server. If no option is on afterwards, the server drops its `Debug` object."""

    def apply(loop: Loop) -> None:
        debug = Debug() if loop.debug is None else loop.debug
        change(debug)
        loop.debug = None if debug.idle else debug

    await _ask(server, apply, timeout)
