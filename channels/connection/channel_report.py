"""Reports about channels: their state in crash reports and `sys.get_status`, and joins that take too long.

The endpoint's `filter_parameters` filters the state. An object of an unknown class is shown by the name of its class
alone, because its content cannot be filtered.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import inspect
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any

import attrs
import msgspec
import trio

from actors.refs import Pid, Ref, TimerRef
from actors.runtime import current_runtime
from channels.channel import Channel
from channels.filters import FilterRule, filter_parameters
from channels.messages import Binary
from channels.telemetry import CHANNEL_JOIN_SLOW

__all__ = ["channel_state", "kept_payload", "watch_join"]

_PLAIN = (
    bool,
    int,
    float,
    str,
    enum.Enum,
    decimal.Decimal,
    uuid.UUID,
    dt.date,
    dt.time,
    dt.timedelta,
    Pid,
    Ref,
)
# The most items of one container, and the deepest nesting: people read these reports.
_MOST = 50
_DEEPEST = 8

# A client chooses the payload of its join, and it is kept for as long as the channel lives. So it must be small.
_KEPT_VALUES = 100
_KEPT_CHARACTERS = 2_000

_MACHINERY = frozenset(("topic", "assigns", "endpoint", "_context"))


def channel_state(channel: Channel, payload: Any, rule: FilterRule) -> dict[str, Any]:
    """Describe a channel for a report.

    Args:
        channel: the channel, as it is now.
        payload: what its client joined with, as `kept_payload` returned it.
        rule: of the endpoint.
    """
    attributes = {name: each for name, each in vars(channel).items() if name not in _MACHINERY}
    return {
        "topic": channel.topic,
        "assigns": filter_parameters(_showable(channel.assigns), rule),
        "attributes": filter_parameters(_showable(attributes), rule),
        "join payload": filter_parameters(_showable({} if payload is None else payload), rule),
    }


def kept_payload(payload: Any) -> Any:
    """Return a join's payload if it is small, to keep it for reports."""
    if not payload and isinstance(payload, dict):
        # Most joins send an empty object, and None takes no memory.
        return None
    return payload if _is_small(payload) else "<too large to be kept>"


def _is_small(payload: Any) -> bool:
    values, characters, todo = 0, 0, [payload]
    while todo:
        each = todo.pop()
        values += 1
        if isinstance(each, dict):
            characters += sum(map(len, islice(each, _KEPT_VALUES)))
            todo.extend(islice(each.values(), _KEPT_VALUES))
        elif isinstance(each, list):
            todo.extend(islice(each, _KEPT_VALUES))
        elif isinstance(each, str):
            characters += len(each)
        elif isinstance(each, Binary):
            characters += len(each.data)
        elif isinstance(each, int):
            characters += each.bit_length() // 8
        if values + len(todo) > _KEPT_VALUES or characters > _KEPT_CHARACTERS:
            return False
    return True


def _showable(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, _PLAIN):
        return value
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    if isinstance(value, Binary):
        return f"<{len(value.data)} bytes>"
    if depth >= _DEEPEST:
        return "..."
    if isinstance(value, Mapping):
        pairs = islice(value.items(), _MOST)
        return {key: _showable(each, depth + 1) for key, each in pairs}
    if isinstance(value, list | tuple | AbstractSet):
        return [_showable(each, depth + 1) for each in islice(value, _MOST)]
    names = list(_fields(value))
    if names:
        return {name: _showable(getattr(value, name, None), depth + 1) for name in names}
    return f"<{type(value).__qualname__}>"


def _fields(value: Any) -> Iterator[str]:
    if isinstance(value, type):
        return
    if isinstance(value, msgspec.Struct):
        yield from value.__struct_fields__
    elif attrs.has(type(value)):
        yield from (each.name for each in attrs.fields(type(value)))
    elif dataclasses.is_dataclass(value):
        yield from (each.name for each in dataclasses.fields(value))


# Slow joins


def watch_join(channel: Channel, count: Callable[[tuple[str, ...]], None]) -> TimerRef | None:
    """Start a timer that reports, once, a join of the current task that takes longer than `channel.slow_join`.

    Args:
        channel: the channel that is about to join.
        count: counts the report.

    Returns:
        The timer, for `runtime.timers.forget` when the join is over; None if `slow_join` is None.
    """
    seconds = channel.slow_join
    if seconds is None:
        return None
    runtime, task = current_runtime(), trio.lowlevel.current_task()

    def report() -> None:
        count(CHANNEL_JOIN_SLOW)
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

    return runtime.timers.at(trio.current_time() + seconds, report)


def _stack(task: trio.lowlevel.Task, channel: type[Channel]) -> list[str]:
    """Return the stack of a waiting task as lines, from the channel's `join` inwards."""
    frames = list(task.iter_await_frames())
    code = getattr(inspect.unwrap(channel.join), "__code__", None)
    start = next((n for n, (frame, _) in enumerate(frames) if frame.f_code is code), 0)
    return traceback.format_list(traceback.StackSummary.extract(iter(frames[start:])))
