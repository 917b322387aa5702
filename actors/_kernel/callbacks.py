"""Telling the instruments that a callback is about to run, where there are any.

Whoever runs callbacks asks `runtime.instruments` first, which is all that a runtime without instruments pays, and
then awaits what `starting` returns, if it returns something.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from actors._kernel.process import Process
from actors.errors import ProcessKilled

if TYPE_CHECKING:
    from actors.instrumentation.instrument import Instrument

__all__ = ["is_server", "serves", "starting"]

F = TypeVar("F", bound=Callable[..., Any])

_loops: list[Callable[..., Any]] = []


def serves(function: F) -> F:
    """Mark what the process of a server runs: its callbacks are announced one by one, not as `run` and `receive`."""
    _loops.append(function)
    return function


def is_server(process: Process) -> bool:
    """Whether a process is a server."""
    return process.function in _loops


def starting(process: Process, callback: str, message: Any) -> Awaitable[None] | None:
    """Tell every instrument, in order; return what is to be awaited before the callback may run, if there is something.

    Raises:
        ProcessKilled: the process has accepted a fatal exit signal meanwhile, so the callback may not run at all.
    """
    instruments = process.runtime.callback_instruments
    for position, instrument in enumerate(instruments):
        if process.dying:
            break
        wait = instrument.callback_started(process.pid, callback, message)
        if wait is not None:
            return _await(wait, instruments[position + 1 :], process, callback, message)
    if process.dying:
        raise ProcessKilled(process.reason)
    return None


async def _await(
    wait: Awaitable[None],
    others: tuple[Instrument, ...],
    process: Process,
    callback: str,
    message: Any,
) -> None:
    await wait
    for instrument in others:
        # Whoever was killed while it was held up begins nothing, and nobody is told that it does.
        if process.dying:
            break
        following = instrument.callback_started(process.pid, callback, message)
        if following is not None:
            await following
    if process.dying:
        raise ProcessKilled(process.reason)
