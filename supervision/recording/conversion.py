"""Records of a flight recorder, copies of them, and their conversion to events of a trace.

*pure*: the only inputs are the records and, if the caller provides them, lines of source files.

A record is a tuple: its number, its time, its kind, and the fields of this kind. `Conversion` derives the causes of
events as a recorder of simulated runs does: the last event that reached a process causes the next actions of the
process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

__all__ = ["Birth", "Conversion", "Record", "Snapshot", "further_events"]

Record: TypeAlias = tuple[Any, ...]
"""A record: number, time, kind, and the fields of the kind. The methods of `Conversion` name these fields."""

_REMEMBERED: Final = 10_000
_REMEMBERED_MESSAGES: Final = 50_000
_encode = msgspec.json.Encoder().encode


class Birth(NamedTuple):
    """The start of a process. The recorder keeps it while the process lives. Then the record of the end contains it.

    Attributes:
        pid: the number of the process.
        n: the number of the `spawned` record; -1 if the process lived before the recorder began.
        t: the time of the start on the recorder's clock.
        fields: the fields of the `spawned` event.
    """

    pid: int
    n: int
    t: float
    fields: dict[str, Any]


def further_events(record: Record) -> int:
    """Return the number of events after the first one that a record becomes. It is 0 except for a record of writes."""
    return len(record[3]) // 3 - 1 if record[2] == "wrote" else 0


class Conversion:
    """A conversion of consecutive records to lines of a trace.

    Args:
        began: the reading of the recorder's clock at second 0 of the trace.
        offset: the number to add to a record's number to get the number of its event.
        receives: True if the records include the receipt of messages.
        connections: the numbers of the processes that serve a client when the records begin.
        source: returns a line of a source file, by file and number; None leaves the source out.
    """

    def __init__(
        self,
        *,
        began: float,
        offset: int = 0,
        receives: bool = False,
        connections: Iterable[int] = (),
        source: Callable[[str, int], str] | None = None,
    ) -> None:
        self._began = began
        self._offset = offset
        # A record of several writes becomes several events. This counts the events after the first one of each record.
        self._further = 0
        self._source = source
        # The last event that reached each process, and the event of its end.
        self._causes: dict[int, int] = {}
        self._ended: dict[int, int] = {}
        self._receives = receives
        self._connections = set(connections)
        # The `sent` events of the newest unread messages, by receiver and identity of the message.
        self._unread: dict[tuple[int, int], list[int]] = {}
        # The `call` event of each open call.
        self._calls: dict[int, int] = {}
        # The `call_ended` event of each call whose caller gave up.
        self._given_up: dict[int, int] = {}
        # The last fault and its time. The fault causes everything that tasks outside of processes do at that time.
        self._outside: tuple[float, int] | None = None
        self._writers: dict[str, Callable[[Record, int], dict[str, Any] | None]] = {
            "sent": self._sent,
            "received": self._received,
            "delivered": self._delivered,
            "read": self._read,
            "call": self._call,
            "call_ended": self._call_ended,
            "late_answer": self._late_answer,
            "spawned": self._spawned,
            "exited": self._exited,
            "signal": self._signal,
            "crash": self._crash,
            "fault": self._fault,
            "client_connected": self._client_connected,
            "envelope_sent": self._envelope,
            "envelope_received": self._envelope,
            "entity_began": self._entity_began,
        }

    def line(self, number: int, t: float, kind: str, fields: dict[str, Any]) -> bytes:
        """Return one event as a line of the trace."""
        head = {"n": number, "t": round(t, 6), "round": 0, "task": 0, "kind": kind}
        return _encode(head | fields)

    def baseline(self, births: Iterable[Birth], first: int) -> Iterator[bytes]:
        """Yield `spawned` events for processes that started before the first record.

        Args:
            births: the processes, in the order of their starts.
            first: the number of the first of these events.
        """
        for number, birth in enumerate(births, first):
            self._causes[birth.pid] = number
            fields = {"pid": birth.pid, **birth.fields, "before": True}
            yield self.line(number, birth.t - self._began, "spawned", fields)

    def omitted(self, number: int, t: float, omitted: int) -> bytes:
        """Return the event that counts lost records."""
        # The lost records may include reads of these messages. A later read could then get the wrong `sent` event as
        # its cause.
        self._unread.clear()
        return self.line(number, t - self._began, "omitted", {"pid": None, "omitted": omitted})

    def lost(self, first: int, t: float, count: int) -> bytes:
        """Return the event that counts missing records. `first` is the number of the first missing record."""
        return self.omitted(first + self._offset + self._further, t, count)

    def convert(self, records: Iterable[Record]) -> Iterator[bytes]:
        """Yield the lines of consecutive records."""
        writers, offset, began = self._writers, self._offset, self._began
        for record in records:
            number = record[0] + offset + self._further
            kind = record[2]
            if kind == "wrote":
                yield from self._wrote(record, number)
                continue
            fields = writers.get(kind, self._other)(record, number)
            if fields is not None:
                yield self.line(number, record[1] - began, kind, fields)

    def _wrote(self, record: Record, number: int) -> Iterator[bytes]:
        _, t, _, written = record
        for pid, size, frames in zip(written[::3], written[1::3], written[2::3], strict=True):
            fields = {"pid": pid, "direction": "out", "size": size}
            if frames > 1:
                fields["frames"] = frames
            yield self.line(number, t - self._began, "frame", fields)
            number += 1
        self._further += further_events(record)

    # One method for each kind. Each method gets the record and the number of its event.

    def _sent(self, record: Record, number: int) -> dict[str, Any]:
        _, t, _, sender, receiver, via, kind, size, identity, content = record
        if receiver in self._connections and kind == "bytes":
            return {"kind": "frame", "pid": receiver, "direction": "in", "size": size}
        fields = {"pid": sender, "to": receiver, "via": via, "message_kind": kind, "size": size}
        if content is not None:
            fields["message"] = content
        key = receiver, identity
        unread = self._unread
        if self._receives and key in unread:
            # The same object is in the mailbox twice.
            unread[key].append(number)
        else:
            unread[key] = [number]
            if len(unread) > _REMEMBERED_MESSAGES:
                del unread[next(iter(unread))]
        return self._caused(fields, self._cause_of(sender, t))

    def _received(self, record: Record, number: int) -> dict[str, Any]:
        _, _, _, pid, identity, kind, ended = record
        cause = self._sent_as(pid, identity)
        fields: dict[str, Any] = {"pid": pid}
        if cause is None:
            fields["message_kind"] = kind
            if ended is not None:
                fields["via"] = kind.lower()
                cause = self._ended.get(ended)
        self._causes[pid] = number
        return self._caused(fields, cause)

    def _sent_as(self, pid: int, identity: int) -> int | None:
        """Return the oldest unread `sent` event of a message, and forget it."""
        numbers = self._unread.get((pid, identity))
        if numbers is None:
            return None
        number = numbers.pop(0)
        if not numbers:
            del self._unread[pid, identity]
        return number

    def _delivered(self, record: Record, number: int) -> dict[str, Any]:
        _, t, _, connection, channel, kind, size, identity = record
        sent = number, t, "sent", connection, channel, "info", kind, size, identity, None
        return {"kind": "sent", **self._sent(sent, number)}

    def _read(self, record: Record, number: int) -> dict[str, Any]:
        _, _, _, pid, size = record
        return {"kind": "frame", "pid": pid, "direction": "in", "size": size}

    def _call(self, record: Record, number: int) -> dict[str, Any]:
        _, t, _, caller, server, timeout, identity = record
        self._calls[identity] = number
        fields = {"pid": caller, "to": server, "timeout": timeout}
        return self._caused(fields, self._cause_of(caller, t))

    def _call_ended(self, record: Record, number: int) -> dict[str, Any]:
        _, _, _, caller, server, identity, how, answer = record
        call = self._calls.pop(identity, None)
        if how in ("timeout", "cancelled"):
            self._given_up[identity] = number
            if len(self._given_up) > _REMEMBERED:
                del self._given_up[next(iter(self._given_up))]
        cause = self._ended.get(server) if how == "server_ended" else call
        fields = {"pid": caller, "to": server, "call": call, "how": how}
        if answer is not None:
            fields["answer"] = answer
        return self._caused(fields, cause)

    def _late_answer(self, record: Record, number: int) -> dict[str, Any]:
        _, _, _, server, fields, identity = record
        ended = self._given_up.pop(identity, None)
        return self._caused({"pid": server, **fields, "ended": ended}, self._causes.get(server))

    def _spawned(self, record: Record, number: int) -> dict[str, Any]:
        _, _, _, pid, fields = record
        self._causes[pid] = number
        return self._caused({"pid": pid, **fields}, self._causes.get(fields["parent"]))

    def _exited(self, record: Record, number: int) -> dict[str, Any]:
        _, _, _, pid, fields, _, unread = record
        self._connections.discard(pid)
        if unread:
            described = [
                {"message_kind": kind, "sent": self._sent_as(pid, identity)}
                for identity, kind in unread
            ]
            fields = {**fields, "unread": described}
        ended = self._ended
        ended[pid] = number
        if len(ended) > _REMEMBERED:
            del ended[next(iter(ended))]
        return self._caused({"pid": pid, **fields}, self._causes.pop(pid, None))

    def _signal(self, record: Record, number: int) -> dict[str, Any]:
        _, t, _, sender, fields = record
        cause = self._causes.get(sender)
        if cause is None:
            cause = self._ended.get(sender)
        if cause is None:
            cause = self._cause_of(None, t)
        if fields["to"] in self._causes:
            self._causes[fields["to"]] = number
        return self._caused({"pid": sender, **fields}, cause)

    def _crash(self, record: Record, number: int) -> dict[str, Any]:
        _, _, _, pid, fields = record
        frames: Sequence[tuple[str, int, str]] = fields.get("traceback", ())
        if frames:
            source = self._source
            fields = {
                **fields,
                "traceback": [
                    {
                        "file": file,
                        "line": line,
                        "function": function,
                        "source": "" if source is None else source(file, line).strip(),
                    }
                    for file, line, function in frames
                ],
            }
        return self._caused({"pid": pid, **fields}, self._ended.get(pid))

    def _fault(self, record: Record, number: int) -> dict[str, Any]:
        _, t, _, pid, fields = record
        if pid in self._causes:
            self._causes[pid] = number
        self._outside = t, number
        return {"pid": pid, **fields}

    def _client_connected(self, record: Record, number: int) -> dict[str, Any]:
        self._connections.add(record[3])
        return self._other(record, number)

    def _envelope(self, record: Record, number: int) -> dict[str, Any]:
        _, _, kind, pid, topic, *id = record
        field = "leaves" if kind == "envelope_sent" else "arrives"
        fields = {"pid": pid, "topic": topic, field: " ".join(map(str, id))}
        self._caused(fields, self._causes.get(pid))
        if kind == "envelope_received" and pid is not None:
            # What the process does next, it does because of this envelope.
            self._causes[pid] = number
        return fields

    def _entity_began(self, record: Record, number: int) -> dict[str, Any]:
        _, _, _, pid, fence = record
        return self._caused({"pid": pid, "fence": fence}, self._causes.get(pid))

    def _other(self, record: Record, number: int) -> dict[str, Any]:
        _, _, _, pid, fields = record
        cause = None if pid is None else self._causes.get(pid, self._ended.get(pid))
        return self._caused({"pid": pid, **fields}, cause)

    def _cause_of(self, pid: int | None, t: float) -> int | None:
        """Return the cause of an action. Outside of processes, this is a fault at the same time; None without one."""
        if pid is not None:
            return self._causes.get(pid)
        return self._outside[1] if self._outside is not None and self._outside[0] == t else None

    def _caused(self, fields: dict[str, Any], cause: int | None) -> dict[str, Any]:
        if cause is not None:
            fields["cause"] = cause
        return fields


class Snapshot(NamedTuple):
    """A copy of the records, which another thread may convert.

    Attributes:
        records: the records, oldest first.
        births: the processes that live now.
        omitted: the number of records that the rings have dropped.
        following: the number of the next record.
        now: the time of the copy on the recorder's clock.
        began: the reading of the recorder's clock at second 0 of the trace.
        about: the fields of the `recording` event.
        connections: the numbers of the processes that serve a client.
        crash: the number of the record of the selected crash; None without one.
    """

    records: list[Record]
    births: list[Birth]
    omitted: int
    following: int
    now: float
    began: float
    about: dict[str, Any]
    connections: frozenset[int] = frozenset()
    crash: int | None = None

    def begin(
        self, source: Callable[[str, int], str] | None = None
    ) -> tuple[Conversion, list[bytes]]:
        """Return a conversion for the records, and the lines that come before the records.

        Args:
            source: returns a line of a source file, such as `linecache.getline`. It may read files.
        """
        first = self.records[0][0] if self.records else self.following
        start = self.records[0][1] if self.records else self.now
        before = _born_before(first, self.births, self.records)
        offset = 1 + len(before) + bool(self.omitted) - first
        conversion = Conversion(
            began=self.began,
            offset=offset,
            receives=self.about["receives"],
            connections=self.connections,
            source=source,
        )
        about = {"pid": None, **self.about}
        if self.crash is not None:
            before_crash = (record for record in self.records if record[0] < self.crash)
            about["crash"] = self.crash + offset + sum(map(further_events, before_crash))
        lines = [conversion.line(0, start - self.began, "recording", about)]
        lines += conversion.baseline(before, 1)
        if self.omitted:
            lines.append(conversion.omitted(1 + len(before), start, self.omitted))
        return conversion, lines

    def without_records(self, births: list[Birth], following: int) -> Snapshot:
        """Return a snapshot without records, to begin a file with these processes before record `following`."""
        return self._replace(records=[], births=births, omitted=0, following=following)

    def lines(self, source: Callable[[str, int], str] | None = None) -> list[bytes]:
        """Return the records as lines of a trace. `source` is the same as for `begin`."""
        conversion, lines = self.begin(source)
        lines += conversion.convert(self.records)
        return lines


def _born_before(first: int, births: list[Birth], records: Sequence[Record]) -> list[Birth]:
    """Return the processes that started before record `first`, and that live or whose exit is among the records."""
    ended = [record[5] for record in records if record[2] == "exited"]
    found = [birth for birth in (*births, *ended) if birth.n < first]
    return sorted(found, key=lambda birth: (birth.n, birth.pid))
