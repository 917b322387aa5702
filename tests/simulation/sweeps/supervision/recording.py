"""Random programs with a flight recorder whose rings, queue and files are small. The sweep writes its own list.

    ashtree simulate tests.simulation.sweeps.supervision.recording:recording --seeds 1-1000

Each run opens a runtime of its own, so that the recorder is its only instrument that sees messages in some runs. Then
the messages take the shortest way. A `Witness` lists the events that the recorder must record, in order. At random
times the sweep reads the records in all ways: as a snapshot, as records since a number, as a continuous file, as a
capsule, as a story, and as the rows of a page. It compares each result with the list.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import trio
from attrs import define

from actors import (
    KILLED,
    NORMAL,
    CallExit,
    GenServer,
    Instrument,
    NoProcess,
    Pid,
    Reply,
    Runtime,
    call,
    current_pid,
    exit,
    is_alive,
    kill,
    link,
    open_runtime,
    receive,
    send,
    set_label,
    spawn,
    trap_exits,
)
from actors.exits import Crash
from actors.masking import FILTERED
from channels.recording import record_channels
from supervision.laboratory.simulation.world.world import World
from supervision.recording import files as recorder_files
from supervision.recording.files import Capsules, RecorderFiles
from supervision.recording.flight import FlightRecorder
from supervision.recording.reader.history import read_history
from supervision.recording.reader.live import LiveRun
from supervision.recording.reader.measures import measure
from supervision.recording.reader.page import page_data
from supervision.recording.reader.story import tell_story
from supervision.recording.ring import MESSAGE_BYTES
from supervision.recording.trace import read_lines
from tests.laws.scenarios import scenario

__all__ = ["recording"]

_SECRET = "s3cret"
_NAMES = ("password", "newPassword", "access_token", "API-Key")
_HUGE = 1 << 30


@define(eq=False)
class Entry:
    """One record that the recorder must write. A record of several writes has several events."""

    t: float
    is_message: bool
    events: list[dict[str, Any]]
    # The text of the message, or the number of its `sent` entry.
    message: Any = None

    @property
    def kind(self) -> str:
        return str(self.events[0]["kind"])


class Witness(Instrument):
    """The list of the events of one runtime."""

    def __init__(self, runtime: Runtime, receives: bool) -> None:
        self.runtime = runtime
        self.receives = receives
        self.entries: list[Entry] = []
        self.recording = False
        self.unread: dict[int, list[tuple[Any, int]]] = {}
        # By number: the start of each process that the recorder knows. The second item is the entry, or -1.
        self.births: dict[int, int] = {}
        self.living: dict[int, Pid] = {}
        self.crashes: list[int] = []
        self.labels: dict[int, str] = {}
        runtime.telemetry.attach(("actors", "process", "crash"), self.crashed)
        runtime.telemetry.attach(("actors", "message", "dead_letter"), self.dead_letter)
        runtime.telemetry.attach(("actors", "process", "labelled"), self.labelled)
        runtime.telemetry.attach(("actors", "call", "late_answer"), self.late_answer)
        runtime.add_instrument(self)

    def add(self, is_message: bool, *events: dict[str, Any], message: Any = None) -> int:
        if self.recording:
            self.entries.append(Entry(trio.current_time(), is_message, list(events), message))
        return len(self.entries) - 1

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        at = self.add(False, {"kind": "spawned", "pid": pid.number, "parent": parent.number})
        self.births[pid.number] = at if self.recording else -1
        self.living[pid.number] = pid

    def process_exited(self, pid: Pid, reason: Any) -> None:
        self.living.pop(pid.number, None)
        unread = self.unread.pop(pid.number, [])
        event = {"kind": "exited", "pid": pid.number}
        if type(self) is Witness:
            # With calls, some processes trap exits, and this list has no `Exit`.
            event["waiting"] = len(unread) or None
        if reason is NORMAL or reason is KILLED or isinstance(reason, Crash):
            event["exit"] = "crash" if isinstance(reason, Crash) else repr(reason).lower()
        self.add(False, event)

    def crashed(self, event: Any, measurements: Any, about: Any) -> None:
        number = about["pid"].number
        name = type(about["exception"]).__name__
        self.crashes.append(self.add(False, {"kind": "crash", "pid": number, "exception": name}))

    def dead_letter(self, event: Any, measurements: Any, about: Any) -> None:
        self.add(False, {"kind": "dead_letter"})

    def labelled(self, event: Any, measurements: Any, about: Any) -> None:
        pid, label = about["pid"].number, about["label"]
        self.add(False, {"kind": "labelled", "pid": pid, "label": label})
        if self.recording:
            self.labels[pid] = label

    def late_answer(self, event: Any, measurements: Any, about: Any) -> None:
        self.add(False, {"kind": "late_answer", "pid": about["server"].number})

    def signal_sent(self, sender: Pid, receiver: Pid, reason: Any, linked: bool) -> None:
        about = {"pid": sender.number, "to": receiver.number, "linked": linked}
        self.add(False, {"kind": "signal", **about})

    # Messages. The program calls these in the step in which it sends or receives.

    def sent(self, sender: Pid | None, receiver: Pid, message: Any, kind: str, size: int) -> None:
        number = None if sender is None else sender.number
        about = {"pid": number, "to": receiver.number, "message_kind": kind, "size": size}
        at = self.add(True, {"kind": "sent", **about}, message=message)
        self.unread.setdefault(receiver.number, []).append((message, at if self.recording else -1))

    def received(self, pid: Pid, message: Any) -> None:
        waiting = self.unread.get(pid.number, [])
        place = next((at for at, each in enumerate(waiting) if each[0] is message), None)
        sent = -1 if place is None else waiting.pop(place)[1]
        if self.receives:
            self.add(True, {"kind": "received", "pid": pid.number}, message=sent)


class Calls(Witness):
    """A witness that also sees calls. With it, messages take the long way."""

    def call_started(self, caller: Pid | None, server: Pid, call: object, timeout: float) -> None:
        number = None if caller is None else caller.number
        self.add(True, {"kind": "call", "pid": number, "to": server.number})

    def call_ended(self, call: object, how: str) -> None:
        self.add(how == "answered", {"kind": "call_ended", "how": how})

    def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> None:
        if type(message) not in (str, dict, Pushed):
            # A request. The program does not report it, and the sizes of envelopes are no promise.
            number = None if sender is None else sender.number
            about = {"kind": "sent", "pid": number, "to": receiver.number}
            self.add(True, about, message=message)
            self.unread.setdefault(receiver.number, []).append((message, len(self.entries) - 1))

    def message_received(self, pid: Pid, message: Any) -> None:
        if type(message) not in (str, dict, Pushed):
            self.received(pid, message)


class Pushed:
    """A message of a client to its channel."""

    def __init__(self, event: str) -> None:
        self.event = event
        self.payload = {"body": "hello"}


class Adder(GenServer[None]):
    """A server that answers late, crashes or ends."""

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        await trio.sleep(request["pause"])
        if request["breaks"]:
            raise LookupError("the server breaks")
        return Reply("the answer")


class ProgramError(Exception):
    """The error of a process that crashes."""


class Program:
    """The processes of one run, its recorder, and the comparisons."""

    def __init__(self, world: World, runtime: Runtime, folder: Path) -> None:
        self.world = world
        self.random = random = world.random("program")
        self.folder = folder
        self.receives = random.random() < 0.5
        self.with_calls = random.random() < 0.5
        self.contents = random.random() < 0.4
        self.most_messages = random.choice((1, 3, 10, 50_000))
        self.most_events = random.choice((1, 4, 15, 20_000))
        self.most_bytes = random.choice((4000, 20_000, _HUGE, _HUGE))
        if not self.with_calls:
            # Remove the instruments of the world. Otherwise no message of a client would take the short way.
            runtime.instruments = ()
        self.witness = (Calls if self.with_calls else Witness)(runtime, self.receives)
        self.runtime = runtime
        self.number = 0
        self.plans: dict[str, Any] = {}
        self.servers: list[Pid] = []
        self.passed: list[int] = []
        self.last_seen = -1
        self.rule = Capsules(
            folder / "capsules",
            before=random.choice((0.3, 30.0)),
            after=random.choice((0.037, 0.537)),
            limit=random.choice((1, 2, 100)),
        )
        # The capsules that the rule must cause: the entry of the crash, and the time of the end.
        self.due: list[tuple[int, float]] = []
        self.seen_crashes = 0
        self.live: LiveRun | None = None

    def begin(self) -> None:
        self.recorder = FlightRecorder(
            self.runtime,
            receives=self.receives,
            contents=self.contents,
            max_messages=self.most_messages,
            max_events=self.most_events,
            max_bytes=self.most_bytes,
        )
        self.began = trio.current_time()
        self.witness.recording = True
        if self.random.random() < 0.5:
            record_channels(self.recorder)
        self.tap = self.recorder.tap()
        self.files = RecorderFiles(self.recorder, self.rule)
        self.writer = self.files.writer = recorder_files._Writer(self.recorder, 0.5)
        self.files.prepare()
        self.file = self.folder / "run.jsonl"
        self.file_begins = len(self.witness.entries)
        self.has_file = self.random.random() < 0.5
        if self.has_file:
            self.most_file_bytes = self.random.choice((1000, 5000, _HUGE))
            self.writer.record_to(self.file, self.most_file_bytes)
        else:
            self.recorder.pass_on(lambda record: self.passed.append(record[0]))

    def fail(self, problem: str) -> None:
        limits = (
            f"{self.most_messages} messages, {self.most_events} events and {self.most_bytes} bytes"
        )
        self.world.check(False, f"a recorder of at most {limits}: {problem}")

    def same(self, what: str, got: Any, wanted: Any) -> None:
        if got != wanted:
            self.fail(f"{what} is {got!r}; {wanted!r} was expected")

    # The program

    def someone(self) -> Pid | None:
        living = [pid for pid in self.witness.living.values() if pid not in self.servers]
        return self.random.choice(living) if living else None

    def name(self, what: str) -> str:
        self.number += 1
        return f"{what} {self.number}"

    def post(self, target: Pid, message: Any, kind: str, size: int, sender: Pid | None) -> None:
        if is_alive(target):
            self.witness.sent(sender, target, message, kind, size)
        send(target, message)

    def note(self, target: Pid, sender: Pid | None) -> None:
        text = self.name("note")
        chance = self.random.random()
        if chance < 0.1:
            text = text.ljust(self.random.choice((40, 41, 1999, 2500)), "x")
        if chance > 0.8:
            self.post_secret(target, text, sender)
        else:
            self.post(target, text, text[:40], len(text), sender)

    def post_secret(self, target: Pid, text: str, sender: Pid | None) -> None:
        """Send a message that contains a secret: under a key, or in a text, as JSON or as a form."""
        name = self.random.choice(_NAMES)
        written = self.random.choice((f'{{"{name}": "{_SECRET}"}}', f"a=1&{name}={_SECRET}"))
        shape = self.random.choice(("key", "text", "text in a dict"))
        if shape == "text":
            # The kind of a text is its beginning.
            self.post(target, written, FILTERED, len(written), sender)
        else:
            inner = _SECRET if shape == "key" else written
            message = {name if shape == "key" else "params": inner, "body": text}
            self.post(target, message, "dict", len(text) + len(inner), sender)
        self.world.sometimes("a recorded text contains a secret", self.contents)

    def order(self, what: str) -> None:
        """Send an order to a process."""
        target = self.someone()
        if target is None:
            return
        text = self.name("do")
        self.plans[text] = what
        self.post(target, text, text, len(text), None)

    async def puppet(self) -> None:
        me = current_pid()
        if self.with_calls and self.random.random() < 0.3:
            trap_exits()
        while True:
            message = await receive()
            if type(message) in (str, dict, Pushed):
                self.witness.received(me, message)
            plan = self.plans.pop(message, None) if type(message) is str else None
            if plan is not None:
                await self.carry_out(plan, me)

    async def carry_out(self, plan: str, me: Pid) -> None:
        random, other = self.random, self.someone()
        if plan == "crash":
            raise ProgramError(self.name("crash"))
        if plan == "end":
            exit(random.choice((NORMAL, "tired")))
        if plan == "sleep":
            await trio.sleep(random.choice((0.1, 0.5, 2)))
        elif plan == "spawn":
            spawn(self.puppet, label=self.name("child"))
        elif plan == "label":
            set_label(self.name("label"))
        elif other is None:
            return
        elif plan == "link" and is_alive(other):
            link(other)
        elif plan == "note":
            self.note(other, me)
        elif plan == "call" and self.with_calls:
            await self.call_a_server()

    async def call_a_server(self) -> None:
        random = self.random
        alive = [pid for pid in self.servers if is_alive(pid)]
        if not alive:
            return
        request = {"pause": random.choice((0, 0, 0.2, 0.6)), "breaks": random.random() < 0.2}
        try:
            await call(random.choice(alive), request, timeout=random.choice((0.1, 0.3, 5)))
        except (CallExit, NoProcess, trio.TooSlowError):
            self.world.sometimes("a recorded call failed")

    def read_and_write(self) -> None:
        """Record a few reads and writes of clients, as the server of an endpoint does."""
        target, random = self.someone(), self.random
        if target is None:
            return
        if random.random() < 0.5:
            written: list[int] = []
            for _ in range(random.randint(1, 8)):
                written += (target.number, random.randint(1, 90), random.randint(1, 3))
            self.tap.wrote_all(written.copy())
            for start in range(0, len(written), 9):
                few = written[start : start + 9]
                events = [
                    {
                        "kind": "frame",
                        "direction": "out",
                        "pid": few[at],
                        "size": few[at + 1],
                        "frames": few[at + 2] if few[at + 2] > 1 else None,
                    }
                    for at in range(0, len(few), 3)
                ]
                self.witness.add(True, *events)
            return
        channel = self.someone()
        if channel is not None and is_alive(target) and is_alive(channel):
            kind = self.random.choice(("shout", "a name with more than forty characters in it"))
            message, sender = Pushed(kind), target if self.is_short() else None
            size = random.randint(1, 99) if self.is_short() else len("hello")
            self.witness.sent(sender, channel, message, kind[:40], size)
            if self.is_short():
                # The recorder does not read the clock for such a message.
                entries = self.witness.entries
                entries[-1].t = entries[-2].t if len(entries) > 1 else self.began
            self.tap.deliver(target, channel, message, size)

    def is_short(self) -> bool:
        """True if the message of a client takes the short way."""
        return not (self.with_calls or self.contents)

    async def act(self) -> None:
        random = self.random
        weights = {
            "note": 5,
            "order": 7,
            "spawn": 1.5,
            "kill": 0.5,
            "pass": 4,
            "dead": 0.3,
            "tap": 2 if not self.contents else 0,
            "call": 2 if self.with_calls else 0,
        }
        what = random.choices(list(weights), list(weights.values()))[0]
        target = self.someone()
        if what == "spawn" or target is None:
            spawn(self.puppet, label=self.name("puppet"))
        elif what == "note":
            self.note(target, None)
        elif what == "order":
            plans = ("crash", "end", "sleep", "spawn", "label", "link", "note", "note", "call")
            self.order(random.choice(plans))
        elif what == "kill":
            kill(target)
        elif what == "dead":
            kill(target)
            await self.settle()
            send(target, "for a dead process")
        elif what == "tap":
            self.read_and_write()
        elif what == "call":
            await self.call_a_server()
        else:
            await trio.sleep(random.choice((0, 0.01, 0.25, 1.0)))

    async def settle(self) -> None:
        await self.world.settle()
        self.watch_crashes()

    def watch_crashes(self) -> None:
        """Predict the capsules from the crashes so far."""
        for at in self.witness.crashes[self.seen_crashes :]:
            t = self.witness.entries[at].t
            is_covered = bool(self.due) and t < self.due[-1][1]
            if not is_covered and len(self.due) < self.rule.limit:
                self.due.append((at, t + self.rule.after))
        self.seen_crashes = len(self.witness.crashes)

    # Comparisons

    def kept(self) -> list[int]:
        """Return the numbers of the records that the rings must still have. Check the sizes of the rings."""
        entries, figures = self.witness.entries, self.recorder.statistics()
        messages = [at for at, each in enumerate(entries) if each.is_message]
        events = [at for at, each in enumerate(entries) if not each.is_message]
        half = self.most_bytes // 2
        self.same(
            "the number of records, kept and dropped",
            sum(figures[name] for name in figures if name != "bytes"),
            len(entries),
        )
        self.same(
            "the number of events, kept and dropped",
            figures["events"] + figures["events_dropped"],
            len(events),
        )
        if figures["bytes"] > max(self.most_bytes, MESSAGE_BYTES):
            self.fail(f"the records have {figures['bytes']} bytes")
        most = self.most_messages
        if not self.contents:
            most = min(most, max(1, half // MESSAGE_BYTES))
        if not self.contents or self.most_bytes == _HUGE:
            self.same("the number of messages", figures["messages"], min(most, len(messages)))
        if self.most_bytes == _HUGE:
            self.same("the number of events", figures["events"], min(self.most_events, len(events)))
        self.world.sometimes("a ring was full", figures["messages_dropped"])
        kept = messages[len(messages) - figures["messages"] :]
        return sorted(kept + events[len(events) - figures["events"] :])

    def compare(self) -> None:
        """Compare all ways to read the records with the list."""
        kept = self.kept()
        self.compare_since(kept)
        seconds = self.random.choice((None, None, 0.0, 0.3, 2.0))
        chosen = kept
        if seconds is not None:
            oldest = trio.current_time() - seconds
            chosen = [at for at in kept if self.witness.entries[at].t >= oldest]
        lines = self.recorder.lines(seconds=seconds)
        alive = list(self.witness.living)
        self.compare_lines("the snapshot", lines, chosen, alive, first=len(self.witness.entries))
        omitted = [json.loads(line) for line in lines if b'"omitted"' in line[:90]]
        count = omitted[0]["omitted"] if omitted else 0
        if seconds is None:
            self.same("the number of omitted records", count, len(self.witness.entries) - len(kept))
            self.compare_readers(lines, chosen)
        elif chosen and count > len(self.witness.entries) - chosen[0] - len(chosen):
            self.fail(f"{count} records of the last {seconds} s were omitted; {chosen} are there")

    def compare_since(self, kept: list[int]) -> None:
        records = self.recorder.since(self.last_seen)
        wanted = [at for at in kept if at > self.last_seen]
        self.same(f"the records since {self.last_seen}", [each[0] for each in records], wanted)
        oldest = self.recorder.oldest_event
        events = [at for at in kept if not self.witness.entries[at].is_message]
        dropped = self.recorder.statistics()["events_dropped"]
        self.same("the oldest event", oldest, events[0] if dropped and events else -1)
        if self.random.random() < 0.7 and self.witness.entries:
            self.last_seen = len(self.witness.entries) - 1
        if not self.has_file:
            self.same("the passed records", self.passed, list(range(len(self.witness.entries))))

    def compare_lines(
        self, what: str, lines: list[bytes], kept: list[int], living: list[int], *, first: int
    ) -> None:
        """Compare the lines of a trace with the kept entries."""
        events = [json.loads(line) for line in lines]
        numbers = [event["n"] for event in events]
        if numbers != sorted(set(numbers)):
            self.fail(f"{what}: the numbers of the events are {numbers}")
        times = [event["t"] for event in events if not event.get("before")][1:]
        if times != sorted(times):
            self.fail(f"{what}: the times of the events are {times}")
        if any(_SECRET.encode() in line for line in lines):
            self.fail(f"{what} contains a password")
        head = events.pop(0)
        self.same(f"{what}: the first event", head["kind"], "recording")
        before = [event for event in events if event.get("before")]
        first = kept[0] if kept else first
        entries = self.witness.entries
        ended = {entries[at].events[0]["pid"] for at in kept if entries[at].kind == "exited"}
        wanted = sorted(
            number for number in {*ended, *living} if self.witness.births.get(number, first) < first
        )
        self.same(f"{what}: processes before", sorted(each["pid"] for each in before), wanted)
        for each in before:
            label = self.witness.labels.get(each["pid"])
            self.same(f"{what}: the label of {each}", each.get("label"), label)
        rest = [each for each in events if not each.get("before") and each["kind"] != "omitted"]
        flat = [(at, event) for at in kept for event in entries[at].events]
        self.same(f"{what}: the number of events", len(rest), len(flat))
        numbers_of: dict[int, int] = {}
        for event, (at, expected) in zip(rest, flat, strict=True):
            got = {name: event.get(name) for name in expected}
            self.same(f"{what}: the event {at}", got, expected)
            t = round(entries[at].t - self.began, 6)
            self.same(f"{what}: the time of the event {at}", event["t"], t)
            numbers_of.setdefault(at, event["n"])
            self.compare_message(what, event, entries[at])
        self.compare_causes(what, rest, flat, numbers_of, {e["pid"]: e["n"] for e in before})

    def compare_message(self, what: str, event: dict[str, Any], entry: Entry) -> None:
        shown, message = event.get("message"), entry.message
        if event["kind"] != "sent" or not isinstance(message, str | dict):
            return
        if not self.contents:
            self.same(f"{what}: the content of {event}", shown, None)
            return
        text = message if isinstance(message, str) else message["body"]
        if _SECRET in text:
            text = FILTERED
        if shown is None or text[:60] not in shown or len(shown) > 2000:
            self.fail(f"{what}: the content of {text[:50]!r} is {shown!r}")

    def compare_causes(
        self,
        what: str,
        rest: list[dict[str, Any]],
        flat: list[tuple[int, dict[str, Any]]],
        numbers_of: dict[int, int],
        reached: dict[int, int],
    ) -> None:
        """Check that the cause of an event is the last event that reached its process."""
        ended: dict[int, int] = {}
        for event, (at, expected) in zip(rest, flat, strict=True):
            pid: Any = event.get("pid")
            kind, entry = expected["kind"], self.witness.entries[at]
            wanted: Any = ...
            if kind == "spawned":
                wanted = reached.get(event["parent"])
                reached[pid] = event["n"]
            elif kind == "received":
                wanted = numbers_of.get(entry.message)
                wanted = ... if wanted is None else wanted
                reached[pid] = event["n"]
            elif kind == "exited":
                wanted = reached.pop(pid, None)
                ended[pid] = event["n"]
            elif kind == "crash":
                wanted = ended.get(pid)
            elif kind == "signal":
                wanted = reached.get(pid, ended.get(pid))
                if event["to"] in reached:
                    reached[event["to"]] = event["n"]
            elif kind in ("sent", "call"):
                wanted = None if pid is None else reached.get(pid)
            if wanted is not ...:
                self.same(f"{what}: the cause of {event}", event.get("cause"), wanted)

    def compare_readers(self, lines: list[bytes], kept: list[int]) -> None:
        """Read the trace as a history, as a story and as a page that follows the run."""
        history = read_history(lines)
        entries, births = self.witness.entries, self.witness.births
        first = kept[0] if kept else len(entries)
        ended = [entries[at].events[0]["pid"] for at in kept if entries[at].kind == "exited"]
        known = {n for n in {*ended, *self.witness.living} if births.get(n, first) < first}
        known |= {entries[at].events[0]["pid"] for at in kept if entries[at].kind == "spawned"}
        self.same("the processes", sorted(each.key[1] for each in history.processes), sorted(known))
        over = sorted(each.key[1] for each in history.processes if each.ended is not None)
        self.same("the ended processes", over, sorted(set(ended) & known))
        crashed = sorted(each.key[1] for each in history.processes if each.exit == "crash")
        wanted = [
            entries[at].events[0]["pid"]
            for at in kept
            if entries[at].kind == "exited" and entries[at].events[0].get("exit") == "crash"
        ]
        self.same("the crashed processes", crashed, sorted(set(wanted) & known))
        sent = sum(entries[at].kind == "sent" for at in kept)
        self.same("the number of messages", len(history.messages), sent)
        story = tell_story(lines)
        self.same("the omitted events of the story", story.omitted, len(entries) - len(kept))
        self.world.sometimes("a story has an incident", story.incidents)
        self.compare_page(lines, page_data(history, measure(history)))

    def compare_page(self, lines: list[bytes], whole: dict[str, Any]) -> None:
        """Feed the lines to a live page in pieces. Check that each row refers only to rows that the page has."""
        run, random = LiveRun(began=0.0), self.random
        texts: list[str] = []
        processes: dict[int, list[Any]] = {}
        messages = 0
        place = 0
        while place < len(lines):
            size = random.choice((1, 5, 50))
            run.take(lines[place : place + size], messages=1000)
            place += size
            part: dict[str, Any] = {"more": True}
            while "more" in part:
                part = run.part(seconds=1.0)
                texts += part["texts"]
                processes |= dict(part["processes"])
                messages += len(part["messages"])
        titles = [texts[processes[index][0]] for index in sorted(processes)]
        wanted = [whole["texts"][row[0]] for row in whole["processes"]]
        self.same("the paths on the live page", titles, wanted)
        rows = [[*processes[index][1:6], *processes[index][7:12]] for index in sorted(processes)]
        self.same(
            "the rows of the live page", rows, [[*r[1:6], *r[7:12]] for r in whole["processes"]]
        )
        self.same("the messages of the live page", messages, len(whole["messages"]))

    # Files

    def write(self) -> None:
        """Let the writing thread do its work now."""
        waiting = len(self.writer._queue)
        before = self.writer.records
        self.writer._turn()
        self.same("the number of written records", self.writer.records - before, waiting)

    def compare_file(self) -> None:
        """Read the continuous file, and compare the newest events with the list."""
        lines = read_lines(self.file)
        older = self.file.with_name("run.jsonl.1")
        data = [*(read_lines(older) if older.exists() else []), *lines]
        if any(_SECRET.encode() in line for line in data):
            self.fail("the file contains a password")
        events = [json.loads(line) for line in lines]
        omitted = sum(each["omitted"] for each in events if each["kind"] == "omitted")
        rest = [each for each in events if not each.get("before")]
        rest = [each for each in rest if each["kind"] not in ("recording", "omitted")]
        entries = self.witness.entries
        expected = [event for entry in entries for event in entry.events]
        if not older.exists():
            missing = self.writer.lost + self.file_lost_before()
            self.same("the omitted records of the file", omitted, missing)
        if omitted == 0 and rest:
            # Without lost records, the file ends with the newest events.
            for event, wanted in zip(rest, expected[-len(rest) :], strict=True):
                got = {name: event.get(name) for name in wanted}
                self.same("an event in the file", got, wanted)
        known = {each["pid"] for each in events if each["kind"] == "spawned"}
        unknown = [e for e in rest if e["kind"] in ("exited", "received") and e["pid"] not in known]
        if unknown and not omitted and not self.writer.lost:
            self.fail(f"the file has the events {unknown} of processes without a start")
        size = self.file.stat().st_size
        longest = max(map(len, lines), default=0) * recorder_files.BATCH
        if size > self.most_file_bytes + longest + 100_000:
            self.fail(f"the file has {size} bytes")
        numbers = [event["n"] for event in events]
        if numbers != sorted(set(numbers)):
            self.fail(f"the numbers of the events in the file are {numbers}")

    def file_lost_before(self) -> int:
        return 0

    def compare_capsules(self) -> None:
        written = list(self.files.written)
        now = trio.current_time()
        due = [each for each in self.due if each[1] < now]
        refused = self.files.refused
        if not len(due) - 4 <= len(written) <= len(self.due):
            self.fail(
                f"{len(written)} capsules were written of {len(due)} that are due ({refused})"
            )
        for path, (at, _) in zip(written, self.due, strict=False):
            lines = read_lines(path)
            events = {each["n"]: each for each in map(json.loads, lines)}
            crash = events.get(events[0]["crash"])
            entry = self.witness.entries[at].events[0]
            if self.most_events > 1000 and self.most_bytes == _HUGE:
                got = None if crash is None else (crash["kind"], crash["pid"])
                self.same("the crash of a capsule", got, ("crash", entry["pid"]))
            if any(_SECRET.encode() in line for line in lines):
                self.fail("a capsule contains a password")
            tell_story(lines)
            self.world.sometimes("a capsule was written")

    # The run

    async def run(self) -> None:
        for _ in range(2):
            spawn(self.puppet, label=self.name("puppet"))
        self.begin()
        try:
            await self.play()
        finally:
            # No thread of the recorder runs, so nothing else closes the file, not even after a failed check.
            if self.writer._file is not None:
                self.writer._file.close()

    async def play(self) -> None:
        if self.with_calls:
            for _ in range(2):
                self.servers.append(await Adder.start(label=self.name("adder")))
        for _ in range(self.world.params["operations"]):
            await self.act()
            if self.random.random() < 0.15:
                await self.settle()
                self.compare()
            if self.has_file and self.random.random() < 0.1:
                self.write()
        await self.settle()
        self.compare()
        await trio.sleep(1.0)
        await self.settle()
        self.writer._turn()
        self.compare_capsules()
        if self.has_file:
            self.compare_file()
        self.recorder.close()
        before = self.recorder.statistics()
        self.witness.recording = False
        for pid in list(self.witness.living.values()):
            if pid not in self.servers:
                send(pid, "after the end")
                self.tap.wrote_all([pid.number, 1, 1])
                self.tap.deliver(pid, pid, Pushed("after the end"), 1)
        await self.settle()
        self.same("what the closed recorder has", self.recorder.statistics(), before)


@contextmanager
def _small(random: Random) -> Iterator[Path]:
    """Scale the queue and the batches of the writing thread down. Yield a folder for files."""
    names = {"QUEUE": (3, 30, 200_000), "BATCH": (1, 3, 200)}
    before = {name: getattr(recorder_files, name) for name in (*names, "time")}
    for name, values in names.items():
        setattr(recorder_files, name, random.choice(values))
    # The sweep has no thread, so a pause for the other threads has no sense.
    recorder_files.time = SimpleNamespace(sleep=lambda _: None)  # type: ignore[assignment, attr-defined]
    # A seed must not decide the name, because several processes may run the same seed.
    folder = Path(tempfile.gettempdir()) / f"ashtree-recording-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            setattr(recorder_files, name, value)


@scenario(params={"operations": 60}, invariants=())
async def recording(world: World) -> None:
    """Record a random program, and compare each way to read the records with the sweep's own list."""
    with _small(world.random("limits")) as folder:
        async with open_runtime() as runtime:
            await Program(world, runtime, folder).run()
            for pid in list(runtime.processes()):
                kill(pid)
            await world.settle()
