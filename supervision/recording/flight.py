"""The flight recorder. It keeps the newest events of a running program in memory, and is cheap enough to stay on.

    async with open_runtime() as runtime:
        recorder = FlightRecorder(runtime)
        ...
        recorder.dump("what-happened.jsonl")            # for `ashtree story what-happened.jsonl`

It records spawns, messages, calls, exits, crashes with their tracebacks, and the decisions of supervisors, in the trace
format of simulated runs (`supervision.recording.schema`). While the program runs, a record is a small tuple.
Reading the records converts them to trace events (`supervision.recording.conversion`).

The recorder has two rings, because messages are frequent. One ring holds messages, calls and frames. The other holds
all other records. So the messages of a busy minute do not push out the record of an earlier crash.

`supervision.recording.files.open_recorder` also writes to files.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from heapq import merge
from itertools import count, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

import trio

from actors.arguments import check_whole
from actors.exits import ExitReason
from actors.instrumentation.instrument import Instrument, payload_of
from actors.instrumentation.telemetry import Event
from actors.masking import SECRETS, mask, shown_kind
from actors.messages import Down, Exit
from actors.refs import MailboxLike, Pid
from actors.runtime import Runtime
from actors.watchdog import BLOCKED
from supervision.recording.conversion import Birth, Record, Snapshot
from supervision.recording.describe import describe
from supervision.recording.fields import (
    CHILD_EVENTS,
    DEAD_LETTER,
    LABELLED,
    LATE_ANSWER,
    PROCESS_EVENTS,
    TEXT_LENGTH,
    Data,
    child_fields,
    cut_texts,
    dead_letter_fields,
    frames_of,
    late_answer_fields,
    problem_fields,
    reason_fields,
)
from supervision.recording.places import Place, Places
from supervision.recording.ring import ContentRing, MessageRing, Ring
from supervision.recording.schema import kind_of
from supervision.recording.sizes import EVENT_BYTES, Looks, size_of_event, size_of_exit
from supervision.recording.tap import Tap, Tape
from supervision.recording.trace import write_lines

__all__ = ["FlightRecorder", "Trouble", "recorder_of"]

MAX_PATHS: Final = 50_000
"""The most paths whose incarnations the recorder counts. Beyond this number, it forgets the least recent path."""

_MAILBOX_ALARM: Final[Event] = ("actors", "mailbox", "alarm")
_UNREAD = 50
_LABEL = 120
_number = itemgetter(0)


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
        messages: also record messages and calls.
        frames: also record the frames of clients. Only `channels.recording` uses this.
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
        records_messages: True if messages are recorded.
        records_frames: True if the frames of clients are recorded.
        hide: the terms.
        listeners: functions that the recorder calls with each `Trouble`, in the affected process. They must be fast.
        connections: the processes that serve a client. Each has a function that the recorder calls in `close`. The
            recorder treats bytes sent to these processes as frames of the client. If the process ends first, the
            recorder calls the function then.
        filters: functions that get the content of each message, and return the content to record. The recorder then
            applies `hide` to the result.

    The recorder reads a message only when a process sends it, and keeps no reference. So a program may change the
    message later.

    For a message of a client to its channel, the recorder does not read the clock, because this would take half as
    long as the record itself. Such a message gets the time of the latest read, write or event.

    A record may be missing: the rings drop the oldest records, and `statistics` counts the dropped records.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        messages: bool = True,
        frames: bool = True,
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
        check_whole("FlightRecorder", "max_messages", max_messages)
        check_whole("FlightRecorder", "max_events", max_events)
        check_whole("FlightRecorder", "max_bytes", max_bytes)
        self.runtime = runtime
        self.contents = contents
        self.hide = tuple(hide)
        self.places = Places(runtime, watch=False, max_paths=MAX_PATHS)
        self.listeners: tuple[Callable[[Trouble], None], ...] = ()
        self.filters: tuple[Callable[[Any], Any], ...] = ()
        self.records_messages = messages
        self.records_frames = frames
        self._records_receives = messages and receives
        self._about = dict(about or {})
        self._numbers = count()
        self._now: Callable[[], float] = trio.lowlevel.current_clock().current_time
        self._began = self._now()
        self._began_at = runtime.now()
        self._looks = Looks()
        half = max_bytes // 2
        self._events: Ring[Record] = Ring(max_records=max_events, max_bytes=half)
        self._messages = (ContentRing if contents else MessageRing)(
            max_records=max_messages, max_bytes=half
        )
        self._tape = Tape(self._now, self._messages.append)
        self._pass_on: Callable[[Record], None] | None = None
        # The caller and the server of each open call, by the identity of the call.
        self._calls: dict[int, tuple[int | None, int]] = {}
        self._answers: dict[int, str] = {}
        self._births: dict[Pid, Birth] = {}
        # The runtime takes the mailbox from a process before it reports the end. So the recorder keeps the mailbox
        # until then.
        self._mailboxes: dict[Pid, MailboxLike] = {}
        self.connections: dict[Pid, Callable[[], object]] = {}
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
            (LATE_ANSWER, self._late_answer),
            (_MAILBOX_ALARM, self._mailbox_alarm),
            (BLOCKED, self._blocked),
        ]
        for event, handler in handlers:
            attached.callback(telemetry.attach(event, handler))
        # These functions run for every message of the program. They are not methods, because methods are slower.
        if self.records_messages:
            self.message_sent = self._sent_function()  # type: ignore[method-assign, assignment]
        if self._records_receives:
            self.message_received = self._received_function()  # type: ignore[method-assign, assignment]
        attached.callback(self._tape.end)
        attached.callback(self._leave_connections)
        attached.callback(self.runtime.add_instrument(self))

    def _leave_connections(self) -> None:
        for pid, detach in self.connections.items():
            detach()
            # The records stay readable, and need the pids. The servers must not stay in memory for that.
            self.connections[pid] = _do_nothing

    def _sent_function(self) -> Callable[[Pid | None, Pid, Any], bool | None]:
        number, now, tape, looks = self._numbers.__next__, self._now, self._tape, self._looks
        content = self._content if self.contents else None

        def message_sent(sender: Pid | None, receiver: Pid, message: Any) -> bool | None:
            cls = type(message)
            if cls is bytes:
                via, kind, size = "info", "bytes", len(message)
            else:
                try:
                    via, look = looks[cls]
                except KeyError:
                    via, look = looks.learn(message)
                kind, size = look(message)
            # Times in a trace never go backwards, so the next message of a client must not get an earlier time.
            tape.time = time = now()
            tape.keep(
                (
                    number(),
                    time,
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
        number, tape = self._numbers.__next__, self._tape

        def message_received(pid: Pid, message: Any) -> None:
            cls = type(message)
            ended = message.pid.number if (cls is Down or cls is Exit) and message.pid else None
            tape.keep(
                (number(), tape.look(), "received", pid.number, id(message), cls.__name__, ended)
            )

        return message_received

    def close(self) -> None:
        """Stop recording. The records stay. A second call does nothing."""
        self._attached.close()

    def on_close(self, detach: Callable[[], object]) -> None:
        """Call a function when the recorder closes.

        Args:
            detach: A function without arguments.
        """
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
        self,
        *,
        seconds: float | None = None,
        why: str = "asked",
        crash: int | None = None,
        messages: bool = True,
    ) -> Snapshot:
        """Copy the records. This takes about a millisecond for 50,000 records.

        Args:
            seconds: copy only the records of the last seconds; None copies all.
            why: the reason, for the `recording` event.
            crash: the number of the record of the selected crash.
            messages: also copy the records about messages, calls and frames.

        Returns:
            The copy.
        """
        records = self._events.copy()
        if messages:
            records = list(merge(self._messages.copy(), records, key=_number))
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

    def since(self, number: int) -> list[Record]:
        """Return the records after a given one, oldest first, without those that the rings have already dropped.

        Args:
            number: the number of the last record that the caller already has.
        """
        newer: list[Record] = []
        for ring in (self._messages, self._events):
            records = ring.copy()
            newer += records[bisect_right(records, number, key=_number) :]
        return sorted(newer, key=_number)

    @property
    def elapsed(self) -> float:
        """The seconds since the recorder began. Its trace begins at second 0."""
        return self._now() - self._began

    @property
    def oldest_event(self) -> int:
        """The number of the oldest record in the ring without messages; -1 if that ring has dropped no record."""
        first = self._events.first if self._events.dropped else None
        return -1 if first is None else int(first[0])

    def lines(self, *, seconds: float | None = None) -> list[bytes]:
        """Return the records as lines of a trace, for `supervision.story.tell_story`.

        Args:
            seconds: Return only the records of the last seconds; None returns all.
        """
        return self.snapshot(seconds=seconds).lines()

    def dump(self, path: Path | str, *, seconds: float | None = None) -> None:
        """Write the records to a file, for `ashtree story`. This blocks. In a server, use `open_recorder` instead.

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
            self._tape.keep = append
            return

        def keep(record: Record, take: Callable[[Record], None] = take) -> None:
            append(record)
            take(record)

        self._tape.keep = keep

    # Writing

    @property
    def births(self) -> list[Birth]:
        """The starts of the living processes. Any thread may read this, because the interpreter copies in one step."""
        return list(self._births.values())

    def add(self, kind: str, pid: Pid | None, fields: Mapping[str, Any]) -> int:
        """Record an event with fields, and return the number of its record.

        `supervision.recording.schema.EVENTS` lists the kinds and their fields.

        Args:
            kind: The kind of the event.
            pid: The process of the event, if it has one.
            fields: The fields, by name.
        """
        return self._add(kind, None if pid is None else pid.number, fields)

    def tap(self) -> Tap:
        """Return the functions that record what the clients of a server send and get."""
        return Tap(
            self.runtime,
            self._numbers.__next__,
            self._tape,
            sent=self.message_sent,
            contents=self.contents,
            messages=self.records_messages,
            # With contents, `channels.recording` records the frames itself.
            frames=self.records_frames and not self.contents,
        )

    def add_message(self, kind: str, pid: Pid | None, *items: Any) -> None:
        """Record an event about a message. It goes to the ring of messages.

        Args:
            kind: The kind of the event.
            pid: The process of the event, if it has one.
            *items: The fields, by name, or small items of which `Conversion` makes the fields of this kind.
        """
        number = None if pid is None else pid.number
        self._tape.keep((next(self._numbers), self._tape.look(), kind, number, *items))

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
        """Record a text, with further fields.

        Args:
            text: The text.
            **fields: Further texts, by name.
        """
        self._add("note", None, {"text": text, **fields})

    def _add(self, kind: str, pid: int | None, fields: Mapping[str, Any], *more: Any) -> int:
        number = next(self._numbers)
        record = (number, self._tape.look(), kind, pid, fields, *more)
        size = size_of_event(fields)
        if kind == "exited":
            size += size_of_exit(*more)
        self._events.append(record, size)
        if self._pass_on is not None:
            self._pass_on(record)
        return number

    # The instrument

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        self.places.process_spawned(pid, parent, label)
        fields = _place_fields(parent.number, self.places.living[pid])
        number = self._add("spawned", pid.number, fields)
        self._births[pid] = Birth(pid.number, number, self._tape.time, fields)
        self._watch_mailbox(pid)

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        birth = self._births.get(pid)
        if birth is None:
            return
        self.connections.pop(pid, _do_nothing)()
        fields = {
            "path": birth.fields["path"],
            "inc": birth.fields["inc"],
            **cut_texts(reason_fields(reason)),
        }
        mailbox = self._mailboxes.pop(pid, None)
        unread: Collection[Any] = () if mailbox is None else mailbox.queue
        if unread:
            fields["waiting"] = len(unread)
            # `id` connects each message with its `sent` event, if that event is still in the ring.
            first = [
                (id(message), shown_kind(kind_of(message))) for message in islice(unread, _UNREAD)
            ]
        else:
            first = []
        self._add("exited", pid.number, fields, birth, first)
        # Only now, because the thread that writes files must find the start here or in the record.
        del self._births[pid]
        self.places.process_exited(pid, reason)

    def signal_sent(self, sender: Pid, receiver: Pid, reason: ExitReason, linked: bool) -> None:
        fields = {"to": receiver.number, **cut_texts(reason_fields(reason)), "linked": linked}
        self._add("signal", sender.number, fields)

    def call_started(self, caller: Pid | None, server: Pid, call: object, timeout: float) -> None:
        if self.records_messages:
            parties = None if caller is None else caller.number, server.number
            self._calls[id(call)] = parties
            limit = None if timeout == float("inf") else timeout
            record = (next(self._numbers), self._tape.look(), "call", *parties, limit, id(call))
            self._tape.keep(record)

    def call_answered(self, call: object, value: Any) -> None:
        if self.contents and id(call) in self._calls:
            self._answers[id(call)] = self._shown(value)

    def call_ended(self, call: object, how: str) -> None:
        parties = self._calls.pop(id(call), None)
        if parties is None:
            return
        record = (
            *(next(self._numbers), self._tape.look(), "call_ended", *parties, id(call), how),
            self._answers.pop(id(call), None),
        )
        if how == "answered":
            self._tape.keep(record)
            return
        # The story of a crash needs the unanswered calls, so this record goes to the ring that holds crashes.
        self._events.append(record, EVENT_BYTES)
        if self._pass_on is not None:
            self._pass_on(record)

    # Telemetry

    def _child_event(self, event: Event, measurements: Data, metadata: Data) -> None:
        fields = cut_texts(child_fields(measurements, metadata))
        kind, supervisor = CHILD_EVENTS[event], metadata["supervisor"]
        number = self.add(kind, supervisor, fields)
        if kind == "gave_up":
            self._tell(number, kind, supervisor, fields)

    def _process_event(self, event: Event, measurements: Data, metadata: Data) -> None:
        pid, kind, exception = metadata["pid"], event[-1], metadata["exception"]
        fields = cut_texts(problem_fields(metadata))
        if kind == "crash":
            message = metadata.get("last_message")
            if message is not None:
                fields["message_kind"] = shown_kind(kind_of(message))
            if exception is not None:
                fields["traceback"] = frames_of(exception)
        number = self.add(kind, pid, fields)
        if kind != "cleanup_failed":
            self._tell(number, kind, pid, fields)

    def _dead_letter(self, event: Event, measurements: Data, metadata: Data) -> None:
        fields = cut_texts(dead_letter_fields(metadata, contents=False))
        if self.contents:
            fields["message"] = self._content(metadata["message"])
        self.add("dead_letter", None, fields)

    def _labelled(self, event: Event, measurements: Data, metadata: Data) -> None:
        pid, label = metadata["pid"], metadata["label"][:_LABEL]
        birth = self._births.get(pid)
        if birth is not None:
            # A snapshot without this event takes the label from the record of the process's start.
            birth.fields["label"] = label
        self.add("labelled", pid, {"label": label})

    def _late_answer(self, event: Event, measurements: Data, metadata: Data) -> None:
        # The identity of the call connects this event with the `call_ended` event.
        fields, identity = late_answer_fields(measurements, metadata), id(metadata["call"])
        self._add("late_answer", metadata["server"].number, fields, identity)

    def _mailbox_alarm(self, event: Event, measurements: Data, metadata: Data) -> None:
        self.add("mailbox_alarm", metadata["pid"], {"length": measurements["queue_length"]})

    def _blocked(self, event: Event, measurements: Data, metadata: Data) -> None:
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
        return self._shown(payload_of(message))

    def _shown(self, content: Any) -> str:
        for prepare in self.filters:
            content = prepare(content)
        return describe(mask(content, self.hide))[:TEXT_LENGTH]


def recorder_of(runtime: Runtime) -> FlightRecorder | None:
    """Return the flight recorder that was attached to a runtime first; None if the runtime has none.

    Args:
        runtime: The runtime.
    """
    return next((each for each in runtime.instruments if isinstance(each, FlightRecorder)), None)


def _do_nothing() -> None:
    pass


def _place_fields(parent: int, place: Place) -> dict[str, Any]:
    return {
        "parent": parent,
        "path": place.path,
        "inc": place.incarnation,
        "role": place.role,
    }
