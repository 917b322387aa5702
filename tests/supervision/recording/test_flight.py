"""A flight recorder keeps the newest events of a program, as a trace of the common format."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import trio

from actors import (
    CallTimeout,
    GenServer,
    Pid,
    Reply,
    Runtime,
    Sender,
    call,
    cast,
    kill,
    link,
    send,
    spawn,
    wait_exit,
)
from actors.instrumentation.instrument import Instrument
from actors.masking import FILTERED
from supervision import Supervisor
from supervision.recording import flight as module
from supervision.recording.flight import FlightRecorder, Trouble, recorder_of
from supervision.recording.reader.history import read_history
from supervision.recording.ring import MESSAGE_BYTES
from supervision.recording.trace import read_lines
from tests.supervision.recording.test_schema import check
from tests.supervision.workers import Log, crash, running, worker


def events(recorder: FlightRecorder, kind: str | None = None) -> list[dict[str, Any]]:
    decoded = [msgspec.json.decode(line) for line in recorder.lines()]
    return [event for event in decoded if kind is None or event["kind"] == kind]


async def test_every_event_of_a_recorder_fits_the_schema(
    runtime: Runtime, log: Log, autojump_clock: trio.testing.MockClock
) -> None:
    recorder = FlightRecorder(runtime, contents=True, receives=True)
    supervisor = await Supervisor.start([worker("a", log), worker("b", log)], max_restarts=1)
    await crash(supervisor, "a")
    b = await running(supervisor, "b")
    with pytest.raises(CallTimeout):
        await call(b, trio.sleep_forever, timeout=1.0)
    kill(b)
    await wait_exit(supervisor)
    send(b, "too late")
    recorder.note("done", why="test")
    recorder.fault("kill", supervisor)
    found = events(recorder)
    for event in found:
        check(event)
    assert {event["kind"] for event in found} >= {
        "recording", "spawned", "exited", "crash", "signal", "child_restarted", "gave_up",
        "sent", "received", "call", "call_ended", "dead_letter", "fault", "note",
    }  # fmt: skip
    numbers = [event["n"] for event in found]
    assert numbers == sorted(set(numbers))


async def test_a_restart_is_recorded_with_its_arithmetic(runtime: Runtime, log: Log) -> None:
    recorder = FlightRecorder(runtime)
    supervisor = await Supervisor.start(
        [worker("a", log)], max_restarts=3, max_seconds=5.0, label="top"
    )
    await crash(supervisor, "a")
    await crash(supervisor, "a")
    decision = events(recorder, "child_restarted")[-1]
    assert (decision["restarts"], decision["max_restarts"], decision["max_seconds"]) == (2, 3, 5.0)
    assert (decision["strategy"], decision["restart_type"]) == ("one_for_one", "permanent")


async def test_a_crash_is_recorded_with_its_traceback_and_its_message(
    runtime: Runtime, log: Log
) -> None:
    recorder = FlightRecorder(runtime)
    supervisor = await Supervisor.start([worker("a", log)])
    await crash(supervisor, "a")
    (found,) = events(recorder, "crash")
    assert (found["exception"], found["message_kind"]) == ("RuntimeError", "RuntimeError")
    assert found["traceback"][-1]["function"] == "Worker.handle_cast"
    assert isinstance(found["traceback"][-1]["line"], int)


async def test_the_cause_of_a_linked_death_is_the_first_one(runtime: Runtime) -> None:
    recorder = FlightRecorder(runtime)

    async def dies_with(other: Any) -> None:
        link(other)
        await trio.sleep_forever()

    async def crashes() -> None:
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        raise ValueError("no")

    first = spawn(crashes)
    second = spawn(dies_with, first)
    await wait_exit(second)
    by_number = {event["n"]: event for event in events(recorder)}
    ends = [event for event in by_number.values() if event["kind"] == "exited"]
    signal = by_number[ends[1]["cause"]]
    assert (ends[1]["pid"], signal["kind"], signal["linked"]) == (second.number, "signal", True)
    assert by_number[signal["cause"]]["pid"] == first.number


async def test_processes_that_lived_before_are_in_the_recording(runtime: Runtime, log: Log) -> None:
    supervisor = await Supervisor.start([worker("a", log)], label="top")
    recorder = FlightRecorder(runtime)
    await crash(supervisor, "a")
    history = read_history(recorder.lines())
    first, second, third = history.processes
    assert [each.path for each in (first, second)] == ["/top", "/top/Worker"]
    # The recorder cannot know the child id of a process that it did not see start.
    assert second.exit == "crash"
    assert third.path == "/top/a"


async def test_a_reader_gets_only_the_records_since_its_last_one(runtime: Runtime) -> None:
    recorder = FlightRecorder(runtime, max_events=4)
    assert recorder.oldest_event == -1
    idle = spawn(trio.sleep_forever)
    send(idle, "one")
    first = recorder.since(-1)
    assert [record[2] for record in first] == ["spawned", "sent"]
    assert recorder.since(first[-1][0]) == []
    send(idle, "two")
    recorder.note("three")
    newer = recorder.since(first[-1][0])
    assert [record[2] for record in newer] == ["sent", "note"]
    for number in range(4):
        recorder.note(str(number))
    # The recorder has dropped its two oldest events: the start and the first note.
    assert recorder.oldest_event == recorder.since(newer[-1][0])[0][0] > newer[-1][0]


async def test_a_late_answer_names_the_end_of_its_call(
    runtime: Runtime, autojump_clock: trio.testing.MockClock
) -> None:
    class Slow(GenServer[None]):
        async def handle_call(self, request: float, sender: Sender) -> Reply:
            await trio.sleep(request)
            return Reply(None)

    recorder = FlightRecorder(runtime)
    server = await Slow.start()
    with pytest.raises(CallTimeout):
        await call(server, 3.0, timeout=1.0)
    await trio.sleep(5)
    by_kind = {event["kind"]: event for event in events(recorder)}
    late = by_kind["late_answer"]
    assert (late["pid"], late["to"], late["how"]) == (server.number, None, "timeout")
    assert late["seconds"] == pytest.approx(2.0)
    assert late["ended"] == by_kind["call_ended"]["n"]


async def test_a_message_has_a_kind_and_a_size_and_no_contents(runtime: Runtime) -> None:
    recorder = FlightRecorder(runtime)
    send(spawn(trio.sleep_forever), ("login", {"password": "hunter2"}))
    (sent,) = events(recorder, "sent")
    assert (sent["message_kind"], sent["size"], sent["via"]) == ("login", 21, "info")
    assert "hunter2" not in b"".join(recorder.lines()).decode()


async def test_contents_are_recorded_if_asked_for_but_never_those_of_secrets(
    runtime: Runtime,
) -> None:
    recorder = FlightRecorder(runtime, contents=True)
    send(spawn(trio.sleep_forever), ("login", {"user": "ann", "password": "hunter2"}))
    (sent,) = events(recorder, "sent")
    assert "ann" in sent["message"]
    assert FILTERED in sent["message"]
    assert "hunter2" not in b"".join(recorder.lines()).decode()


@pytest.mark.parametrize("contents", [False, True])
async def test_a_message_that_is_a_text_with_a_secret_never_appears(
    runtime: Runtime, contents: bool
) -> None:
    class Strict(GenServer[None]):
        async def handle_cast(self, message: Any) -> None:
            raise ValueError("no such command")

    recorder = FlightRecorder(runtime, contents=contents, receives=True)
    login = "user=ann password=hunter2"
    long = f"user=ann {'x' * 40} password={'y' * 100}"
    idle = spawn(trio.sleep_forever)
    for message in (login, long, (login, 1)):
        send(idle, message)
        pid = await Strict.start()
        cast(pid, message)
        cast(pid, message)
        await wait_exit(pid)
        send(pid, message)
    kill(idle)
    await wait_exit(idle)
    text = b"".join(recorder.lines())
    assert b"hunter2" not in text
    assert b"ann" not in text
    assert text.count(b'"message_kind":"[FILTERED]"') >= 9


async def test_a_received_message_has_its_sent_event_as_cause(runtime: Runtime) -> None:
    recorder = FlightRecorder(runtime, receives=True)

    async def takes_the_second_first() -> None:
        from actors import receive

        await receive(lambda message: message == "second")
        await receive()

    pid = spawn(takes_the_second_first)
    send(pid, "first")
    send(pid, "second")
    await wait_exit(pid)
    kinds = {event["n"]: event["message_kind"] for event in events(recorder, "sent")}
    assert [kinds[event["cause"]] for event in events(recorder, "received")] == ["second", "first"]


@pytest.mark.parametrize("receives", [False, True])
async def test_the_end_of_a_process_names_its_unread_messages(
    runtime: Runtime, receives: bool
) -> None:
    recorder = FlightRecorder(runtime, receives=receives)
    pid = spawn(trio.sleep_forever)
    send(pid, "one")
    send(pid, ["two"])
    kill(pid)
    await wait_exit(pid)
    (ended,) = events(recorder, "exited")
    sent = [event["n"] for event in events(recorder, "sent")]
    assert ended["waiting"] == 2
    assert ended["unread"] == [
        {"message_kind": "one", "sent": sent[0]},
        {"message_kind": "list", "sent": sent[1]},
    ]


async def test_a_full_ring_of_messages_keeps_the_other_events(runtime: Runtime) -> None:
    recorder = FlightRecorder(runtime, max_messages=10)
    pid = spawn(trio.sleep_forever)
    for _ in range(100):
        send(pid, "more")
    statistics = recorder.statistics()
    assert (statistics["messages"], statistics["messages_dropped"]) == (10, 90)
    assert (statistics["events"], statistics["events_dropped"]) == (1, 0)
    (omitted,) = events(recorder, "omitted")
    assert omitted["omitted"] == 90
    assert len(events(recorder, "spawned")) == 1


async def test_a_record_larger_than_its_ring_counts_as_dropped(runtime: Runtime) -> None:
    recorder = FlightRecorder(runtime, max_bytes=2000)
    recorder.note("x" * 1000)
    assert recorder.statistics()["events_dropped"] == 1
    assert recorder.statistics()["messages_dropped"] == 0
    (omitted,) = events(recorder, "omitted")
    assert omitted["omitted"] == 1


@pytest.mark.parametrize("contents", [False, True])
async def test_the_bytes_of_the_rings_are_bounded(runtime: Runtime, contents: bool) -> None:
    recorder = FlightRecorder(runtime, max_bytes=20_000, contents=contents)
    pid = spawn(trio.sleep_forever)
    for _ in range(500):
        send(pid, "x" * 300)
        recorder.note("y" * 100)
    statistics = recorder.statistics()
    assert 10_000 < statistics["bytes"] <= 20_000
    assert statistics["messages_dropped"] > 400
    assert statistics["events_dropped"] > 400


async def ends_unread(number: int) -> None:
    pid = spawn(trio.sleep_forever)
    for each in range(60):
        send(pid, f"message {number} {each}")
    kill(pid)
    await wait_exit(pid)


async def ends_soon(number: int) -> None:
    await wait_exit(spawn(trio.lowlevel.checkpoint, label=f"process {number}"))


async def crashes_deep(number: int) -> None:
    async def crashes(depth: int) -> None:
        if depth > 0:
            await crashes(depth - 1)
        raise ValueError(f"no {number}")

    await wait_exit(spawn(crashes, 50))


async def crashes_with_a_long_text(number: int) -> None:
    async def crashes() -> None:
        raise ValueError("\N{WHITE HEAVY CHECK MARK}" * 60, "\N{SNAKE}" * 60, number)

    await wait_exit(spawn(crashes))


@pytest.mark.parametrize("end", [ends_unread, ends_soon, crashes_deep, crashes_with_a_long_text])
async def test_the_estimated_bytes_of_events_are_close_to_their_memory(
    runtime: Runtime, end: Callable[[int], Awaitable[None]]
) -> None:
    recorder = FlightRecorder(runtime, messages=False)
    for number in range(20):
        await end(number)
    seen: set[int] = set()
    memory = sum(memory_of(record, seen) for record in recorder.snapshot().records)
    assert memory <= recorder.statistics()["bytes"] <= 2.5 * memory


def memory_of(value: Any, seen: set[int]) -> int:
    """Return the bytes of a value and of its items, without those that were seen before."""
    if id(value) in seen or value is None or type(value) is bool:
        return 0
    seen.add(id(value))
    inner = value.values() if isinstance(value, dict) else value
    items = inner if isinstance(value, dict | list | tuple) else ()
    return sys.getsizeof(value) + sum(memory_of(each, seen) for each in items)


async def test_long_texts_are_cut(runtime: Runtime) -> None:
    recorder = FlightRecorder(runtime)

    async def crashes() -> None:
        raise ValueError(*(["x" * 70] * 8), "y" * 100_000)

    await wait_exit(spawn(crashes))
    send(spawn(trio.sleep_forever), "z" * 100_000)
    assert max(map(len, recorder.lines())) < 8_000


async def test_without_messages_only_other_events_are_recorded(runtime: Runtime) -> None:
    recorder = FlightRecorder(runtime, messages=False)
    pid = spawn(trio.sleep_forever)
    send(pid, 1)
    assert [event["kind"] for event in events(recorder)] == ["recording", "spawned"]


async def test_a_closed_recorder_records_nothing_more(runtime: Runtime) -> None:
    recorder = FlightRecorder(runtime)
    assert recorder_of(runtime) is recorder
    recorder.close()
    recorder.close()
    spawn(trio.sleep_forever)
    assert [event["kind"] for event in events(recorder)] == ["recording"]
    assert recorder_of(runtime) is None


async def test_a_fault_is_the_cause_of_what_it_does(runtime: Runtime) -> None:
    recorder = FlightRecorder(runtime)
    pid = spawn(trio.sleep_forever)
    recorder.fault("kill", pid)
    kill(pid)
    await wait_exit(pid)
    (fault,) = read_history(recorder.lines()).faults
    assert [process.key[1] for process in fault.ended] == [pid.number]


async def test_listeners_hear_of_trouble(runtime: Runtime, log: Log) -> None:
    recorder = FlightRecorder(runtime)
    heard: list[Trouble] = []
    recorder.listeners = (heard.append,)
    supervisor = await Supervisor.start([worker("a", log)], max_restarts=0, label="top")
    await crash(supervisor, "a")
    await wait_exit(supervisor)
    assert [(each.kind, each.path) for each in heard] == [("crash", "/top/a"), ("gave_up", "/top")]


async def test_the_last_seconds_can_be_copied(
    runtime: Runtime, autojump_clock: trio.testing.MockClock
) -> None:
    recorder = FlightRecorder(runtime)
    recorder.note("early")
    await trio.sleep(60)
    recorder.note("late")
    lines = [msgspec.json.decode(line) for line in recorder.lines(seconds=30)]
    assert [event["text"] for event in lines if event["kind"] == "note"] == ["late"]


async def test_a_dump_is_a_trace_file(runtime: Runtime, tmp_path: Path) -> None:
    recorder = FlightRecorder(runtime, about={"program": "shop"})
    recorder.note("hello")
    recorder.dump(tmp_path / "dump.jsonl")
    first, note = map(msgspec.json.decode, read_lines(tmp_path / "dump.jsonl"))
    assert (first["kind"], first["program"], note["text"]) == ("recording", "shop", "hello")


@pytest.mark.parametrize(
    ("options", "error"),
    [({"hide": "password"}, TypeError), ({"max_messages": 0}, ValueError)],
)
async def test_wrong_options_are_refused(
    runtime: Runtime, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        FlightRecorder(runtime, **options)
    assert runtime.instruments == ()


async def test_the_recorder_forgets_old_paths(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PATHS", 2)
    recorder = FlightRecorder(runtime)
    for name in "abc":
        spawn(trio.sleep_forever, label=name)
    spawn(trio.sleep_forever, label="a")
    assert [event["inc"] for event in events(recorder, "spawned")] == [1, 1, 1, 1]


class Push(NamedTuple):
    """A message with the fields of a client's push."""

    event: Any
    payload: Any = None


