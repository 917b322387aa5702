"""The flight recorder, which keeps the newest events of a running program in memory. It is cheap enough to stay on.

    async with open_runtime() as runtime:
        recorder = FlightRecorder(runtime)
        ...
        recorder.dump("what-happened.jsonl")            # for `ashtree story what-happened.jsonl`

It records spawns, messages, calls, exits, crashes with their tracebacks, and the decisions of supervisors, in the trace
format of simulated runs (`supervision.recording.schema`). While the program runs, a record is a small tuple.
Reading the records converts them to trace events (`supervision.recording.conversion`).

There are two rings, because messages are frequent: one for messages, calls and frames, and one for everything else. So
the messages of a busy minute do not push out the record of an earlier crash.

`supervision.recording.files.open_recorder` also writes to files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from heapq import merge
from itertools import count, islice
from operator import itemgetter
from pathlib import Path
from traceback import walk_tb
from typing import Any, Final, NamedTuple, TypeAlias

import trio

from actors.exits import ExitReason
from actors.instrumentation.instrument import Instrument, payload_of
from actors.instrumentation.telemetry import Event
from actors.instrumentation.watchdog import BLOCKED
from actors.messages import Down, Exit
from actors.refs import MailboxLike, Pid
from actors.runtime import Runtime
from supervision.recording.conversion import Birth, Record
from supervision.recording.describe import describe
from supervision.recording.fields import (
    CHILD_EVENTS,
    DEAD_LETTER,
    KIND_LENGTH,
    LABELLED,
    PROCESS_EVENTS,
    child_fields,
    dead_letter_fields,
    problem_fields,
    reason_fields,
)
from supervision.recording.masking import SECRETS, mask
from supervision.recording.places import Place, Places
from supervision.recording.ring import Ring
from supervision.recording.schema import kind_of
from supervision.recording.sizes import Looks
from supervision.recording.snapshots import Snapshot
from supervision.recording.trace import write_lines

__all__ = ["FlightRecorder", "Trouble", "recorder_of"]

MESSAGE_BYTES: Final = 256
"""The estimated size of a record about a message, without its content."""

EVENT_BYTES: Final = 600
"""The estimated size of any other record, without its texts."""

MAX_PATHS: Final = 50_000
"""The most paths whose incarnations the recorder counts. Beyond this number, it forgets the least recent path."""

_MAILBOX_ALARM: Final[Event] = ("actors", "mailbox", "alarm")
_MACHINERY: Final = frozenset(("actors", "supervision", "channels", "trio"))
_FRAMES = 40
_UNREAD = 50
_TEXT = 2000
_LABEL = 120
_number = itemgetter(0)

_Data: TypeAlias = Mapping[str, Any]


class Trouble(NamedTuple):
    """A crash, a zombie, or a supervisor that gave up. Listeners and capsule rules get it as their argument.

    Attributes:
        number: the number of its record.
        kind: "crash", "zombie" or "gave_up".
        path: the path of the process; empty if it is unknown.
        fields: the fields of the event.
    """

    number: int
    kind: str
    path: str
    fields: Mapping[str, Any]


class FlightRecorder(Instrument):
    """A recorder of one runtime. Recording begins when you create the object, and ends with `close`.

        recorder = FlightRecorder(runtime, contents=True)

    Args:
        runtime: the runtime.
        messages: record messages and calls too.
        receives: also record each time a process takes a message out of its mailbox. This doubles the cost.
        contents: record the contents of messages, as text of at most 2000 characters.
        hide: terms. The recorder masks the contents of every key and field whose name contains one of these terms.
        max_messages: the number of records about messages, calls and frames to keep.
        max_events: the number of other records to keep.
        max_bytes: the estimated bytes of all records to keep. Each ring gets one half.
        about: further fields of the `recording` event, such as `program`.

    Attributes:
        runtime: the runtime.
        contents: True if the contents of messages are recorded.
        hide: the terms.
        listeners: functions that the recorder calls with each `Trouble`, in the affected process. They must be fast.
        connections: the processes that serve a client. The recorder takes bytes sent to them for frames of the client.
        filters: functions that get the content of each message, and return the content to record. `hide` applies to
            the result.

    The recorder reads a message only when it is sent, and keeps no reference to it. So a program may change it later.

    A record may be missing: the rings drop the oldest records, and `statistics` counts the dropped records.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        messages: bool = True,
        receives: bool = False,
        contents: bool = False,
        hide: Sequence[str] = SECRETS,
        max_messages: int = 50_000,
        max_events: int = 20_000,
        max_bytes: int = 32 * 1024 * 1024,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(hide, str):
            raise TypeError(f"FlightRecorder got hide={hide!r}; write a list of terms: [{hide!r}]")
        if min(max_messages, max_events, max_bytes) < 1:
            raise ValueError(
                f"FlightRecorder got max_messages={max_messages}, max_events={max_events} and "
                f"max_bytes={max_bytes}; write whole numbers of at least 1"
            )
        self.runtime = runtime
        self.contents = contents
        self.hide = tuple(hide)
        self.places = Places(runtime, watch=False, max_paths=MAX_PATHS)
        self.listeners: tuple[Callable[[Trouble], None], ...] = ()
        self.filters: tuple[Callable[[Any], Any], ...] = ()
        self._records_messages = messages
        self._records_receives = messages and receives
        self._about = dict(about or {})
        self._numbers = count()
        self._now: Callable[[], float] = trio.lowlevel.current_clock().current_time
        self._began = self._now()
        self._began_at = runtime.now()
        self._looks = Looks()
        half = max_bytes // 2
        self._events: Ring[Record] = Ring(max_records=max_events, max_bytes=half)
        self._messages: _Messages = (
            _SizedMessages(max_messages, half) if contents else _Messages(max_messages, half)
        )
        self._keep = self._messages.append
        self._pass_on: Callable[[Record], None] | None = None
        self._remove: Callable[[], None] | None = None
        # The caller and the server of each open call, by the identity of the call.
        self._calls: dict[int, tuple[int | None, int]] = {}
        self._births: dict[Pid, Birth] = {}
        # The runtime takes the mailbox from a process before it reports the end. So the recorder keeps the mailbox
        # until then.
        self._mailboxes: dict[Pid, MailboxLike] = {}
        self.connections: dict[Pid, None] = {}
        for pid, place in self.places.living.items():
            info = runtime.process_info(pid)
            parent = 0 if info is None else info["parent"].number
            self._births[pid] = Birth(pid.number, -1, self._began, _place_fields(parent, place))
            self._watch_mailbox(pid)
        self._attached = ExitStack()
        self._attach()

    def _attach(self) -> None:
        attached, telemetry = self._attached, self.runtime.telemetry
        attached.callback(self.places.close)
        handlers = [
            *((event, self._child_event) for event in CHILD_EVENTS),
            *((event, self._process_event) for event in PROCESS_EVENTS),
            (DEAD_LETTER, self._dead_letter),
            (LABELLED, self._labelled),
            (_MAILBOX_ALARM, self._mailbox_alarm),
            (BLOCKED, self._blocked),
        ]
        for event, handler in handlers:
            attached.callback(telemetry.attach(event, handler))
        attached.callback(self._remove_instrument)
        self._add_instrument()

    def _add_instrument(self) -> None:
        """Attach to the runtime, with message functions that pass their records to the present `_keep`."""
        self._remove_instrument()
        # These run for every message of the program, so they are functions and not methods, which are slower.
        if self._records_messages:
            self.message_sent = self._sent_function()  # type: ignore[method-assign, assignment]
        if self._records_receives:
            self.message_received = self._received_function()  # type: ignore[method-assign, assignment]
        self._remove = self.runtime.add_instrument(self)

    def _remove_instrument(self) -> None:
        if self._remove is not None:
            self._remove()
            self._remove = None

    def _sent_function(self) -> Callable[[Pid | None, Pid, Any], bool | None]:
        number, now, keep, looks = self._numbers.__next__, self._now, self._keep, self._looks
        content = self._content if self.contents else None

        def message_sent(sender: Pid | None, receiver: Pid, message: Any) -> bool | None:
            cls = type(message)
            if cls is bytes:
                # Most messages of a server are the bytes that its clients sent.
                via, kind, size = "info", "bytes", len(message)
            else:
                try:
                    via, look = looks[cls]
                except KeyError:
                    via, look = looks.learn(message)
                kind, size = look(message)
            keep(
                (
                    number(),
                    now(),
                    "sent",
                    None if sender is None else sender.number,
                    receiver.number,
                    via,
                    kind,
                    size,
                    id(message),
                    None if content is None else content(message),
                )
            )
            return None

        return message_sent

    def _received_function(self) -> Callable[[Pid, Any], None]:
        number, now, keep = self._numbers.__next__, self._now, self._keep

        def message_received(pid: Pid, message: Any) -> None:
            cls = type(message)
            ended = message.pid.number if (cls is Down or cls is Exit) and message.pid else None
            keep((number(), now(), "received", pid.number, id(message), cls.__name__, ended))

        return message_received

    def close(self) -> None:
        """Stop recording. The records stay. A second call does nothing."""
        self._attached.close()

    def on_close(self, detach: Callable[[], object]) -> None:
        """Call a function when the recorder closes."""
        self._attached.callback(detach)

    # Reading

    def statistics(self) -> dict[str, int]:
        """Return the numbers of kept records and of dropped records."""
        messages, events = self._messages, self._events
        dropped = self._following() - len(messages) - len(events) - events.dropped
        return {
            "messages": len(messages),
            "events": len(events),
            "bytes": messages.bytes + events.bytes,
            "messages_dropped": dropped,
            "events_dropped": events.dropped,
        }

    def _following(self) -> int:
        """Return the number of the next record."""
        last = (ring.last for ring in (self._messages, self._events))
        return 1 + max((record[0] for record in last if record is not None), default=-1)

    def snapshot(
        self, *, seconds: float | None = None, why: str = "asked", crash: int | None = None
    ) -> Snapshot:
        """Copy the records. This takes about a millisecond for 50,000 records.

        Args:
            seconds: copy only the records of the last seconds; None copies all.
            why: the reason, for the `recording` event.
            crash: the number of the record of the selected crash.
        """
        records = list(merge(self._messages.copy(), self._events.copy(), key=_number))
        now = self._now()
        statistics = self.statistics()
        omitted = statistics["messages_dropped"] + statistics["events_dropped"]
        if seconds is not None:
            records = [record for record in records if record[1] >= now - seconds]
            omitted = max(0, omitted - records[0][0]) if records else 0
        about = {
            "began": self._began_at,
            "why": why,
            "seconds": round(now - (records[0][1] if records else now), 6),
            "contents": self.contents,
            "receives": self._records_receives,
            **self._about,
        }
        return Snapshot(
            records=records,
            births=self.births,
            omitted=omitted,
            following=self._following(),
            now=now,
            began=self._began,
            about=about,
            connections=frozenset(pid.number for pid in self.connections),
            crash=crash,
        )

    def lines(self, *, seconds: float | None = None) -> list[bytes]:
        """Return the records as lines of a trace, for `supervision.story.tell_story`."""
        return self.snapshot(seconds=seconds).lines()

    def dump(self, path: Path | str, *, seconds: float | None = None) -> None:
        """Write the records to a file, for `ashtree story`. This blocks; in a server, use `open_recorder`.

        Args:
            path: the file. This replaces an existing file.
            seconds: write only the records of the last seconds; None writes all.

        Raises:
            OSError: the file cannot be written.
        """
        write_lines(Path(path), self.lines(seconds=seconds))

    def pass_on(self, take: Callable[[Record], None] | None) -> None:
        """Pass each later record to a function too. Call this in the runtime's thread.

        Args:
            take: a fast function that does not raise, such as the `append` of a deque; None ends this.
        """
        self._pass_on = take
        append = self._messages.append
        if take is None:
            self._keep = append
        else:

            def keep(record: Record, take: Callable[[Record], None] = take) -> None:
                append(record)
                take(record)

            self._keep = keep
        if self._remove is not None:
            self._add_instrument()

    # Writing

    @property
    def births(self) -> list[Birth]:
        """The starts of the living processes. Any thread may read this, because the interpreter copies in one step."""
        return list(self._births.values())

    def add(self, kind: str, pid: Pid | None, fields: Mapping[str, Any]) -> int:
        """Record an event with fields, and return the number of its record.

        `supervision.recording.schema.EVENTS` lists the kinds and their fields.
        """
        return self._add(kind, None if pid is None else pid.number, fields)

    def recording_put(self, pid: Pid, put: Callable[[bytes], object]) -> Callable[[bytes], None]:
        """Return a function that records the size of a frame for a client, and passes the frame on.

        Args:
            pid: the process that serves the client.
            put: the function that takes the frame.
        """
        connection, number, now, keep = pid.number, self._numbers.__next__, self._now, self._keep

        def put_recorded(frame: bytes) -> None:
            put(frame)
            keep((number(), now(), "frame", connection, len(frame)))

        return put_recorded

    def fault(self, type: str, pid: Pid | None = None, *, text: str = "") -> None:
        """Record a deliberate fault. Call this just before you cause the fault.

            recorder.fault("kill", pid)
            kill(pid)

        The story of a recording attributes the consequences to the fault.

        Args:
            type: the tag of the fault, such as "kill" or "crash".
            pid: the affected process, if there is one.
            text: the fault in words.
        """
        place = None if pid is None else self.places.was_at(pid)
        path = "" if place is None else place.path
        fields: dict[str, Any] = {
            "path": path,
            "fault": text or f"{type} {path}".strip(),
            "type": type,
            "status": "applied",
        }
        if place is not None:
            fields["inc"] = place.incarnation
        self.add("fault", pid, fields)

    def note(self, text: str, **fields: str) -> None:
        """Record a text, with further fields."""
        self._add("note", None, {"text": text, **fields})

    def _add(self, kind: str, pid: int | None, fields: Mapping[str, Any], *more: Any) -> int:
        number = next(self._numbers)
        record = (number, self._now(), kind, pid, fields, *more)
        size = EVENT_BYTES + sum(len(each) for each in fields.values() if type(each) is str)
        self._events.append(record, size)
        if self._pass_on is not None:
            self._pass_on(record)
        return number

    # The instrument

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        self.places.process_spawned(pid, parent, label)
        fields = _place_fields(parent.number, self.places.living[pid])
        number = self._add("spawned", pid.number, fields)
        self._births[pid] = Birth(pid.number, number, self._now(), fields)
        self._watch_mailbox(pid)

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        birth = self._births.pop(pid, None)
        if birth is None:
            return
        self.connections.pop(pid, None)
        fields = {
            "path": birth.fields["path"],
            "inc": birth.fields["inc"],
            **_cut(reason_fields(reason)),
        }
        mailbox = self._mailboxes.pop(pid, None)
        unread: Collection[Any] = () if mailbox is None else mailbox.queue
        if unread:
            fields["waiting"] = len(unread)
            # `id` connects each message with its `sent` event, if that event is still in the ring.
            first = [
                (id(message), kind_of(message)[:KIND_LENGTH]) for message in islice(unread, _UNREAD)
            ]
        else:
            first = []
        self._add("exited", pid.number, fields, birth, first)
        self.places.process_exited(pid, reason)

    def signal_sent(self, sender: Pid, receiver: Pid, reason: ExitReason, linked: bool) -> None:
        fields = {"to": receiver.number, **_cut(reason_fields(reason)), "linked": linked}
        self._add("signal", sender.number, fields)

    def call_started(self, caller: Pid | None, server: Pid, call: object, timeout: float) -> None:
        if self._records_messages:
            parties = None if caller is None else caller.number, server.number
            self._calls[id(call)] = parties
            limit = None if timeout == float("inf") else timeout
            self._keep((next(self._numbers), self._now(), "call", *parties, limit, id(call)))

    def call_ended(self, call: object, how: str) -> None:
        parties = self._calls.pop(id(call), None)
        if parties is None:
            return
        record = (next(self._numbers), self._now(), "call_ended", *parties, id(call), how)
        if how == "answered":
            self._keep(record)
            return
        # The story of a crash needs the unanswered calls, so this record goes to the ring that holds crashes.
        self._events.append(record, EVENT_BYTES)
        if self._pass_on is not None:
            self._pass_on(record)

    # Telemetry

    def _child_event(self, event: Event, measurements: _Data, metadata: _Data) -> None:
        fields = _cut(child_fields(measurements, metadata))
        kind, supervisor = CHILD_EVENTS[event], metadata["supervisor"]
        number = self.add(kind, supervisor, fields)
        if kind == "gave_up":
            self._tell(number, kind, supervisor, fields)

    def _process_event(self, event: Event, measurements: _Data, metadata: _Data) -> None:
        pid, kind, exception = metadata["pid"], event[-1], metadata["exception"]
        fields = _cut(problem_fields(metadata))
        if kind == "crash":
            message = metadata.get("last_message")
            if message is not None:
                fields["message_kind"] = kind_of(message)[:KIND_LENGTH]
            if exception is not None:
                fields["traceback"] = _frames(exception)
        number = self.add(kind, pid, fields)
        if kind != "cleanup_failed":
            self._tell(number, kind, pid, fields)

    def _dead_letter(self, event: Event, measurements: _Data, metadata: _Data) -> None:
        fields = _cut(dead_letter_fields(metadata, contents=False))
        if self.contents:
            fields["message"] = self._content(metadata["message"])
        self.add("dead_letter", None, fields)

    def _labelled(self, event: Event, measurements: _Data, metadata: _Data) -> None:
        pid, label = metadata["pid"], metadata["label"][:_LABEL]
        birth = self._births.get(pid)
        if birth is not None:
            # For a recording that begins after this event.
            birth.fields["label"] = label
        self.add("labelled", pid, {"label": label})

    def _mailbox_alarm(self, event: Event, measurements: _Data, metadata: _Data) -> None:
        self.add("mailbox_alarm", metadata["pid"], {"length": measurements["queue_length"]})

    def _blocked(self, event: Event, measurements: _Data, metadata: _Data) -> None:
        fields = {
            "process": str(metadata["process"]),
            "handler": str(metadata["handler"]),
            "seconds": measurements["seconds"],
        }
        pid = metadata["pid"]
        self.add("blocked", pid if isinstance(pid, Pid) else None, fields)

    def _watch_mailbox(self, pid: Pid) -> None:
        if pid.process is not None:
            self._mailboxes[pid] = pid.process.mailbox

    def _tell(self, number: int, kind: str, pid: Pid, fields: Mapping[str, Any]) -> None:
        if self.listeners:
            place = self.places.was_at(pid)
            trouble = Trouble(number, kind, "" if place is None else place.path, fields)
            for listener in self.listeners:
                listener(trouble)

    def _content(self, message: Any) -> str:
        content = payload_of(message)
        for prepare in self.filters:
            content = prepare(content)
        return describe(mask(content, self.hide))[:_TEXT]


