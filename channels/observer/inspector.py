"""A process that reads one other process for a page, so that a busy process cannot block the page.

The inspector uses a hook of `actors.sys` to see the kinds of messages. It asks for the state of the process only if the
observer shows payloads.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import trio

from actors import sys
from actors.errors import CallExit
from actors.instrumentation.instrument import payload_of
from actors.introspection import current_function, is_server, status_of
from actors.process import current_pid, is_alive, send
from actors.refs import Pid
from actors.runtime import Runtime
from channels.observer.memory import Record
from channels.observer.settings import Detail, ObserverSettings
from channels.observer.showing import shown

__all__ = ["facts_of", "inspect_process", "status_shown"]

MESSAGES: Final = 30
PEERS: Final = 50
_NAMES: Final = {"in": "received", "out": "answered", "noreply": "done"}


async def inspect_process(page: Pid, target: Pid, settings: ObserverSettings) -> None:
    """Send `Detail` about a process to the channel of a page.

    This runs until that process has ended and a supervisor has started its replacement.
    """
    seen: deque[Record] = deque(maxlen=MESSAGES)
    hooked = is_server(target) and await _hook(target, seen, settings)
    while True:
        fields = facts_of(settings.runtime, target)
        if fields is None:
            break
        fields["messages"] = list(seen)
        fields["messages_shown"] = hooked
        if settings.payloads and is_server(target):
            fields["state"] = await _state(target, settings)
        send(page, Detail(target.number, fields))
        await trio.sleep(max(settings.interval, 0.5))
    ended: Record = {}
    while "replacement" not in ended:
        if ended != (ended := settings.memory.ended(target.number)):
            send(page, Detail(target.number, ended))
        await trio.sleep(max(settings.interval, 0.5))


async def _hook(target: Pid, seen: deque[Record], settings: ObserverSettings) -> bool:
    me = current_pid()

    def note(state: Any, event: sys.DebugEvent) -> Any:
        # The hook removes itself, because a killed inspector cannot remove it.
        if not is_alive(me):
            return sys.DONE
        if event.kind != "noreply":
            message = payload_of(event.what)
            record = {
                "t": round(settings.runtime.now(), 3),
                "kind": _NAMES[event.kind],
                "what": _kind_of(message),
            }
            if settings.payloads:
                content = getattr(message, "payload", message)
                record["content"] = shown(content, settings.filter)
                if content is message:
                    # The content says more than its class.
                    del record["what"]
            seen.append(record)
        return state

    try:
        await sys.install(target, ("observer", me), note, 0, timeout=1.0)
    except CallExit:
        # The process is busy or has ended. The page says that it cannot show the messages.
        return False
    return True


async def _state(target: Pid, settings: ObserverSettings) -> Any:
    try:
        status = await sys.get_status(target, timeout=1.0)
    except CallExit:
        return "(no answer within a second: the process is busy)"
    return shown(status.state, settings.filter)


def status_shown(pid: Pid | None) -> str:
    """Return "suspended", "exiting" or an empty text. Other statuses change too often to read on a page."""
    status = None if pid is None else status_of(pid)
    return status if status in ("suspended", "exiting") else ""


def facts_of(runtime: Runtime, target: Pid) -> Record | None:
    """Return the facts about a process, in JSON types; None if it has ended."""
    info = runtime.process_info(target)
    if info is None:
        return None
    return {
        "pid": target.number,
        "label": str(info["label"])[:200],
        "parent": info["parent"].number,
        "ancestors": [pid.number for pid in info["ancestors"][:PEERS]],
        "links": [pid.number for pid in info["links"][:PEERS]],
        "links_total": len(info["links"]),
        # The address of a process on another node has no number here.
        "monitors": [
            each.number if isinstance(each, Pid) else str(each)[:200]
            for each in info["monitors"][:PEERS]
        ],
        "traps_exits": info["trap_exits"],
        "mailbox": info["queue_length"],
        "status": info["status"],
        "age": round(info["age"], 1),
        "run_time": info.get("run_time"),
        "function": current_function(target),
        "server": is_server(target),
    }


def _kind_of(message: Any) -> str:
    """Return the kind of a message: its event, its first word, or its class. Never its content."""
    while type(message) is tuple and message:
        message = message[0]
    event = getattr(message, "event", None)
    return str(event)[:60] if isinstance(event, str) else type(message).__name__