class Refusing(Instrument):
    """An instrument that drops all messages."""

    def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> bool:
        return False


async def test_a_delivered_message_is_sent_and_recorded_once(runtime: Runtime) -> None:
    recorder = FlightRecorder(runtime)
    connection, channel = spawn(trio.sleep_forever), spawn(trio.sleep_forever)
    push = Push("echo")
    recorder.tap().deliver(connection, channel, push, 80)
    assert channel.process is not None
    assert list(channel.process.mailbox.queue) == [push]
    (sent,) = events(recorder, "sent")
    check(sent)
    assert (sent["pid"], sent["to"]) == (connection.number, channel.number)
    assert (sent["via"], sent["message_kind"], sent["size"]) == ("info", "echo", 80)
    kill(channel)
    await wait_exit(channel)
    (exited,) = (each for each in events(recorder, "exited") if each["pid"] == channel.number)
    assert exited["unread"] == [{"message_kind": "echo", "sent": sent["n"]}]


@pytest.mark.parametrize("event", ["x" * 1000, ["a", "list"], 5, None])
async def test_the_kind_of_a_delivered_message_is_short_whatever_the_client_sent(
    runtime: Runtime, event: Any
) -> None:
    recorder = FlightRecorder(runtime)
    pid = spawn(trio.sleep_forever)
    tap = recorder.tap()
    tap.deliver(pid, pid, Push(event), 80)
    tap.deliver(pid, pid, Push(event), 80)
    kinds = {each["message_kind"] for each in events(recorder, "sent")}
    assert len(kinds) == 1
    assert len(kinds.pop()) <= 40


