"""The socket and the channel of an observer page.

The page asks for a view (`view`, `node`, `process`, `timeline`) and for actions (`act`, `level`). It gets these events:

| event | contents |
|---|---|
| `tick` | the changes since the last tick |
| `process` | the details of the process that the page shows |
| `timeline` | the next part of the timeline. The page must ask for each part |
| `acted` | the result of an action on another node |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import trio

from actors.errors import CallExit
from actors.exits import SHUTDOWN, is_normal_exit
from actors.links import monitor, send_exit, trap_exits
from actors.messages import Down, Exit
from actors.process import current_pid, send, spawn_link
from actors.refs import Pid
from actors.servers.gen_server import call
from actors.timers import send_after
from channels.channel import Channel
from channels.connect_info import ConnectInfo
from channels.handlers import handle_in
from channels.messages import ConnectRefused, JoinRefused, PushReply
from channels.observer.access import Access
from channels.observer.control import ACTIONS, LEVELS, LOGGERS, act, set_level
from channels.observer.elsewhere import Elsewhere
from channels.observer.inspector import inspect_process, status_shown
from channels.observer.memory import Record
from channels.observer.model import Row, View, changes
from channels.observer.settings import (
    Answered,
    Detail,
    Drawn,
    Look,
    News,
    ObserverSettings,
    TimelinePart,
    Wanted,
)
from channels.observer.timeline import follow_timeline
from channels.socket import Socket

__all__ = ["ObserverChannel", "ObserverSocket"]

RETRY = 0.2
"""Seconds between two attempts to reach the watcher while its supervisor restarts it."""

_READ_ONLY = "this observer is read-only; write Observer(control=True) to allow actions"
_FAILED = "The timeline has failed; the log of the program has the error. Open the timeline again."


class ObserverChannel(Channel):
    """One page. It keeps the rows that the page shows, and sends only what changes."""

    log_join = None
    log_handle_in = None

    async def join(self, topic: str, payload: Any) -> dict[str, Any]:
        if topic != "observer" or not isinstance(payload, dict):
            raise JoinRefused({"reason": "the observer has one topic, `observer`"})
        self.settings: ObserverSettings = self.assigns["settings"]
        self.view = View()
        self.view.update(payload)
        self.rows: dict[str, Row] = {}
        self.entities: Sequence[Record] = ()
        self.news: News | None = None
        self.inspector: Pid | None = None
        self.inspected: int | None = None
        self.timeline: Pid | None = None
        self.elsewhere: Elsewhere | None = None
        last = payload.get("last")
        memory = self.settings.memory
        # After a restart, the program numbers its events from 1 again.
        knows = payload.get("program") == memory.program
        self.last = min(max(last, 0), memory.last) if knows and isinstance(last, int) else 0
        # Trap exits, so that the end of an inspector does not end the page.
        trap_exits()
        problem = await self._watch()
        if problem is not None:
            raise JoinRefused({"reason": problem})
        first = memory.since(self.last)
        self.last = memory.last
        return {
            "events": first,
            "program": memory.program,
            "points": list(memory.points),
            "actions": ACTIONS if self.settings.control else {},
            "loggers": LOGGERS,
            "levels": LEVELS,
            "now": self.settings.runtime.now(),
        }

    async def _watch(self) -> str | None:
        """Subscribe to the news of the watcher. Return the problem, or None."""
        watcher = (self.settings.endpoint, "observer")
        try:
            problem: str | None = await call(watcher, Wanted(current_pid()))
        except CallExit:
            return "the observer is restarting"
        monitor(watcher)
        return problem

    # News

    async def handle_info(self, message: Any) -> None:
        kind = type(message)
        if kind is News:
            self.news = message
            self._tick(message.point)
        elif kind is Detail:
            if message.number == self.inspected:
                self.push("process", {**message.fields, "number": message.number})
        elif kind is Answered:
            self._hear(message.fields)
        elif kind is TimelinePart:
            self.push("timeline", message.fields)
        elif kind is Exit:
            self._note_exit(message)
        elif kind in (Down, Look) and await self._watch() is not None:
            # The watcher has ended. Its supervisor starts it again, unless the supervisor has ended too.
            send_after(current_pid(), Look(), RETRY)

    def _note_exit(self, message: Exit) -> None:
        """Forget a linked process that has ended. If the timeline has failed, tell the page."""
        if message.pid == self.inspector:
            self.inspector = None
        if message.pid == self.timeline:
            self.timeline = None
            # A timeline ends normally after it has sent its problem to the page.
            if not is_normal_exit(message.reason):
                self.push("timeline", {"problem": _FAILED})

    def _tick(self, point: Record | None) -> None:
        news = self.news
        if news is None:
            return
        memory = self.settings.memory
        payload = self._rows(news) if self.elsewhere is None else self._state_of(self.elsewhere)
        if point is not None:
            payload["point"] = point
            if news.nodes:
                payload["nodes"] = news.nodes
        if memory.last > self.last:
            payload["events"] = memory.since(self.last)
        self.last = memory.last
        self.push("tick", payload)

    def _rows(self, news: News) -> dict[str, Any]:
        """Return the changes of the rows of this node."""
        after = news.model.rows(self.view, lambda number: status_shown(news.pids.get(number)))
        difference = changes(self.rows, after)
        payload: dict[str, Any] = {"now": round(self.settings.runtime.now(), 3)}
        if difference.set or not self.rows:
            payload["set"] = difference.set
        if difference.gone:
            payload["gone"] = difference.gone
        if not self.rows:
            payload["all"] = True
        if news.entities != self.entities or (news.entities and not self.rows):
            payload["entities"] = news.entities
        self.rows, self.entities = after, news.entities
        return payload

    # Another node

    def _state_of(self, elsewhere: Elsewhere) -> dict[str, Any]:
        """Return the state of the other node that the page shows, and ask it for its rows."""
        now = trio.current_time()
        if elsewhere.is_due(now):
            self._ask(elsewhere)
        return {"elsewhere": elsewhere.state(now)}

    def _ask(self, elsewhere: Elsewhere, **fields: Any) -> None:
        """Send a request to the other node."""
        elsewhere.asked = trio.current_time()
        view = {name: sorted(getattr(self.view, name)) for name in ("open", "folded")}
        pubsub = self.settings.endpoint.pubsub
        request = {
            "from": pubsub.node_name,
            "to": elsewhere.node,
            "page": current_pid().number,
            "view": {**view, "search": self.view.search},
            "last": elsewhere.last,
            "pid": elsewhere.pid,
            "incarnation": elsewhere.incarnation,
            **fields,
        }
        sealed = self.settings.access.seal(request)
        pubsub.direct_broadcast(elsewhere.node, self.settings.topic, {"request": sealed})

    def _hear(self, answer: dict[str, Any]) -> None:
        """Pass an answer of the other node to the page."""
        elsewhere = self.elsewhere
        if elsewhere is None or answer.get("from") != elsewhere.node:
            return
        now = trio.current_time()
        if "job" in answer:
            self.push("acted", {"job": answer["job"], "problem": answer.get("problem")})
            return
        tick = elsewhere.hear(answer, now)
        if tick is None:
            self._ask(elsewhere)
            return
        self.push("tick", {**tick, "elsewhere": elsewhere.state(now)})
        if elsewhere.pid is not None and isinstance(answer.get("process"), dict):
            process = {**answer["process"], "about": answer.get("about")}
            self.push("process", {**process, "number": elsewhere.pid})

    # Requests for a view

    @handle_in("view")
    async def change_view(self, payload: Any) -> PushReply:
        if isinstance(payload, dict):
            self.view.update(payload)
        # A page may change its view with each key of a search, so the other node gets the view when it is due.
        self._tick(None)
        return PushReply()

    @handle_in("node")
    async def choose_node(self, payload: Any) -> PushReply:
        """Show the processes of another node. Without a name, show the processes of this node."""
        name = payload.get("node") if isinstance(payload, dict) else None
        self._stop_inspector()
        self.rows = {}
        self.elsewhere = None
        if isinstance(name, str) and name != self.settings.endpoint.pubsub.node_name:
            # If no node has this name, no answer comes, and the page reports that.
            self.elsewhere = Elsewhere(name, trio.current_time())
        self._tick(None)
        return PushReply()

    @handle_in("process")
    async def show_process(self, payload: Any) -> PushReply:
        number = payload.get("pid") if isinstance(payload, dict) else None
        self._stop_inspector()
        if self.elsewhere is not None:
            self.elsewhere.pid = number if isinstance(number, int) else None
            self._ask(self.elsewhere)
            return PushReply()
        if not isinstance(number, int):
            return PushReply()
        memory = self.settings.memory
        about: dict[str, Any] = {"crash": memory.crashes.get(number)}
        pid = None if self.news is None else self.news.pids.get(number)
        if pid is None:
            return PushReply({**about, **memory.ended(number)})
        if self.news is not None:
            about |= self.news.model.about(number)
        self.inspected = number
        self.inspector = spawn_link(
            inspect_process, current_pid(), pid, self.settings, label="observer inspector"
        )
        return PushReply(about)

    def _stop_inspector(self) -> None:
        if self.inspector is not None:
            send_exit(self.inspector, SHUTDOWN)
        self.inspector = self.inspected = None

    @handle_in("timeline")
    async def show_timeline(self, payload: Any) -> PushReply:
        """Start, stop or continue the timeline. `on` starts or stops it, and `drawn` asks for the next part."""
        wanted = payload if isinstance(payload, dict) else {}
        if wanted.get("drawn") is True:
            if self.timeline is not None:
                send(self.timeline, Drawn())
            return PushReply()
        if self.timeline is not None:
            send_exit(self.timeline, SHUTDOWN)
            self.timeline = None
        if wanted.get("on") is True:
            page, settings = current_pid(), self.settings
            self.timeline = spawn_link(follow_timeline, page, settings, label="observer timeline")
        return PushReply()

    # Requests for an action

    @handle_in("act")
    async def act(self, payload: Any) -> PushReply:
        if not self.settings.control:
            return _refused(_READ_ONLY)
        payload = payload if isinstance(payload, dict) else {}
        number, action = payload.get("pid"), payload.get("action")
        shown = None if self.elsewhere is None else self.elsewhere.node
        if payload.get("node") != shown:
            # The page shows another node now, where the number may belong to another process.
            return _refused(f"the page shows {shown or 'its own node'} now")
        program = self.settings.memory.program
        if payload.get("program", program) != program:
            # The client kept the request while it was disconnected, and the program has restarted since.
            return _refused("the program has restarted; choose the process again")
        incarnation = "" if self.elsewhere is None else self.elsewhere.incarnation
        if self.elsewhere is not None and payload.get("incarnation") != incarnation:
            # The page sent the request before it got the rows of the restarted node.
            return _refused(f"{shown} has restarted; choose the process again")
        if action not in ACTIONS:
            return _refused(f"choose one of {', '.join(ACTIONS)}")
        if self.elsewhere is not None and isinstance(number, int):
            self.elsewhere.jobs += 1
            job = self.elsewhere.jobs
            self._ask(self.elsewhere, pid=number, action=action, job=job)
            return PushReply({"job": job})
        pid, title = None, "process"
        if self.news is not None and isinstance(number, int):
            pid, title = self.news.pids.get(number), self.news.model.title_of(number)
        problem = await act(self.settings, action, pid, title)
        return PushReply() if problem is None else _refused(problem)

    @handle_in("level")
    async def set_level(self, payload: Any) -> PushReply:
        if not self.settings.control:
            return _refused(_READ_ONLY)
        if not isinstance(payload, dict):
            return _refused("send a logger and a level")
        problem = set_level(payload.get("logger"), payload.get("level"))
        if problem is not None:
            return _refused(problem)
        self.settings.memory.add(
            self.settings.runtime.now(),
            "level",
            logger=payload["logger"] or "all loggers",
            level=payload["level"],
        )
        return PushReply()


def _refused(reason: str) -> PushReply:
    return PushReply({"reason": reason}, status="error")


class ObserverSocket(Socket):
    """The socket of an observer page. `Observer` makes a subclass with its own access and settings."""

    channels = {"observer": ObserverChannel}
    max_channels = 1
    log = None

    access: ClassVar[Access]
    settings: ClassVar[Callable[[], ObserverSettings]]

    async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
        if not type(self).access.takes_ticket(params.get("ticket")):
            raise ConnectRefused("the ticket is missing, wrong or too old")
        self.assigns["settings"] = type(self).settings()
