"""The format of a trace: its version, and the kinds of events with their fields and types.

Every event has these fields:

| field | type | meaning |
|---|---|---|
| `n` | int | number of the event, from 0; an omitted event keeps its number |
| `t` | float | seconds since the start of the run |
| `round` | int | round of the scheduler; 0 in a live run |
| `task` | int | number of the task that caused the event; 0 outside of tasks and in a live run |
| `kind` | str | a key of `EVENTS` |

Any event may also have `cause` and `node`. `cause` is the number of the event that caused this one. `node` is the
number of the event's runtime, or the label of its node (`a`, and `a#2` after a reboot). Events of the first runtime,
number 0, have no `node`.

An event may have `leaves`, the id of something that left this process of the operating system, such as an envelope, or
`arrives`, the id of something that arrived. An arrival comes after the event with the same id in `leaves`, which may be
in another file. `supervision.recording.reader.merging` orders the events of several files by these ids.

An `exit` field has an exit class; see `exit_class`. The field `reason` beside it is text for people. A program must not
parse `reason`, `message`, `error` or any other text.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Final, NotRequired, TypedDict

import msgspec

from actors.exits import Crash, ExitReason, Reason, Shutdown
from actors.instrumentation.instrument import callback_for, payload_of
from actors.messages import Down, Exit

__all__ = [
    "CLEAN_EXITS",
    "EVENTS",
    "SCHEMA_VERSION",
    "exit_class",
    "kind_of",
    "kind_of_content",
    "problem_of",
    "transport_of",
]

SCHEMA_VERSION: Final = 1
"""Version of the trace format. It rises when a field changes its meaning or disappears, but not for a new field."""

CLEAN_EXITS: Final = frozenset(("normal", "shutdown", "shutdown_detail"))
"""The exit classes for which a supervisor does not restart a transient child."""

# A time of day that has a date in Python, in seconds since the epoch.
_Moment = Annotated[float, msgspec.Meta(ge=0, lt=253_402_300_800)]


class _Frame(TypedDict):
    file: str
    line: int
    function: str
    source: NotRequired[str]


class _Unread(TypedDict):
    message_kind: str
    sent: int | None


_MESSAGE: Final = {"via": str, "message_kind": str, "message?": str}
_CHILD: Final = {
    "pid": int,
    "id": str,
    "component": str,
    "child": int | None,
    "restart_type?": str,
}
_LIMIT: Final = {
    "restarts": int,
    "max_restarts?": float | None,
    "max_seconds?": float | None,
    "strategy?": str,
}
_PROBLEM: Final = {"pid": int, "process": str, "reason": str, "exit": str, "error": str}
_FAULT: Final = {
    "pid": int | None,
    "path": str,
    "fault": str,
    "type": str,
    "status": str,
    "inc?": int,
    "why?": str,
}
_CONNECTION: Final = {"connection": int | str, "pid?": int | None}

EVENTS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        # The beginning of a recording of a running program, or of a live experiment. `began` is the time of day of `t`
        # 0, in seconds since the epoch. `why` is "continuous", "asked", "crash" or "experiment". `seconds` is the
        # length of the recording so far. `crash` is the number of the selected crash. `place` is the name that a worker
        # shares with its replacements. `merged` has an entry for each merged file, and `left_out` the names of the
        # files that no message joins with them. Without `receives`, there are no `received` events; the field `unread`
        # of `exited` then shows the messages that the process did not read.
        "recording": {
            "pid": None,
            "began": _Moment,
            "why": str,
            "seconds": float,
            "contents": bool,
            "receives": bool,
            "program?": str,
            "scenario?": str,
            "seed?": int,
            "params?": dict,
            "crash?": int,
            "place?": str,
            "merged?": dict,
            "left_out?": list,
        },
        # Processes. `role` is the path that a replacement has too; see `supervision.recording.places.Place`. `host` is
        # the name of the node. `before` is True for a process that lived before the recording began.
        # `waiting` is the number of unread messages of a process that ended, and `unread` describes the first 50 of
        # them: objects with `message_kind`, and `sent`, the number of the `sent` event or None.
        "spawned": {
            "pid": int,
            "parent": int,
            "path": str,
            "inc": int,
            "role": str,
            "host?": str,
            "before?": bool,
            "label?": str,
        },
        # A process changed its label with `set_label`. The label of a channel is its class and its topic.
        "labelled": {"pid": int, "label": str},
        "exited": {
            "pid": int,
            "path": str,
            "inc": int,
            "reason": str,
            "exit": str,
            "waiting?": int,
            "unread?": list[_Unread],
        },
        "signal": {"pid": int, "to": int, "reason": str, "exit": str, "linked": bool},
        # `exception` is the class of the exception, or None if the exit carried no exception. `traceback` is a list of
        # frames, the innermost last: objects with `file`, `line`, `function` and `source`.
        "crash": {
            **_PROBLEM,
            "exception": str | None,
            "traceback?": list[_Frame],
            "message_kind?": str,
        },
        "zombie": {**_PROBLEM, "exception": str | None},
        "cleanup_failed": {**_PROBLEM, "exception": str | None},
        # Messages. `via` comes from `transport_of`, `message_kind` from `kind_of`. `message` is the content of a call
        # or a cast, if contents are recorded. `size` is an estimate in bytes. A `received` event describes its message
        # only if no `sent` event is its cause. `internal` is True for a message that Ashtree's own code sent, such as
        # the request to start a child.
        "sent": {"pid": int | None, "to": int, "size?": int, "internal?": bool, **_MESSAGE},
        "received": {
            "pid": int,
            "via?": str,
            "message_kind?": str,
            "message?": str,
            "internal?": bool,
        },
        "dead_letter": {
            "pid": int | None,
            "to": str,
            "to_pid": int | None,
            "internal?": bool,
            **_MESSAGE,
        },
        # Calls. `call` is the number of the `call` event, and `sent` the number of the request's `sent` event. A
        # `call_ended` event has one of these fields. `how` is "answered", "server_ended", "timeout" or "cancelled".
        # `answer` is the answer as text.
        "call": {"pid": int | None, "to": int, "timeout": float | None},
        "call_ended": {
            "pid": int | None,
            "to": int,
            "call": int | None,
            "how": str,
            "sent?": int,
            "answer?": str,
        },
        # A call that found no process at its address.
        "call_refused": {
            "pid": int | None,
            "to": str,
            "to_pid": int | None,
            "message_kind": str,
            "message": str,
        },
        # The answer to a call came `seconds` after the caller had given up. `pid` is the server, and `to` the caller.
        # `ended` is the number of the `call_ended` event.
        "late_answer": {
            "pid": int,
            "to": int | None,
            "ended?": int | None,
            "how": str,
            "seconds": float,
        },
        # `length` is the number of waiting messages when a mailbox reached its alarm.
        "mailbox_alarm": {"pid": int, "length": int},
        # One step of a task took `seconds` of the event loop.
        "blocked": {"pid": int | None, "process": str, "handler": str, "seconds": float},
        # Supervisors. `pid` is the supervisor. `component` is the last part of the child's path, for a child with an
        # id. `restarts` is the number of restarts within `max_seconds`, this one included, and `max_restarts` the
        # allowed number; None is no limit. `stopped` is True if the supervisor stopped the child. `restart` is True if
        # the failed start was a restart, which the supervisor tries again.
        "child_started": _CHILD,
        "child_restarted": {**_CHILD, "reason": str, "exit": str, **_LIMIT},
        "child_terminated": {**_CHILD, "reason": str, "exit": str, "stopped?": bool},
        "child_start_failed": {**_CHILD, "reason": str, "exit": str, "restart?": bool},
        "child_stop_failed": {**_CHILD, "reason": str, "exit": str},
        "gave_up": {**_CHILD, "reason": str, "exit": str, **_LIMIT},
        # Faults. `type` is the tag of the fault. `message` is the number of the `sent` event of the affected message.
        # `fault_event` is the number of the `fault` event of a fault that turned out to be masked.
        "fault": {**_FAULT, "message?": int},
        "fault_over": {**_FAULT, "fault_event": int | None},
        "heal": {"pid": None},
        # Experiments and scenarios. `phase` is "before", "during", "after" or "closing". A note may have further
        # fields, all of them text.
        "phase": {"pid": None, "phase": str},
        "steady": {"pid": None, "name": str, "holds": bool, "problem?": str},
        # The steady state at the end of the phase "before" or "after". `problems` has the problem of each check that
        # does not hold. If `problems` is empty and `holds` is false, the checks did not hold for long enough.
        "steady_state": {"pid": None, "phase": str, "holds": bool, "problems": dict[str, str]},
        "invariant": {"pid": None, "name": str, "problem": str},
        "problem": {"pid?": None, "problem": str},
        "note": {"pid?": int | None, "text": str, "*": str},
        "measure": {"name": str, "value": float},
        # `request`: a request of a client ended. `status` is "answered", "unanswered" or "open". `loop_lag`: the due
        # times of the probe since the previous event of this kind, each with its lag in seconds.
        "request": {
            "pid": None,
            "name": str,
            "client": str,
            "began": float,
            "seconds": float,
            "within": float,
            "status": str,
        },
        "loop_lag": {"pid": None, "late_after": float, "max_late_share": float, "lags": list},
        # `waited` is the time in seconds for which the thread of the run waited for a processor, and `load` is the load
        # average per core. Each is None if the system does not count it.
        "machine": {
            "pid": None,
            "seconds": float,
            "waited": float | None,
            "load": float | None,
            "max_wait_share": float,
            "max_load": float | None,
        },
        "omitted": {"pid": None, "omitted": int},
        # Connections. `connection` is a number in a simulated world and a name on a live system. `pid` is the process
        # that serves the connection.
        "listening": {"host": str, "port": int},
        "connected": {**_CONNECTION, "source?": str, "target?": str},
        "serves": _CONNECTION,
        "disconnected": _CONNECTION,
        "reset": _CONNECTION,
        "held": {**_CONNECTION, "direction": str},
        "released": {**_CONNECTION, "direction": str},
        "slowed": {**_CONNECTION, "rate": float | None},
        "delayed": {**_CONNECTION, "seconds": float},
        "data": {**_CONNECTION, "*": object},
        "partition": {"from": str, "to": str},
        "healed": {"ways": list},
        # Clients of channels. `pid` is the process of the connection. In `joined`, it is the process of the channel.
        # `client` is the id of the client's socket; without an id, events do not tell clients apart. `result` is
        # "ok" or "error". `direction` is "in" or "out", and `size` is in bytes. A `frame` is one read or one write.
        # `frames` is the number of frames of one write, if it is more than 1; `size` is then their sum.
        "client_connected": {"pid": int, "socket": str, "transport": str, "client?": str},
        "joined": {
            "pid": int,
            "connection_pid": int,
            "topic": str,
            "channel": str,
            "result": str,
            "seconds": float,
            "client?": str,
        },
        # Topic, event and payload are missing unless contents are recorded. `by` is the process that wrote the frame. A
        # reply has a `status`, and the `ref` of its push.
        "frame": {
            "pid": int,
            "direction": str,
            "size": int,
            "topic?": str,
            "event?": str,
            "payload?": str,
            "ref?": str,
            "status?": str,
            "by?": int,
            "frames?": int,
        },
        # Subscriptions of processes to topics of PubSub. `count` is the number of subscriptions of the process to this
        # topic.
        "subscribed": {"pid": int, "topic": str, "count": int},
        "unsubscribed": {"pid": int, "topic": str},
        # The server's final frame about a topic: `event` is "phx_error" or "join crashed". `channel` is the process
        # that ended.
        "client_told": {"pid": int, "topic": str, "event": str, "channel?": int},
        "client_closed": {"pid": int, "code": int | None, "why": str, "topics": list[str]},
        # Nodes of a simulated world.
        "node_started": {"node": str},
        "node_killed": {"node": str, "host": str, "power": bool},
        "node_skewed": {"node": str, "seconds": float},
        "node_paused": {"node": str},
        "node_resumed": {"node": str},
        "node_suspended": {"node": str, "seconds": float},
        "node_ended": {"node": str},
        # Disks of a simulated world. `size` and `at` are bytes, and `to` is the new name of a renamed file. `disk` is
        # the first node with that disk, or empty. `lost` names what a power failure has undone.
        "disk": {
            "pid": None,
            "operation": str,
            "path": str,
            "size?": int,
            "at?": int,
            "to?": str,
        },
        "disk_lost": {"pid": None, "disk": str, "lost": list[str]},
        # Nodes of PubSub. `node_named` is a start of the recorded node. The other two are about another node.
        "node_named": {"pid": int | None, "name": str, "incarnation": str},
        "node_up": {"pid": int | None, "name": str, "incarnation": str},
        "node_lost": {"pid": int | None, "name": str, "incarnation": str, "why": str},
        "envelope_sent": {"pid": int | None, "topic": str},
        "envelope_received": {"pid": int | None, "topic": str},
        # A connection: `accepted` is in the recording of the server, and `answered` in that of an experiment.
        "accepted": {"pid": int},
        "answered": _CONNECTION,
        # Entities. `entity_began` is the start of a callback. `entity` is the class.
        "entity_started": {
            "pid": int,
            "entity": str,
            "supervisor": str,
            "key": str,
            "fence": int,
        },
        "entity_began": {"pid": int, "fence": int},
    }
)
"""The further fields of each kind of event. A field whose name ends with `?` may be missing."""


_ALWAYS: Final = {
    "n": Annotated[int, msgspec.Meta(ge=0)],
    "t": Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)],
    "round": int,
    "task": int,
    "kind": str,
    "cause?": int,
    "node?": int | str,
    "leaves?": str,
    "arrives?": str,
}


def problem_of(event: object, *, after: int) -> str | None:
    """Return the mistake in an event of a file; None if a reader of traces can read it.

    Without this check, a file of an unknown author could make a reader raise, or follow causes or parents in a circle.

    Args:
        event: the decoded line.
        after: the number of the event before it, or -1.
    """
    if not isinstance(event, dict) or not {"n", "t", "kind"} <= event.keys():
        return "it is not an event with n, t and kind"
    try:
        msgspec.convert(event, _type_of(event["kind"] if event["kind"] in EVENTS else ""))
    except (msgspec.ValidationError, TypeError) as error:
        return str(error)
    if event["n"] <= after:
        return f"its number {event['n']} is not greater than {after}, the number of the event before it"
    if event.get("cause", -1) >= event["n"]:
        return f"its cause {event['cause']} is not an earlier event"
    if event["kind"] == "spawned" and event["parent"] >= event["pid"]:
        return f"its parent {event['parent']} is not an older process than {event['pid']}"
    return None


@cache
def _type_of(kind: str) -> Any:
    """Return the type of the events of a kind; "" is a kind that this version does not know."""
    fields: dict[str, Any] = {}
    for name, wanted in {**_ALWAYS, **EVENTS.get(kind, {})}.items():
        if name != "*":
            fields[name.removesuffix("?")] = NotRequired[wanted] if name.endswith("?") else wanted
    return TypedDict("Event", fields)  # type: ignore[operator] # a type that only msgspec uses


def exit_class(reason: ExitReason) -> str:
    """Return the class of an exit reason.

        exit_class(KILLED)      # "killed"

    Returns:
        The value of a `Reason`, such as "normal" or "noproc"; "shutdown_detail" for a `Shutdown`; "crash" for a
        `Crash`; "other" for any other reason.
    """
    if isinstance(reason, Reason):
        return reason.value
    if isinstance(reason, Crash):
        return "crash"
    return "shutdown_detail" if isinstance(reason, Shutdown) else "other"


def kind_of(message: Any) -> str:
    """Return the kind of a message. Reports group messages by kind, and the patterns of faults match kinds.

        kind_of("stop")                       # "stop"
        kind_of(("join", "lobby"))            # "join"

    Text is its own kind. A tuple has the kind of its first item. If the attribute `event` of an object is text,
    this text is the kind. Any other object has the name of its class. The kind ignores the envelope of a call or a
    cast.

    Args:
        message: any message.
    """
    return kind_of_content(payload_of(message))


def kind_of_content(content: Any) -> str:
    """Return the kind of a message from its content, without the envelope of a call or a cast."""
    while type(content) is tuple and content:
        content = content[0]
    if isinstance(content, str):
        return content
    event = getattr(content, "event", None)
    return event if isinstance(event, str) else type(content).__name__


def transport_of(message: Any) -> str:
    """Return the transport of a message: "call", "cast", "info", "exit", "down" or "system"."""
    cls = type(message)
    try:
        return _TRANSPORT_OF[cls]
    except KeyError:
        if cls is Exit or cls is Down:
            found = cls.__name__.lower()
        else:
            found = _TRANSPORTS[callback_for(message)]
        _TRANSPORT_OF[cls] = found
        return found


# A cache of the transport of each class of messages. The recorder needs the transport of every message.
_TRANSPORT_OF: Final[dict[type, str]] = {}
_TRANSPORTS: Final = {
    "handle_call": "call",
    "handle_cast": "cast",
    "handle_info": "info",
    None: "system",
}
