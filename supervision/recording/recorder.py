"""The recorder, which writes the events of one runtime to a trace, with their causes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from json.encoder import encode_basestring
from typing import Any

from actors.errors import ActorsError, ProcessKilled
from actors.exits import ExitReason
from actors.instrumentation.instrument import Instrument, payload_of
from actors.instrumentation.telemetry import Event
from actors.masking import shown_kind
from actors.messages import Down, Exit
from actors.process import current_pid
from actors.refs import Pid, Ref
from actors.runtime import Runtime
from actors.servers.gen_server import Sender
from supervision.events import RECORDER_WANTED
from supervision.recording.describe import describe, without_addresses
from supervision.recording.fields import (
    CALL_REFUSED,
    CHILD_EVENTS,
    DEAD_LETTER,
    LABELLED,
    LATE_ANSWER,
    PROCESS_EVENTS,
    Data,
    child_fields,
    dead_letter_fields,
    late_answer_fields,
    problem_fields,
    reason_fields,
    refused_fields,
)
from supervision.recording.places import REMEMBERED, Place, Places, UnobservedPlaces
from supervision.recording.schema import kind_of_content, transport_of
from supervision.recording.trace import Trace

__all__ = ["Recorder", "find_process", "place_among", "sender_now"]

# The C function has no annotations.
quoted: Callable[[str], str] = encode_basestring
_NOTHING: deque[tuple[Any, int]] = deque()

_MACHINERY = frozenset(("actors", "supervision", "channels", "trio"))
# Maps each class of messages to the field that marks it in a trace as internal to Ashtree. Empty for other classes.
_MARKS: dict[type, str] = {}
# The types of values that never change. So the trace can turn these values into text later.
_CONSTANTS = frozenset((int, float, bool, type(None), Pid, Ref))
# The same for short texts. A trace of a live run must not keep the data of all clients in memory.
_TEXTS = frozenset((str, bytes))
_SHORT = 256  # characters or bytes
_VARIABLE = object()
_FEW = 8  # the most items of a tuple or a dict that `_constant` checks


class Recorder(Instrument):
    """The instrument that records one runtime.

    Args:
        runtime: the runtime.
        trace: the trace.
        node: the number of the runtime in its world, from 0, or the label of its node, such as `a#2`.
        messages: record messages too. Most events are messages.
        host: the name of the node of the runtime; empty outside of nodes.
        observe: False records no events of the runtime, and adds no instrument to it. `places` works even so.

    Attributes:
        places: the places of the processes.
        ended: the numbers of the `exited` events of the last `REMEMBERED` ended processes.
        because: the number of the event, such as a fault, that causes the current actions outside of processes.
        has_clients: True if another part of the program records the clients of this runtime, without their frames.
    """

    def __init__(
        self,
        runtime: Runtime,
        trace: Trace,
        node: int | str,
        *,
        messages: bool,
        host: str = "",
        observe: bool = True,
    ) -> None:
        self.runtime = runtime
        self.trace = trace
        self.node = node
        self._host = {"host": host} if host else {}
        self.messages = messages
        # `places` is not attached to the runtime. The recorder calls its methods, because it needs the place of a
        # process before it records the start and until it has recorded the end.
        self.places = Places(runtime, watch=False) if observe else UnobservedPlaces(runtime)
        self.ended: dict[Pid, int] = {}
        self.because: int | None = None
        self._living = self.places.living
        # The messages in the mailbox of each receiver, oldest first, with their `sent` events.
        self._unread: dict[Pid, deque[tuple[Any, int]]] = {}
        # The `sent` event and the server of each open call.
        self._calls: dict[object, tuple[int | None, Pid]] = {}
        # The call whose request is the next message.
        self._calling: object = None
        self.has_clients = False
        self._extensions: list[Callable[[Recorder], object]] = []
        # The field `node` as text, for every line; empty for the first runtime.
        self._tail = f',"node":{quoted(node) if isinstance(node, str) else node}' if node else ""
        if not observe:
            return
        runtime.add_instrument(self)
        for event in CHILD_EVENTS:
            runtime.telemetry.attach(event, self._child_event)
        for event in PROCESS_EVENTS:
            runtime.telemetry.attach(event, self._process_event)
        runtime.telemetry.attach(DEAD_LETTER, self._dead_letter)
        runtime.telemetry.attach(CALL_REFUSED, self._call_refused)
        runtime.telemetry.attach(LABELLED, self._labelled)
        runtime.telemetry.attach(RECORDER_WANTED, self._wanted)
        runtime.telemetry.attach(LATE_ANSWER, self._late_answer)

    # For tools that act on processes

    def add(self, kind: str, pid: Pid, fields: dict[str, Any], *, causes: bool) -> int:
        """Add an event about a process. With `causes`, the event is the cause of the next actions of the process."""
        place = self._living.get(pid)
        number = self._add(kind, pid, fields, None if place is None else place.cause)
        if causes and place is not None:
            place.cause = number
        return number

    def sent_as(self, receiver: Pid, message: Any) -> int | None:
        """Return the `sent` event of an unread message."""
        number: int
        for sent, number in reversed(self._unread.get(receiver, _NOTHING)):
            if sent is message:
                return number
        return None

    def lost(self, receiver: Pid, message: Any) -> None:
        """Forget a message that will never arrive."""
        self._taken(receiver, message)

    # The instrument

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        self.places.process_spawned(pid, parent, label)
        above, place = self._living.get(parent), self._living[pid]
        place.cause = self._add(
            "spawned",
            pid,
            {
                "parent": parent.number,
                "path": place.path,
                "inc": place.incarnation,
                "role": place.role,
                **self._host,
            },
            above.cause if above else None,
        )

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        place = self._living[pid]
        self._unread.pop(pid, None)
        fields = {"path": place.path, "inc": place.incarnation, **reason_fields(reason)}
        ended = self.ended
        ended[pid] = self._add("exited", pid, fields, place.cause)
        if len(ended) > REMEMBERED:
            del ended[next(iter(ended))]
        self.places.process_exited(pid, reason)

    def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> bool | None:
        if not self.messages:
            return None
        place = None if sender is None else self._living.get(sender)
        cause = self.because if place is None else place.cause
        pid = None if sender is None else sender.number
        content = _constant(message)
        write: Callable[..., str] = _sent
        shown: str | tuple[str, Any] = ""
        if content is _VARIABLE:
            shown = _message_text(message)
        else:
            write, shown = _sent_constant, (transport_of(message), content)
        number = self.trace.add_later("sent", write, pid, receiver.number, shown, self._tail, cause)
        waiting = self._unread.get(receiver)
        if waiting is None:
            waiting = self._unread[receiver] = deque()
        waiting.append((message, number))
        if self._calling is not None:
            self._calls[self._calling] = number, receiver
            self._calling = None
        return None

    def call_started(self, caller: Pid | None, server: Pid, call: object, timeout: float) -> None:
        if self.messages:
            self._calls[call] = None, server
            # The next message is the request of this call, because there is no checkpoint in between.
            self._calling = call

    def call_ended(self, call: object, how: str) -> None:
        sent, server = self._calls.pop(call, (None, None))
        if server is None or sent is None or not isinstance(call, Sender):
            return
        # The pid of a caller on another node has no meaning here.
        caller = call.pid if isinstance(call.pid, Pid) else None
        pid = "null" if caller is None else caller.number
        answer = f',"answer":{quoted(describe(call.value))}' if how == "answered" else ""
        cause = self._cause_of(caller)
        caused = "" if cause is None else f',"cause":{cause}'
        self.trace.add_text(
            "call_ended",
            f'"pid":{pid},"to":{server.number},"call":null,"sent":{sent},"how":"{how}"{answer}{self._tail}{caused}',
        )

    def _cause_of(self, pid: Pid | None) -> int | None:
        place = None if pid is None else self._living.get(pid)
        return None if place is None else place.cause

    def _cause_now(self, pid: Pid | None) -> int | None:
        """Return the cause of an action now. Outside of processes, `because` is the cause."""
        return self.because if pid is None else self._cause_of(pid)

    def message_received(self, pid: Pid, message: Any) -> None:
        if not self.messages:
            return
        place = self._living.get(pid)
        cause = self._taken(pid, message)
        # The `sent` event describes the message, if there is one.
        said = f",{_message_text(message)}" if cause is None else ""
        number = self.trace.add_later("received", _received, pid.number, said, self._tail, cause)
        if place is not None:
            place.cause = number

    def signal_sent(self, sender: Pid, receiver: Pid, reason: ExitReason, linked: bool) -> None:
        place = self._living.get(sender)
        cause = place.cause if place is not None else self.ended.get(sender, self.because)
        fields = {"to": receiver.number, **reason_fields(reason), "linked": linked}
        number = self._add("signal", sender, fields, cause)
        target = self._living.get(receiver)
        if target is not None:
            target.cause = number

    def _taken(self, pid: Pid, message: Any) -> int | None:
        """Return the `sent` event of a received message, and forget the message."""
        waiting = self._unread.get(pid)
        if waiting:
            first, number = waiting[0]
            if first is message:
                del waiting[0]
                return number
            # A selective receive took the message out of order.
            for position, (sent, number) in enumerate(waiting):
                if sent is message:
                    del waiting[position]
                    return number
        if type(message) is Down or type(message) is Exit:
            return self.ended.get(message.pid) if message.pid is not None else None
        return None

    # Telemetry

    def _child_event(self, event: Event, measurements: Data, metadata: Data) -> None:
        supervisor, fields = metadata["supervisor"], child_fields(measurements, metadata)
        self._add(CHILD_EVENTS[event], supervisor, fields, self._cause_of(supervisor))

    def _process_event(self, event: Event, measurements: Data, metadata: Data) -> None:
        self._add(event[-1], metadata["pid"], problem_fields(metadata), None)

    def _dead_letter(self, event: Event, measurements: Data, metadata: Data) -> None:
        sender = sender_now()
        self._add("dead_letter", sender, dead_letter_fields(metadata), self._cause_now(sender))

    def _call_refused(self, event: Event, measurements: Data, metadata: Data) -> None:
        caller = metadata["pid"]
        self._add("call_refused", caller, refused_fields(metadata), self._cause_now(caller))

    def _labelled(self, event: Event, measurements: Data, metadata: Data) -> None:
        pid = metadata["pid"]
        fields = {"label": without_addresses(metadata["label"])}
        self._add("labelled", pid, fields, self._cause_of(pid))

    def _wanted(self, event: Event, measurements: Data, metadata: Data) -> None:
        extend: Callable[[Recorder], object] = metadata["extend"]
        if self.messages and not self.has_clients and extend not in self._extensions:
            self._extensions.append(extend)
            extend(self)

    def _late_answer(self, event: Event, measurements: Data, metadata: Data) -> None:
        server, fields = metadata["server"], late_answer_fields(measurements, metadata)
        self._add("late_answer", server, fields, self._cause_of(server))

    def _add(self, kind: str, pid: Pid | None, fields: dict[str, Any], cause: int | None) -> int:
        event: dict[str, Any] = {"pid": None if pid is None else pid.number, **fields}
        if self.node:
            event["node"] = self.node
        if cause is not None:
            event["cause"] = cause
        return self.trace.add(kind, event)


def _message_text(message: Any) -> str:
    """Return the fields of a message for `Trace.add_text`."""
    return _content_text(transport_of(message), payload_of(message))


def _content_text(via: str, content: Any) -> str:
    kind = quoted(shown_kind(kind_of_content(content)))
    cls = type(content)
    try:
        mark = _MARKS[cls]
    except KeyError:
        # An object with an attribute `event`, such as a push or a broadcast, carries a message of the application.
        own = cls.__module__.partition(".")[0] in _MACHINERY and not hasattr(cls, "event")
        mark = _MARKS[cls] = ',"internal":true' if own else ""
    return f'"via":"{via}","message_kind":{kind},"message":{quoted(describe(content))}{mark}'


def _sent(pid: int | None, to: int, message: str, tail: str, cause: int | None) -> str:
    """Return the fields of a `sent` event as text."""
    sender = "null" if pid is None else pid
    caused = "" if cause is None else f',"cause":{cause}'
    return f'"pid":{sender},"to":{to},{message}{tail}{caused}'


def _sent_constant(
    pid: int | None, to: int, message: tuple[str, Any], tail: str, cause: int | None
) -> str:
    """Return the fields of a `sent` event as text. `message` is a pair: the transport, and the constant content."""
    return _sent(pid, to, _content_text(*message), tail, cause)


def _received(pid: int, said: str, tail: str, cause: int | None) -> str:
    """Return the fields of a `received` event as text."""
    caused = "" if cause is None else f',"cause":{cause}'
    return f'"pid":{pid}{said}{tail}{caused}'


def _constant(message: Any) -> Any:
    """Return the content of a small message that nothing can change, or a copy of it; `_VARIABLE` for other content.

    The recorder can turn constant content into text later. It must turn any other content into text at once.
    """
    content = payload_of(message)
    cls = type(content)
    if _is_constant(content):
        return content
    if cls is tuple and len(content) <= _FEW:
        return content if all(map(_is_constant, content)) else _VARIABLE
    if cls is dict and len(content) <= _FEW:
        for key, each in content.items():
            if not _is_constant(key) or not _is_constant(each):
                return _VARIABLE
        return content.copy()
    return _VARIABLE


def _is_constant(value: Any) -> bool:
    cls = type(value)
    return cls in _CONSTANTS or (cls in _TEXTS and len(value) <= _SHORT)


def sender_now() -> Pid | None:
    """Return the process of the current task; None outside of processes, and in a task of a zombie."""
    try:
        return current_pid()
    except (ActorsError, ProcessKilled):
        return None


def place_among(recorders: Iterable[Recorder], pid: Pid) -> tuple[Recorder, Place] | None:
    """Return the recorder that knows a living process, and its place; None if no recorder does."""
    for recorder in recorders:
        place = recorder.places.place_of(pid)
        if place is not None:
            return recorder, place
    return None


def find_process(recorders: Iterable[Recorder], path: str) -> Pid | None:
    """Return the newest living process whose path matches, from the first recorder that has one."""
    for recorder in recorders:
        pid = recorder.places.find(path)
        if pid is not None:
            return pid
    return None
