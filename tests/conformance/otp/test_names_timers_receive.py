"""Names, selective receive, timers and reply addresses: cases 21 to 26."""

from typing import Any

import pytest
import trio

from actors import (
    Continue,
    DeadProcess,
    GenServer,
    NameTaken,
    NoReply,
    NoSuchName,
    Sender,
    call,
    cancel_timer,
    current_pid,
    current_runtime,
    kill,
    receive,
    register,
    reply,
    send,
    send_after,
    spawn,
    spawn_monitor,
    whereis,
)
from tests.actors.helpers import (
    dead_process,
    down,
    idle,
    in_process,
    listen,
    nothing_arrives,
    settle,
)


@in_process()
async def test_21_a_taken_name_and_a_dead_process_are_refused_and_change_nothing() -> None:
    holder, ref = spawn_monitor(idle, name="name")
    other = spawn(idle, name="other")
    with pytest.raises(NameTaken) as caught:
        register("name")
    assert caught.value.pid is holder
    # A process has only one name.
    with pytest.raises(NameTaken):
        register("second name", other)
    with pytest.raises(DeadProcess):
        register("free", await dead_process())
    assert whereis("name") is holder
    assert whereis("second name") is None
    assert whereis("free") is None
    kill(holder)
    await down(ref)
    register("name")
    assert whereis("name") is current_pid()


@in_process()
async def test_22_a_send_to_an_unknown_name_raises_and_to_a_dead_pid_does_not() -> None:
    with pytest.raises(NoSuchName):
        send("nobody", "hello")
    send(await dead_process(), "hello")
    assert current_runtime().statistics()["dead_letters"] == 1


@in_process()
async def test_23_receive_selects_and_keeps_the_other_messages_in_order() -> None:
    for message in "abca":
        send(current_pid(), message)
    assert await receive(lambda message: message == "b", timeout=0) == "b"
    with pytest.raises(trio.TooSlowError):
        await receive(lambda message: message == "d", timeout=0)
    assert [await receive(timeout=0) for _ in range(3)] == ["a", "c", "a"]


@in_process()
async def test_24_cancel_timer_returns_the_time_left_or_none() -> None:
    timer = send_after(current_pid(), "tick", 1)
    await trio.sleep(0.25)
    assert cancel_timer(timer) == pytest.approx(0.75)
    assert cancel_timer(timer) is None
    await nothing_arrives(5)
    timer = send_after(current_pid(), "tick", 1)
    await trio.sleep(1.5)
    assert cancel_timer(timer) is None
    assert await receive(timeout=0) == "tick"


@in_process()
async def test_25_a_timer_looks_its_name_up_when_it_fires_and_ends_with_its_process() -> None:
    heard: list[Any] = []
    send_after("late", "tick", 1)
    send_after("nobody", "tick", 1)
    await trio.sleep(0.5)
    spawn(listen, heard, name="late")
    await trio.sleep(1)
    assert heard == ["tick"]
    victim, ref = spawn_monitor(idle)
    send_after(victim, "tick", 1)
    assert current_runtime().statistics()["timers"] == 1
    kill(victim)
    await down(ref)
    assert current_runtime().statistics()["timers"] == 0
    assert current_runtime().statistics()["dead_letters"] == 0
    await trio.sleep(2)
    assert current_runtime().statistics()["dead_letters"] == 0


@in_process()
async def test_26_a_reply_alias_accepts_one_message() -> None:
    took: list[bool] = []

    class Twice(GenServer[Sender]):
        async def handle_call(self, request: Any, sender: Sender) -> NoReply:
            self.state = sender
            return NoReply(then=Continue())

        async def handle_continue(self, argument: Any) -> None:
            took.append(reply(self.state, "first"))
            took.append(reply(self.state, "second"))

    assert await call(await Twice.start_link(), "?") == "first"
    await settle()
    assert took == [True, False]
    await nothing_arrives(1)
