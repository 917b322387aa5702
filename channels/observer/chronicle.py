"""The chronicle of an observer: readable records of the events about crashes and supervisors.

The runtime owns the handlers of a chronicle, not a process. So the chronicle also sees the end and the
restart of the observer's own branch. The handlers stay attached until the runtime ends.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from actors.exits import NORMAL, ExitReason, is_normal_exit
from actors.instrumentation.telemetry import Event
from actors.refs import Address, Pid
from actors.runtime import Runtime
from channels.channel import Channel
from channels.observer.memory import Memory, Record
from channels.observer.model import Entry, Model
from channels.telemetry import CHANNEL_JOINED
from supervision.errors import describe_reason
from supervision.events import (
    CHILD_RESTARTED,
    CHILD_START_FAILED,
    CHILD_STOP_FAILED,
    CHILD_TERMINATED,
    GAVE_UP,
)
from supervision.recording.places import component_of
from supervision.tree.supervisors import kind_of

__all__ = ["Chronicle", "label_of"]

MAX_DEAD: Final = 1000
"""The largest number of topics whose clients the chronicle expects to join again."""
TRACEBACK: Final = 20_000
_LABEL: Final = 120

_CRASH: Final = ("actors", "process", "crash")
_ZOMBIE: Final = ("actors", "process", "zombie")


class Chronicle:
    """The events of one runtime, for one observer.

    Args:
        memory: the memory that stores the records.
        runtime: the runtime.

    Attributes:
        model: the watcher's model of the processes.
        joins: the number of joins so far.
        restarted: the supervisors that have restarted a child since the watcher emptied this set.
    """

    def __init__(self, memory: Memory, runtime: Runtime) -> None:
        self.memory = memory
        self.runtime = runtime
        self.model = Model()
        self.joins = 0
        self.restarted: set[Pid] = set()
        # The labels of the channels that crashed, with the times of the crashes. The clients should join again.
        self._dead: dict[str, deque[float]] = {}
        handlers: dict[Event, Any] = {
            _CRASH: self._crashed,
            _ZOMBIE: self._zombie,
            CHILD_TERMINATED: self._terminated,
            CHILD_RESTARTED: self._child_restarted,
            CHILD_START_FAILED: partial(self._failed, "start_failed"),
            CHILD_STOP_FAILED: partial(self._failed, "stop_failed"),
            GAVE_UP: self._gave_up,
            CHANNEL_JOINED: self._joined,
        }
        # The stops that are not recorded yet, by supervisor.
        self._stops: dict[Pid, list[Record]] = {}
        for event, handler in handlers.items():
            runtime.telemetry.attach(event, handler)

    def note(self, kind: str, **fields: Any) -> Record:
        """Add a record."""
        self.flush()
        return self.memory.add(self.runtime.now(), kind, **fields)

    # Events. Each handler runs in the process that emits the event, and must be quick.

    def _joined(self, event: Event, measures: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        self.joins += 1
        channel: Channel = about["channel"]
        if not self._dead:
            return
        # As `ChannelServer` labels its process.
        label = f"{type(channel).__name__} {channel.topic[:80]!r}"[:_LABEL]
        times = self._dead.get(label)
        if times and about["result"] == "ok":
            seconds = self.runtime.now() - times.popleft()
            if not times:
                del self._dead[label]
            name = type(channel).__name__
            self.note("returned", topic=channel.topic[:80], channel=name, seconds=round(seconds, 3))

    def _crashed(self, event: Event, measures: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        error = about["exception"]
        self.memory.totals["crashes"] += 1
        lines = [] if error is None else traceback.format_exception(error)
        record = self.note(
            "crash",
            pid=about["pid"].number,
            who=_who(about["process"], about["pid"]),
            error=describe_reason(about["reason"])[:500],
        )
        parents = [each.number for each in about["ancestors"]]
        crash = {**record, "traceback": "".join(lines)[-TRACEBACK:], "ancestors": parents}
        self.memory.add_crash(about["pid"].number, crash)

    def _zombie(self, event: Event, measures: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        pid = about["pid"]
        self.note("zombie", pid=pid.number, who=_who(about["process"], pid))

    def _terminated(
        self, event: Event, measures: Mapping[str, Any], about: Mapping[str, Any]
    ) -> None:
        reason: ExitReason = about["reason"]
        pid: Pid = about["pid"]
        entry = self.model.entries.get(pid.number)
        stops = self._stops.pop(pid, ())
        is_stop = about["stopped"]
        if not is_stop and (reason is NORMAL or kind_of(about["supervisor"]) == "dynamic"):
            if is_normal_exit(reason):
                return
            self._expect_return(entry)
        record = {
            "pid": pid.number,
            "supervisor": self._name(about["supervisor"]),
            "child": self._child(about["id"], pid, entry),
            "stopped": is_stop,
            "reason": describe_reason(reason)[:200],
        }
        if is_stop:
            record["below"] = sum(1 + each["below"] for each in stops)
            self._stops.setdefault(about["supervisor"], []).append(record)
        else:
            self.note("terminated", **record)

    def flush(self) -> None:
        """Record the stops of children whose supervisor still runs. The stop of a whole branch is one record."""
        stops, self._stops = self._stops, {}
        for records in stops.values():
            for record in records:
                self.memory.add(self.runtime.now(), "terminated", **record)

    def _expect_return(self, entry: Entry | None) -> None:
        """Note that the client of a crashed channel should join again. Do nothing for other processes."""
        pool = None if entry is None else entry.parent
        if entry is None or pool is None or len(self._dead) >= MAX_DEAD:
            return
        # See `ChannelPool` for this name. The label of a channel has its class and its topic.
        if pool.label.startswith("channels "):
            times = self._dead.setdefault(entry.label, deque(maxlen=100))
            times.append(self.runtime.now())

    def _child_restarted(
        self, event: Event, measures: Mapping[str, Any], about: Mapping[str, Any]
    ) -> None:
        self.memory.totals["restarts"] += 1
        self.restarted.add(about["supervisor"])
        if about["replaces"] is not None:
            self.memory.add_replacement(about["replaces"].number, about["pid"].number)
        self.note("restarted", pid=about["pid"].number, **self._decision(measures, about))

    def _gave_up(self, event: Event, measures: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        self.memory.totals["gave_up"] += 1
        self.note("gave_up", pid=about["supervisor"].number, **self._decision(measures, about))

    def _decision(self, measures: Mapping[str, Any], about: Mapping[str, Any]) -> Record:
        supervisor: Pid = about["supervisor"]
        return {
            "supervisor": self._name(supervisor),
            "child": self._child(about["id"], about["pid"], None),
            "reason": describe_reason(about["reason"])[:200],
            "restarts": measures["restarts"],
            "max_restarts": about.get("max_restarts"),
            "max_seconds": about.get("max_seconds"),
            "strategy": kind_of(supervisor),
        }

    def _failed(
        self, kind: str, event: Event, measures: Mapping[str, Any], about: Mapping[str, Any]
    ) -> None:
        pid: Pid | None = about["pid"]
        self.note(
            kind,
            pid=None if pid is None else pid.number,
            supervisor=self._name(about["supervisor"]),
            child=self._child(about["id"], pid, None),
            reason=describe_reason(about["reason"])[:200],
        )

    # Names

    def _name(self, supervisor: Pid) -> str:
        entry = self.model.entries.get(supervisor.number)
        info = self.runtime.process_info(supervisor)
        title = label_of(info) if info is not None else "a supervisor"
        return _who(title if entry is None else entry.title, supervisor)

    def _child(self, id: Any, pid: Pid | None, entry: Entry | None) -> str:
        title = entry.title if entry is not None else component_of(id)[:80]
        info = None if pid is None else self.runtime.process_info(pid)
        if isinstance(id, Address) and entry is None and info is not None:
            # The label has the class and the key.
            title = label_of(info)
        return title if pid is None else _who(title, pid)


def _who(title: str, pid: Pid) -> str:
    return f"{title} {pid!r}"


def label_of(info: Mapping[str, Any]) -> str:
    """Return a short label for a process, from its `process_info`."""
    name = info["name"]
    # The endpoint's own processes have tuples as names, and the first item is always the endpoint.
    if isinstance(name, tuple) and len(name) > 1 and not isinstance(name[0], str):
        return " ".join(str(part) for part in name[1:])[:80]
    return str(info["label"])[:_LABEL]