class _Messages:
    """The ring of records about messages. All records have the same size, so their number also bounds the bytes."""

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self._records: deque[Record] = deque(
            maxlen=max(1, min(max_records, max_bytes // MESSAGE_BYTES))
        )
        self.append: Callable[[Record], None] = self._records.append

    def __len__(self) -> int:
        return len(self._records)

    @property
    def bytes(self) -> int:
        return MESSAGE_BYTES * len(self)

    @property
    def last(self) -> Record | None:
        return self._records[-1] if self._records else None

    def copy(self) -> list[Record]:
        return list(self._records)


class _SizedMessages(_Messages):
    """The ring of records about messages with their contents."""

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self._ring: Ring[Record] = Ring(max_records=max_records, max_bytes=max_bytes)
        self.append = self._append

    def _append(self, record: Record) -> None:
        content = record[9] if record[2] == "sent" else None
        self._ring.append(record, MESSAGE_BYTES + (0 if content is None else len(content)))

    def __len__(self) -> int:
        return len(self._ring)

    @property
    def bytes(self) -> int:
        return self._ring.bytes

    @property
    def last(self) -> Record | None:
        return self._ring.last

    def copy(self) -> list[Record]:
        return self._ring.copy()


def recorder_of(runtime: Runtime) -> FlightRecorder | None:
    """Return the flight recorder that was attached to a runtime first; None if the runtime has none."""
    return next((each for each in runtime.instruments if isinstance(each, FlightRecorder)), None)


def _frames(exception: BaseException) -> list[tuple[str, int, str]]:
    """Return file, line and function of each frame, beginning with the first frame of the program's own code.

    The result has no lines of source, because reading files here would block the program.
    """
    frames = list(walk_tb(exception.__traceback__))
    own = (
        position
        for position, (frame, _) in enumerate(frames)
        if str(frame.f_globals.get("__name__")).partition(".")[0] not in _MACHINERY
    )
    return [
        (frame.f_code.co_filename, line, frame.f_code.co_qualname)
        for frame, line in frames[next(own, 0) :][-_FRAMES:]
    ]


def _place_fields(parent: int, place: Place) -> dict[str, Any]:
    return {
        "parent": parent,
        "path": place.path,
        "inc": place.incarnation,
        "role": place.role,
    }


def _cut(fields: dict[str, Any]) -> dict[str, Any]:
    """Cut long texts. Applications choose the texts of reasons and errors, so these may have any length."""
    for name, value in fields.items():
        if type(value) is str and len(value) > _TEXT:
            fields[name] = f"{value[:_TEXT]}... ({len(value)} characters)"
    return fields