async def test_a_tap_asks_other_instruments_too(runtime: Runtime) -> None:
    recorder = FlightRecorder(runtime)
    pid = spawn(trio.sleep_forever)
    remove = runtime.add_instrument(Refusing())
    tap = recorder.tap()
    tap.deliver(pid, pid, Push("echo"), 80)
    tap.read(pid, b"data")
    assert pid.process is not None
    assert not pid.process.mailbox.queue
    assert len(events(recorder, "sent")) == 2
    remove()
    tap.deliver(pid, pid, Push("echo"), 80)
    assert len(pid.process.mailbox.queue) == 1
    assert len(events(recorder, "sent")) == 3


async def test_a_tap_has_dead_letters_for_processes_that_ended(runtime: Runtime) -> None:
    recorder = FlightRecorder(runtime)
    pid, tap = spawn(trio.sleep_forever), recorder.tap()
    kill(pid)
    await wait_exit(pid)
    tap.deliver(pid, pid, Push("echo"), 80)
    tap.read(pid, b"data")
    assert len(events(recorder, "dead_letter")) == 2


async def test_a_tap_records_the_contents_that_were_asked_for(runtime: Runtime) -> None:
    recorder = FlightRecorder(runtime, contents=True)
    pid = spawn(trio.sleep_forever)
    recorder.tap().deliver(pid, pid, Push("echo", {"body": "shown", "password": "x1"}), 80)
    (sent,) = events(recorder, "sent")
    assert "shown" in sent["message"]
    assert "x1" not in sent["message"]


