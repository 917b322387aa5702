"""Tells of joins that are still under way after the time that clients wait for them."""

from __future__ import annotations

import inspect
import traceback
from typing import TYPE_CHECKING

import trio

from actors.refs import TimerRef
from actors.runtime import current_runtime
from channels.telemetry import CHANNEL_JOIN_SLOW

if TYPE_CHECKING:
    from channels.channel import Channel

__all__ = ["watch_join"]


def watch_join(channel: Channel) -> TimerRef | None:
    """Tell, once, if the join that the current task is about to run takes longer than `channel.slow_join`.

    Returns:
        The timer, for `runtime.timers.forget` when the join is over; None if nobody wants to know.
    """
    seconds = channel.slow_join
    if seconds is None:
        return None
    runtime, task = current_runtime(), trio.lowlevel.current_task()

    def tell() -> None:
        services = channel.endpoint._services
        if services is not None:
            services.count(CHANNEL_JOIN_SLOW)
        if runtime.telemetry.handlers(CHANNEL_JOIN_SLOW):
            runtime.telemetry.execute(
                CHANNEL_JOIN_SLOW,
                {"duration": seconds},
                {
                    "endpoint": channel.endpoint,
                    "channel": channel,
                    "stack": _stack(task, type(channel)),
                },
            )

    return runtime.timers.at(trio.current_time() + seconds, tell)


def _stack(task: trio.lowlevel.Task, channel: type[Channel]) -> list[str]:
    """Where a task waits, as lines: from the channel's `join` inwards."""
    frames = list(task.iter_await_frames())
    code = getattr(inspect.unwrap(channel.join), "__code__", None)
    start = next((n for n, (frame, _) in enumerate(frames) if frame.f_code is code), 0)
    return traceback.format_list(traceback.StackSummary.extract(iter(frames[start:])))
