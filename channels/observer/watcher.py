"""The process of an observer: it looks at the runtime while a page watches, and remembers what went wrong.

One look costs little with ten thousand processes. It reads only the processes that are new, asks which have ended, and
which mailboxes are not empty. It works in slices, so that other tasks run in between. Nobody is asked, so a busy or
stuck process cannot hold the observer up.

Without a page, only the events about crashes and supervisors are kept.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import trio

from actors.exits import NORMAL, SHUTDOWN, ExitReason, Shutdown
from actors.instrumentation.telemetry import Event
from actors.introspection import ended, waiting_messages
from actors.links import monitor
from actors.messages import Down
from actors.process import current_pid, on_exit, send
from actors.refs import Pid
from actors.servers.gen_server import GenServer, Sender
from actors.servers.results import Reply
from actors.timers import send_after
from channels.channel import Channel
from channels.observer.memory import Record
from channels.observer.model import Absent, Entry, Model
from channels.observer.settings import Look, News, Settings, Wanted
from channels.telemetry import CHANNEL_HANDLED_IN, CHANNEL_JOINED
from supervision.child_spec import RESTARTING
from supervision.errors import describe_reason
from supervision.events import (
    CHILD_RESTARTED,
    CHILD_START_FAILED,
    CHILD_STOP_FAILED,
    CHILD_TERMINATED,
    GAVE_UP,
)
from supervision.observer.supervisors import kind_of, some_children

__all__ = ["Watcher"]

SLICE: Final = 50
CHILDREN: Final = 200
"""The most children of one supervisor whose ids and restarts are shown."""
SAMPLES: Final = 1000
MAX_DEAD: Final = 1000
TRACEBACK: Final = 20_000

_CRASH: Final = ("actors", "process", "crash")
_ZOMBIE: Final = ("actors", "process", "zombie")


class Watcher(GenServer[None]):
    """The process of one observer. Pages call it with `Wanted`, and get `News`."""

    async def init(self, settings: Settings) -> None:
        self.settings = settings
        self.runtime = settings.runtime
        self.memory = settings.memory
        self.pages: dict[Pid, None] = {}
        self.model = Model()
        self._pids: dict[int, Pid] = {}
        self._newest = 0
        self._fresh: list[Entry] = []
        self._supervisors: dict[int, Pid] = {}
        self._restarted: set[Pid] = set()
        self._detach_hot: Callable[[], None] | None = None
        self._durations: deque[float] = deque(maxlen=SAMPLES)
        self._pushes = self._joins = 0
        self._due = self._before = 0.0
        # The topics whose channels ended badly, with the times. Their clients should come back.
        self._dead: dict[tuple[type, str], deque[float]] = {}
        self._attach()
        first = not any(event["kind"] == "started" for event in self.memory.events)
        self._note("started", first=first)

    def _attach(self) -> None:
        telemetry = self.runtime.telemetry
        handlers: dict[Event, Any] = {
            _CRASH: self._crashed,
            _ZOMBIE: self._zombie,
            CHILD_TERMINATED: self._terminated,
            CHILD_RESTARTED: self._child_restarted,
            CHILD_START_FAILED: self._start_failed,
            CHILD_STOP_FAILED: self._stop_failed,
            GAVE_UP: self._gave_up,
            CHANNEL_JOINED: self._joined,
        }
        for event, handler in handlers.items():
            on_exit(telemetry.attach(event, handler))
        on_exit(self._stop_counting)

    # Pages

    async def handle_info(self, message: Any) -> None:
        kind = type(message)
        if kind is Look:
            await self._look()
        elif kind is Down:
            self.pages.pop(message.pid, None)

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        if not isinstance(request, Wanted):
            return Reply("the observer answers only its pages")
        if request.page not in self.pages and len(self.pages) >= self.settings.max_pages:
            return Reply(
                f"{len(self.pages)} pages watch already; Observer(max_pages=) allows no more"
            )
        await self._add_page(request.page)
        return Reply(None)

    async def _add_page(self, page: Pid) -> None:
        if page in self.pages:
            return
        monitor(page)
        starts = not self.pages
        self.pages[page] = None
        if starts:
            self._start_counting()
            await self._read_new()
            self._due = self._before = trio.current_time()
            send_after(current_pid(), Look(), self.settings.interval)
        send(page, News(self.model, self._point(), self._pids))

    def _start_counting(self) -> None:
        # Left over if the last page left a moment ago.
        self._stop_counting()
        self._detach_hot = self.runtime.telemetry.attach(CHANNEL_HANDLED_IN, self._handled)

    def _stop_counting(self) -> None:
        if self._detach_hot is not None:
            self._detach_hot()
            self._detach_hot = None

    # Looking

    async def _look(self) -> None:
        if not self.pages:
            self._forget()
            return
        interval = self.settings.interval
        await self._read_new()
        await self._read_changes()
        point = self._point()
        self.memory.points.append(point)
        news = News(self.model, point, self._pids)
        for page in self.pages:
            send(page, news)
        self._due = max(self._due + interval, trio.current_time())
        send_after(current_pid(), Look(), max(0.01, self._due - trio.current_time()))

    def _forget(self) -> None:
        """Drop the model, which nobody watches. The next page reads all processes again."""
        self._stop_counting()
        self.model, self._pids, self._newest = Model(), {}, 0
        self._fresh, self._supervisors = [], {}

    async def _read_new(self) -> None:
        runtime, now = self.runtime, self.runtime.now()
        new = []
        for pid in reversed(runtime.processes()):
            if pid.number <= self._newest:
                break
            new.append(pid)
        again, self._fresh = self._fresh, []
        for entry in again:
            # Most processes get their label in their first step.
            self._describe(entry)
        for number, pid in enumerate(reversed(new)):
            if number % SLICE == SLICE - 1:
                await trio.lowlevel.checkpoint()
            self._newest = pid.number
            info = runtime.process_info(pid)
            if info is None:
                continue
            entry = Entry(
                number=pid.number,
                ancestors=tuple(each.number for each in (info["parent"], *info["ancestors"])),
                label=_label(info),
                born=now - info["age"],
            )
            self._pids[pid.number] = pid
            self.model.add(entry)
            self._describe(entry)
            self._fresh.append(entry)

    def _describe(self, entry: Entry) -> None:
        pid = self._pids.get(entry.number)
        info = None if pid is None else self.runtime.process_info(pid)
        if pid is None or info is None:
            return
        kind = kind_of(pid)
        self.model.describe(entry, _label(info), kind)
        if kind is not None:
            self._supervisors[pid.number] = pid

    async def _read_changes(self) -> None:
        pids = list(self._pids.values())
        lengths: dict[int, int] = {}
        for start in range(0, len(pids), 10 * SLICE):
            await trio.lowlevel.checkpoint()
            part = pids[start : start + 10 * SLICE]
            for pid, length in waiting_messages(part).items():
                lengths[pid.number] = length
            for pid in ended(part):
                del self._pids[pid.number]
                self._supervisors.pop(pid.number, None)
                self.model.remove(pid.number)
        self.model.set_mailboxes(lengths)
        for number, pid in self._supervisors.items():
            entry = self.model.entries.get(number)
            if entry is None or (entry.kind == "dynamic" and pid not in self._restarted):
                continue
            self._read_children(entry, pid)
        self._restarted.clear()

    def _read_children(self, entry: Entry, supervisor: Pid) -> None:
        absent = []
        for child in reversed(some_children(supervisor, CHILDREN)):
            if isinstance(child.pid, Pid):
                below = self.model.entries.get(child.pid.number)
                if below is not None:
                    below.restarts = child.restarts
                    if child.id is not None:
                        below.id = str(child.id)[:80]
            elif child.id is not None:
                status = "restarting" if child.pid == RESTARTING else "stopped"
                absent.append(Absent(str(child.id)[:80], status, child.restarts))
        entry.absent = tuple(absent)

    def _point(self) -> Record:
        """Return the figures since the last point."""
        now = trio.current_time()
        seconds = max(now - self._before, 0.001)
        durations = sorted(self._durations)
        waiting = self.model.waiting
        longest = max(waiting, key=lambda each: each.mailbox, default=None)
        point = {
            "t": round(self.runtime.now(), 3),
            "processes": len(self.model),
            "pushes": round(self._pushes / seconds, 1),
            "joins": round(self._joins / seconds, 1),
            "median": _quantile(durations, 0.5),
            "p99": _quantile(durations, 0.99),
            "mailboxes": sum(each.mailbox for each in waiting),
            "longest": 0 if longest is None else longest.mailbox,
            "late": round(max(0.0, now - self._due) * 1000, 2),
            "memory": _resident_bytes(),
            **self.memory.totals,
        }
        self._durations.clear()
        self._pushes = self._joins = 0
        self._before = now
        return point

    # Events. Each handler runs in the process that emits the event, and must be quick.

    def _note(self, kind: str, **fields: Any) -> Record:
        return self.memory.add(self.runtime.now(), kind, **fields)

    def _handled(self, event: Event, measures: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        if about["channel"].topic != "observer":
            self._pushes += 1
            self._durations.append(measures["duration"])

    def _joined(self, event: Event, measures: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        self._joins += 1
        channel: Channel = about["channel"]
        times = self._dead.get((type(channel), channel.topic)) if self._dead else None
        if times and about["result"] == "ok":
            seconds = self.runtime.now() - times.popleft()
            if not times:
                del self._dead[type(channel), channel.topic]
            name = type(channel).__name__
            self._note(
                "returned", topic=channel.topic[:80], channel=name, seconds=round(seconds, 3)
            )

    def _crashed(self, event: Event, measures: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        error = about["exception"]
        self.memory.totals["crashes"] += 1
        lines = [] if error is None else traceback.format_exception(error)
        record = self._note(
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
        self._note("zombie", pid=pid.number, who=_who(about["process"], pid))

    def _terminated(
        self, event: Event, measures: Mapping[str, Any], about: Mapping[str, Any]
    ) -> None:
        reason: ExitReason = about["reason"]
        pid: Pid = about["pid"]
        entry = self.model.entries.get(pid.number)
        if reason is NORMAL or kind_of(about["supervisor"]) == "dynamic":
            if _is_clean(reason):
                return
            self._expect_return(entry)
        self._note(
            "terminated",
            pid=pid.number,
            supervisor=self._name(about["supervisor"]),
            child=self._child(about["id"], pid, entry),
            stopped=about["stopped"],
            reason=describe_reason(reason)[:200],
        )

    def _expect_return(self, entry: Entry | None) -> None:
        """Note that the client of a channel should join again. Other processes have no such topic."""
        for name, kind in self._channels().items():
            if entry is None or entry.sort != name or "'" not in entry.label:
                continue
            topic = entry.label.partition("'")[2].rpartition("'")[0]
            if len(self._dead) < MAX_DEAD:
                times = self._dead.setdefault((kind, topic), deque(maxlen=100))
                times.append(self.runtime.now())

    def _channels(self) -> dict[str, type]:
        sockets = self.settings.endpoint.sockets.values()
        found: dict[str, type] = {}
        for mount in sockets:
            for target in getattr(mount, "socket", mount).channels.values():
                channel = getattr(target, "channel", target)
                found[channel.__name__] = channel
        return found

    def _child_restarted(
        self, event: Event, measures: Mapping[str, Any], about: Mapping[str, Any]
    ) -> None:
        self.memory.totals["restarts"] += 1
        self._restarted.add(about["supervisor"])
        self._note("restarted", pid=about["pid"].number, **self._decision(measures, about))

    def _gave_up(self, event: Event, measures: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        self.memory.totals["gave_up"] += 1
        self._note("gave_up", pid=about["supervisor"].number, **self._decision(measures, about))

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

    def _start_failed(
        self, event: Event, measures: Mapping[str, Any], about: Mapping[str, Any]
    ) -> None:
        self._failed("start_failed", about)

    def _stop_failed(
        self, event: Event, measures: Mapping[str, Any], about: Mapping[str, Any]
    ) -> None:
        self._failed("stop_failed", about)

    def _failed(self, kind: str, about: Mapping[str, Any]) -> None:
        pid: Pid | None = about["pid"]
        self._note(
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
        title = _label(info) if info is not None else "a supervisor"
        if entry is not None:
            above = entry.parent
            # The supervisors of a pool are numbered.
            title = (
                f"{above.title}/{entry.title}" if above and entry.title.isdigit() else entry.title
            )
        return _who(title, supervisor)

    @staticmethod
    def _child(id: Any, pid: Pid | None, entry: Entry | None) -> str:
        title = entry.title if entry is not None else str(id)[:80]
        return title if pid is None else _who(title, pid)


def _who(title: str, pid: Pid) -> str:
    return f"{title} {pid!r}"


def _label(info: Mapping[str, Any]) -> str:
    name = info["name"]
    # Names of the machinery are tuples with the endpoint in front, which say little.
    if isinstance(name, tuple) and len(name) > 1 and not isinstance(name[0], str):
        return " ".join(str(part) for part in name[1:])[:80]
    return str(info["label"])[:120]


def _is_clean(reason: ExitReason) -> bool:
    return reason is NORMAL or reason is SHUTDOWN or isinstance(reason, Shutdown)


def _quantile(values: list[float], share: float) -> float | None:
    """Return a quantile of sorted seconds in milliseconds; None without values."""
    if not values:
        return None
    return round(values[min(len(values) - 1, int(len(values) * share))] * 1000, 3)


def _resident_bytes() -> int | None:
    """Return the memory of this program; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * 4096