@pytest.mark.parametrize(("messages", "frames"), [(True, False), (False, True), (False, False)])
async def test_messages_and_frames_can_be_left_out(
    runtime: Runtime, messages: bool, frames: bool
) -> None:
    recorder = FlightRecorder(runtime, messages=messages, frames=frames)
    pid, tap = spawn(trio.sleep_forever), recorder.tap()
    tap.read(pid, b"data")
    tap.deliver(pid, pid, Push("echo"), 80)
    assert pid.process is not None
    assert len(pid.process.mailbox.queue) == 2
    assert len(events(recorder, "sent")) == messages
    assert len(events(recorder, "frame")) == frames


async def test_many_writes_are_few_records_and_one_event_each(runtime: Runtime, log: Log) -> None:
    recorder = FlightRecorder(runtime)
    supervisor = await Supervisor.start([worker("a", log)])
    writes = [number for pid in range(100, 110) for number in (pid, 300 + pid, 1 + pid % 2)]
    recorder.tap().wrote_all(writes)
    await crash(supervisor, "a")
    assert 4 <= recorder.statistics()["messages"] < 10
    found = events(recorder)
    for event in found:
        check(event)
    frames = [event for event in found if event["kind"] == "frame"]
    assert [(each["pid"], each["size"], each.get("frames", 1)) for each in frames] == [
        (pid, 300 + pid, 1 + pid % 2) for pid in range(100, 110)
    ]
    numbers = [event["n"] for event in found]
    assert numbers == sorted(set(numbers))
    # A capsule refers to its crash by the number of the crash event.
    (crashed,) = (record for record in recorder.snapshot().records if record[2] == "crash")
    lines = recorder.snapshot(crash=crashed[0]).lines()
    (event,) = (event for event in found if event["kind"] == "crash")
    assert msgspec.json.decode(lines[0])["crash"] == event["n"]


