"""The events that instruments get, for observers, chaos and simulation."""

from typing import Any

import trio

from actors import (
    KILL,
    KILLED,
    SHUTDOWN,
    GenServer,
    Instrument,
    Pid,
    Reply,
    Runtime,
    Sender,
    call,
    cancel_timer,
    cast,
    kill,
    link,
    receive,
    send,
    send_after,
    send_every,
    spawn,
    spawn_link,
    unlink,
    wait_exit,
)
from tests.actors.helpers import idle, listen, settle


class Diary(Instrument):
    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        self.events.append(("spawned", pid.number, parent.number, label))

    def process_exited(self, pid: Pid, reason: object) -> None:
        self.events.append(("exited", pid.number, reason))

    def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> None:
        who = None if sender is None else sender.number
        self.events.append(("sent", who, receiver.number, repr(message)))

    def message_received(self, pid: Pid, message: Any) -> None:
        self.events.append(("received", pid.number, repr(message)))

    def signal_sent(self, sender: Pid, receiver: Pid, reason: object, linked: bool) -> None:
        self.events.append(("signal", sender.number, receiver.number, reason, linked))

    def take(self) -> list[tuple[Any, ...]]:
        events, self.events = self.events, []
        return events


class Echo(GenServer[None]):
    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        return Reply(request)

    async def handle_cast(self, message: Any) -> None:
        return None


async def test_spawns_messages_signals_and_ends_are_shown_in_order(runtime: Runtime) -> None:
    diary = Diary()
    runtime.add_instrument(diary)
    heard: list[Any] = []

    async def parent() -> None:
        child = spawn_link(idle)
        send(listener, "hello")
        kill(child)
        await receive()

    listener = spawn(listen, heard, label="listener")
    pid = spawn(parent, label="parent")
    assert await wait_exit(pid) is KILLED
    await settle()
    assert heard == ["hello"]
    events = diary.take()
    assert events[:2] == [("spawned", 1, 0, "listener"), ("spawned", 2, 0, "parent")]
    assert sorted(events[2:], key=repr) == sorted(
        [
            ("spawned", 3, 2, "idle"),
            ("sent", 2, 1, "'hello'"),
            ("received", 1, "'hello'"),
            ("signal", 2, 3, KILL, False),
            ("exited", 3, KILLED),
            ("signal", 3, 2, KILLED, True),
            ("exited", 2, KILLED),
        ],
        key=repr,
    )


async def test_calls_and_casts_are_messages(runtime: Runtime) -> None:
    pid = await Echo.start()
    diary = Diary()
    runtime.add_instrument(diary)
    assert await call(pid, "question") == "question"
    cast(pid, "order")
    await settle()
    assert diary.take() == [
        ("sent", None, 1, "call 'question' from None"),
        ("received", 1, "call 'question' from None"),
        ("sent", None, 1, "cast 'order'"),
        ("received", 1, "cast 'order'"),
    ]


async def test_a_message_that_an_instrument_refuses_does_not_arrive(runtime: Runtime) -> None:
    class Refuses(Instrument):
        def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> bool:
            return bool(message != "lost")

    heard: list[Any] = []
    pid = spawn(listen, heard)
    diary = Diary()
    remove = runtime.add_instrument(Refuses())
    runtime.add_instrument(diary)
    send(pid, "lost")
    send(pid, "found")
    await settle()
    assert heard == ["found"]
    # The other instruments still see it.
    assert [event[3] for event in diary.take() if event[0] == "sent"] == ["'lost'", "'found'"]
    remove()
    remove()
    send(pid, "lost")
    await settle()
    assert heard == ["found", "lost"]


async def test_an_instrument_that_was_removed_sees_nothing_more(runtime: Runtime) -> None:
    diary = Diary()
    runtime.add_instrument(diary)()
    kill(spawn(idle))
    await settle()
    assert diary.take() == []
    assert not runtime.guarded


async def test_every_method_of_the_base_class_does_nothing(runtime: Runtime) -> None:
    runtime.add_instrument(Instrument())
    pid = await Echo.start()
    assert await call(pid, 1) == 1
    runtime.signal(runtime.pid, pid, SHUTDOWN, linked=False)
    await settle()
    assert runtime.processes() == []


async def test_links_timers_and_answers_are_shown(runtime: Runtime) -> None:
    seen: list[str] = []

    class Sees(Instrument):
        def linked(self, pid: Pid, other: Pid) -> None:
            seen.append(f"{pid.number} and {other.number} linked")

        def unlinked(self, pid: Pid, other: Pid, flushed: bool) -> None:
            seen.append(f"{pid.number} and {other.number} unlinked {flushed}")

        def call_answered(self, call: object, value: Any) -> None:
            seen.append(f"answer {value}")

        def timer_started(self, timer: object, address: object, interval: float | None) -> None:
            seen.append(f"timer for {address} every {interval}")

        def timer_fired(self, timer: object) -> None:
            seen.append("timer fired")

        def timer_cancelled(self, timer: object) -> None:
            seen.append("timer cancelled")

    async def all_verbs() -> None:
        child = spawn_link(trio.sleep_forever)
        unlink(child, flush=True)
        link(child)
        await call(echo, 3)
        cancel_timer(send_every(child, "tick", 9))
        send_after(child, "tick", 0)
        await settle()

    runtime.add_instrument(Sees())
    echo = await Echo.start()
    await wait_exit(spawn(all_verbs))
    assert seen == [
        "3 and 2 linked",
        "2 and 3 unlinked True",
        "2 and 3 linked",
        "answer 3",
        "timer for <pid 3> every 9",
        "timer cancelled",
        "timer for <pid 3> every None",
        "timer fired",
    ]
