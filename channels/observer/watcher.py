"""The process of an observer. It reads the runtime while a page watches, and keeps the events about crashes.

An update is cheap, even with ten thousand processes. The observer reads new processes, finds ended processes, and reads
the mailboxes that are not empty. It works in slices, so that other tasks run in between. It sends no messages to
processes, so a busy or stuck process cannot block it.

Without a page, the observer only keeps the events about crashes and supervisors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import trio

from actors.instrumentation.telemetry import Event
from actors.introspection import scan
from actors.links import monitor
from actors.messages import Down
from actors.process import current_pid, on_exit, send, spawn
from actors.refs import Address, Pid
from actors.servers.gen_server import GenServer, Sender
from actors.servers.results import Reply
from actors.timers import send_after
from channels.endpoint.pools import ids_of_application
from channels.entities.supervisor import EntitySupervisor
from channels.observer.chronicle import label_of
from channels.observer.control import act
from channels.observer.elsewhere import Served
from channels.observer.inspector import facts_of, status_shown
from channels.observer.memory import Record
from channels.observer.model import Absent, Entry, Model, View
from channels.observer.nodes import WANTED_SECONDS, Nodes, summary
from channels.observer.settings import Answered, Look, News, ObserverSettings, Wanted
from channels.telemetry import CHANNEL_HANDLED_IN
from supervision.child_spec import RESTARTING
from supervision.recording.fields import LABELLED
from supervision.recording.places import component_of
from supervision.recording.reader.figures import percentile
from supervision.tree.supervisors import kind_of, some_children

__all__ = ["Watcher"]

SLICE: Final = 50
CHILDREN: Final = 200
"""The largest number of children of one supervisor whose ids and restarts the page shows."""
SAMPLES: Final = 1000
ENTITIES: Final = 50
"""The largest number of keys of one supervisor of entities that the page shows."""
SUMMARY_SECONDS: Final = 1.0


class Watcher(GenServer[None]):
    """The process of one observer. Pages call it with `Wanted`, and get `News`."""

    async def init(self, settings: ObserverSettings) -> None:
        self.settings = settings
        self.runtime = settings.runtime
        self.memory = settings.memory
        self.chronicle = settings.chronicle
        self.pages: dict[Pid, None] = {}
        self.model = self.chronicle.model = Model()
        self._pids: dict[int, Pid] = {}
        self._newest = 0
        # The processes to describe at the next look, by number, because a process may change its label many times.
        self._fresh: dict[int, Entry] = {}
        self._supervisors: dict[int, Pid] = {}
        self._detach_hot: Callable[[], object] | None = None
        self._durations: deque[float] = deque(maxlen=SAMPLES)
        self._pushes = 0
        self._joins = self.chronicle.joins
        self._due = self._before = 0.0
        self._looking = False
        pubsub = settings.endpoint.pubsub
        self._nodes = Nodes(pubsub.node_name)
        self._served = Served()
        # The supervisor of the endpoint, which starts this process.
        self._ids_of_application = ids_of_application(settings.endpoint.sockets)
        own = self.runtime.process_info(current_pid())
        self._endpoint = None if own is None else own["parent"]
        self._told = (0.0, self.memory.last)
        if not pubsub.is_local:
            pubsub.subscribe(settings.topic)
        on_exit(self._stop_counting)
        first = not any(event["kind"] == "started" for event in self.memory.events)
        self.chronicle.note("started", first=first)

    # Pages

    async def handle_info(self, message: Any) -> None:
        kind = type(message)
        if kind is Look:
            await self._look()
        elif kind is Down:
            self.pages.pop(message.pid, None)
        elif kind is dict:
            await self._hear(message)

    async def _hear(self, message: dict[str, Any]) -> None:
        """Handle a summary, a request or an answer of another node. While a page of that node watches, keep looking."""
        if "request" in message:
            await self._serve(message["request"])
            return
        if "answer" in message:
            answer = message["answer"]
            number = answer.get("page") if isinstance(answer, dict) else None
            for page in self.pages:
                if page.number == number:
                    send(page, Answered(answer))
            return
        for event in self._nodes.hear(message, trio.current_time()):
            # Also without a page here: the other node tells each event once.
            about = {"node": event["node"], "from": event.get("kind"), "words": event["words"]}
            self.memory.add(event["t"], "elsewhere", **about)
        if trio.current_time() < self._nodes.wanted_until:
            await self._start_looking()

    async def _serve(self, sealed: object) -> None:
        """Handle a request of a page on another node: answer with the changed rows, or carry out an action."""
        request = self.settings.access.unseal(sealed, trio.current_time())
        if request is None or request.get("to") != self._nodes.name:
            return
        self._nodes.wanted_until = trio.current_time() + WANTED_SECONDS
        await self._start_looking()
        # After a restart, the number of a process may belong to another process.
        is_current = request.get("incarnation") == self.settings.endpoint.pubsub.node.incarnation
        if "action" in request and not is_current:
            problem = f"{self._nodes.name} has restarted; choose the process again"
            _reply(self.settings, request, {"job": request["job"], "problem": problem})
            return
        if "action" in request:
            # The action may wait for its target, or end this watcher, so it runs in a separate process.
            number = request["pid"]
            target, title = self._pids.get(number), self.model.title_of(number)
            spawn(_act, self.settings, request, target, title, label="observer action")
            return
        view = View()
        view.update(request["view"])
        rows = self.model.rows(view, lambda number: status_shown(self._pids.get(number)))
        answer = self._served.answer(request["from"], request["page"], request["last"], rows)
        answer["now"] = round(self.runtime.now(), 3)
        answer["entities"] = self._entities()
        if request["pid"] is not None and is_current:
            pid = self._pids.get(request["pid"])
            facts = None if pid is None else facts_of(self.runtime, pid)
            answer["process"] = self.memory.ended(request["pid"]) if facts is None else facts
            crash = self.memory.crashes.get(request["pid"])
            answer["about"] = {"crash": crash, **self.model.about(request["pid"])}
        _reply(self.settings, request, answer)

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        if not isinstance(request, Wanted):
            return Reply("the observer answers only its pages")
        page = request.page
        if page not in self.pages and len(self.pages) >= self.settings.max_pages:
            return Reply(
                f"{len(self.pages)} pages watch already; Observer(max_pages=) allows no more"
            )
        if page not in self.pages:
            monitor(page)
            self.pages[page] = None
            await self._start_looking()
            send(page, self._news(self._point()))
        return Reply(None)

    def _news(self, point: Record) -> News:
        nodes = self._nodes.rows(point, trio.current_time())
        return News(self.model, point, self._pids, nodes, self._entities())

    def _entities(self) -> list[Record]:
        """Return a table for each supervisor of entities among the children of the endpoint."""
        return [
            {"name": child.name, "count": figures["entities"], "rows": list(child.rows(ENTITIES))}
            for child in self.settings.endpoint.children
            if isinstance(child, EntitySupervisor) and (figures := child.statistics())
        ]

    async def _start_looking(self) -> None:
        if self._looking:
            return
        self._looking = True
        self._start_counting()
        await self._read_new()
        await self._read_changes()
        self._due = self._before = trio.current_time()
        send_after(current_pid(), Look(), self.settings.interval)

    def _start_counting(self) -> None:
        # A counter may still be attached if the last page left a moment ago.
        self._stop_counting()
        attach = self.runtime.telemetry.attach
        detach = attach(CHANNEL_HANDLED_IN, self._handled), attach(LABELLED, self._labelled)
        self._detach_hot = lambda: [each() for each in detach]

    def _stop_counting(self) -> None:
        if self._detach_hot is not None:
            self._detach_hot()
            self._detach_hot = None

    # Looking

    async def _look(self) -> None:
        if not self.pages and trio.current_time() >= self._nodes.wanted_until:
            self._forget()
            return
        interval = self.settings.interval
        await self._read_new()
        await self._read_changes()
        self.chronicle.flush()
        point = self._point()
        self.memory.points.append(point)
        self._tell(point)
        news = self._news(point)
        for page in self.pages:
            send(page, news)
        self._due = max(self._due + interval, trio.current_time())
        send_after(current_pid(), Look(), max(0.01, self._due - trio.current_time()))

    def _tell(self, point: Record) -> None:
        """Send a summary to the other nodes, at most once a second."""
        pubsub, (before, last) = self.settings.endpoint.pubsub, self._told
        now = trio.current_time()
        if pubsub.is_local or now - before < SUMMARY_SECONDS:
            return
        own = [event for event in self.memory.since(last) if event["kind"] != "elsewhere"]
        self._told = (now, self.memory.last)
        message = summary(pubsub.node_name, point, own, asks=bool(self.pages))
        pubsub.broadcast(self.settings.topic, message, sender=current_pid())

    def _forget(self) -> None:
        """Drop the model, because no page watches. The next page reads all processes again."""
        self._stop_counting()
        self._looking = False
        self.model = self.chronicle.model = Model()
        self._pids, self._newest = {}, 0
        self._fresh, self._supervisors = {}, {}

    async def _read_new(self) -> None:
        runtime, now = self.runtime, self.runtime.now()
        new = []
        for pid in reversed(runtime.processes()):
            if pid.number <= self._newest:
                break
            new.append(pid)
        again, self._fresh = self._fresh, {}
        for number, entry in enumerate(again.values()):
            if number % SLICE == SLICE - 1:
                await trio.lowlevel.checkpoint()
            # Describe the processes of the last round again, because most processes get a label in their first step.
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
                label=label_of(info),
                born=now - info["age"],
            )
            self._pids[pid.number] = pid
            self.model.add(entry)
            self._describe(entry)
            self._fresh[entry.number] = entry

    def _describe(self, entry: Entry) -> None:
        pid = self._pids.get(entry.number)
        info = None if pid is None else self.runtime.process_info(pid)
        if pid is None or info is None:
            return
        kind = kind_of(pid)
        self.model.describe(entry, label_of(info), kind)
        if kind is not None:
            self._supervisors[pid.number] = pid

    async def _read_changes(self) -> None:
        pids = list(self._pids.values())
        lengths: dict[int, int] = {}
        for start in range(0, len(pids), 10 * SLICE):
            await trio.lowlevel.checkpoint()
            part = pids[start : start + 10 * SLICE]
            waiting, ended = scan(part)
            for pid, length in waiting.items():
                lengths[pid.number] = length
            for pid in ended:
                del self._pids[pid.number]
                self._supervisors.pop(pid.number, None)
                self.model.remove(pid.number)
        self.model.set_mailboxes(lengths)
        for number, pid in self._supervisors.items():
            entry = self.model.entries.get(number)
            if entry is None or (entry.kind == "dynamic" and pid not in self.chronicle.restarted):
                continue
            self._read_children(entry, pid)
        self.chronicle.restarted.clear()

    def _read_children(self, entry: Entry, supervisor: Pid) -> None:
        absent = []
        for rank, child in enumerate(reversed(some_children(supervisor, CHILDREN))):
            if isinstance(child.pid, Pid):
                below = self.model.entries.get(child.pid.number)
                if below is not None:
                    below.restarts = child.restarts
                    if child.id is not None:
                        below.rank = rank
                        # The label has the class and the key of an address in a registry.
                        below.id = None if isinstance(child.id, Address) else str(child.id)[:80]
                    if supervisor is self._endpoint:
                        is_internal = child.id not in self._ids_of_application
                        self.model.set_internal(below, is_internal=is_internal)
            elif child.id is not None:
                status = "restarting" if child.pid == RESTARTING else "stopped"
                absent.append(Absent(component_of(child.id)[:80], status, child.restarts, rank))
        entry.absent = tuple(absent)

    def _point(self) -> Record:
        """Return the figures since the last point."""
        now = trio.current_time()
        seconds = max(now - self._before, 0.001)
        waiting = self.model.waiting
        longest = max(waiting, key=lambda each: each.mailbox, default=None)
        point = {
            "t": round(self.runtime.now(), 3),
            "processes": len(self.model),
            "pushes": round(self._pushes / seconds, 1),
            "joins": round((self.chronicle.joins - self._joins) / seconds, 1),
            "median": _milliseconds(percentile(self._durations, 0.5)),
            "p99": _milliseconds(percentile(self._durations, 0.99)),
            "mailboxes": sum(each.mailbox for each in waiting),
            "longest": 0 if longest is None else longest.mailbox,
            "late": round(max(0.0, now - self._due) * 1000, 2),
            "memory": _resident_bytes(),
            **self.memory.totals,
        }
        self._durations.clear()
        self._pushes, self._joins = 0, self.chronicle.joins
        self._before = now
        return point

    def _labelled(
        self, event: Event, measures: Mapping[str, Any], about: Mapping[str, Any]
    ) -> None:
        entry = self.model.entries.get(about["pid"].number)
        if entry is not None:
            self._fresh[entry.number] = entry

    def _handled(self, event: Event, measures: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        if about["channel"].topic != "observer":
            self._pushes += 1
            self._durations.append(measures["duration"])


async def _act(settings: ObserverSettings, request: Record, target: Pid | None, title: str) -> None:
    """Carry out an action that a page on another node asked for. Send the result to that node."""
    if settings.control:
        problem = await act(settings, request["action"], target, title, by=request["from"])
    else:
        problem = f"the observer of {settings.endpoint.pubsub.node_name} is read-only"
    _reply(settings, request, {"job": request["job"], "problem": problem})


def _reply(settings: ObserverSettings, request: Record, answer: Record) -> None:
    """Send an answer to the node that asked."""
    pubsub = settings.endpoint.pubsub
    node = pubsub.node
    fields = {
        "from": node.name,
        "incarnation": node.incarnation,
        "page": request["page"],
        **answer,
    }
    pubsub.direct_broadcast(request["from"], settings.topic, {"answer": fields})


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _resident_bytes() -> int | None:
    """Return the memory of this program; None if the system does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * 4096