async def test_times_never_fall(runtime: Runtime) -> None:
    recorder = FlightRecorder(runtime)
    pid, tap = spawn(trio.sleep_forever), recorder.tap()
    for _ in range(20):
        tap.read(pid, b"data")
        send(pid, "hello")
        tap.deliver(pid, pid, Push("echo"), 80)
        tap.wrote_all([pid.number, 80, 1])
        recorder.note("event")
        tap.deliver(pid, pid, Push("echo"), 80)
    times = [event["t"] for event in events(recorder)]
    assert times == sorted(times)


async def test_a_tap_of_a_closed_recorder_only_sends(runtime: Runtime) -> None:
    recorder = FlightRecorder(runtime)
    pid, tap = spawn(trio.sleep_forever), recorder.tap()
    recorder.close()
    tap.read(pid, b"data")
    tap.deliver(pid, pid, Push("echo"), 80)
    tap.wrote_all([pid.number, 80, 1])
    assert pid.process is not None
    assert len(pid.process.mailbox.queue) == 2
    assert recorder.statistics()["messages"] == 0


def test_the_record_of_a_message_has_at_most_the_estimated_bytes() -> None:
    number, size = 10**9, 10**6
    writes = tuple(int(each) for _ in range(3) for each in (number, size, 2))
    for record in (
        (number, 1.5, "sent", 3, 4, "info", "echo", size, number, None),
        (number, 1.5, "delivered", 3, 4, "echo", size, number),
        (number, 1.5, "wrote", writes),
    ):
        # `getsizeof` must not count the kinds and the numbers of the processes, because all records share them.
        own = [each for each in record if type(each) in (int, float, tuple) and each not in (3, 4)]
        nested = [size] * 3 if writes in own else []
        held = sum(sys.getsizeof(each) for each in (record, *own, *nested))
        assert held <= MESSAGE_BYTES
